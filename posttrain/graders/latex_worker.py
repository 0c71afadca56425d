"""The other side of `posttrain.graders.latex`: a process that answers one question a line until its input ends."""

import json
import logging
import resource
import sys
from typing import Any

MEMORY = 50_000_000
"""Bytes that a question may take beyond what sympy itself holds (Linux; elsewhere only the address space can be limited)."""
ADDRESS_SPACE = 2 * 2**30


def serve() -> None:
    """Read `["answer", "given"]` a line, write "equal" or "different"."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    logging.disable()
    are_equal("x+1", "1+x")  # builds the parser, which takes longer than most questions
    if sys.platform == "linux":
        limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
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
        is_equal = gold and target and verify(gold, target, float_rounding=12, timeout_seconds=None)
        return bool(is_equal) and not _differ_as_numbers(gold, target)
    except MemoryError:
        raise SystemExit(1) from None  # the caller sees that this process has ended, and starts another
    except (Exception, RecursionError):  # sympy raises whatever it likes; the caller only asks whether they are equal
        return False


def _differ_as_numbers(gold: list[Any], target: list[Any]) -> bool:
    """Return whether both are single numbers that differ by more than rounding; math-verify rounds at the twelfth decimal.

    Without it 2^-98 equals 2^-99, and every tiny number any other.
    """
    numbers = [parsed[0] for parsed in (gold, target)]
    if not all(getattr(number, "is_number", False) and number.is_finite for number in numbers):
        return False
    left, right = (number.evalf(25) for number in numbers)
    return bool(abs(left - right) > 1e-12 * max(abs(left), abs(right)))


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()
