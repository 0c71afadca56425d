"""The other side of `posttrain.graders.latex`: a process that answers one question a line until its input ends."""

import json
import logging
import resource
import sys

MEMORY = 2 * 2**30
"""Bytes of address space; sympy itself takes a tenth."""


def serve() -> None:
    """Read `["answer", "given"]` a line, write "equal" or "different"."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable()
    are_equal("x+1", "1+x")  # builds the parser, which takes longer than most questions
    _say("ready")
    for line in sys.stdin:
        answer, given = json.loads(line)
        _say("equal" if are_equal(answer, given) else "different")


def are_equal(answer: str, given: str) -> bool:
    """Return whether math-verify reads both and finds them equal; what it cannot read is equal to nothing."""
    from math_verify import LatexExtractionConfig, parse, verify

    forms = (LatexExtractionConfig(),)  # its form for plain expressions goes through sympy's parser, which calls eval
    try:
        gold, target = (parse(f"${text.strip().strip('$')}$", forms, parsing_timeout=None) for text in (answer, given))
        return bool(gold and target and verify(gold, target, float_rounding=12, timeout_seconds=None))
    except (Exception, RecursionError):  # sympy raises whatever it likes; the caller only asks whether they are equal
        return False


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()
