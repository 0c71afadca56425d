"""Mathematics written in LaTeX, compared by math-verify in a process that is killed where it takes too long.

sympy can compute for ever on ten characters (9^{9^{9}}), its parser recurses as deep as the text, and math-verify's own time
limit is a signal that no thread can receive. So the form is checked first, and the rest is done where it can be killed.
"""

import json
import re
import selectors
import subprocess
import sys
import threading
import weakref
from typing import Any

LONGEST = 400
DEEPEST = 12
START_SECONDS = 120.0
"""For importing sympy on a busy machine."""

_COMMAND = "import sys; sys.path.insert(0, sys.argv[1]); from posttrain.graders.latex_worker import serve; serve()"
_ROOT = __file__.rpartition("/posttrain/")[0]
_POWER = r"(?:\^|\*\*)"
_LONG_POWER = re.compile(
    rf"{_POWER}\s{{0,9}}+\{{?\s{{0,9}}+-?\d{{4}}|\d{{30}}|!\s{{0,9}}+!|(?<!\d)\d{{4,400}}+\s{{0,9}}+!"
    rf"|(?:{_POWER}(?:[^-+=,^*]|\*(?!\*)){{0,40}}+){{3}}"  # a tower, or a product, of three powers
)
_OPENS, _CLOSES = "{([", "})]"


def too_wild(text: str) -> str:
    """Return why a text is not even tried, or "": its length, its nesting, its powers."""
    if len(text) > LONGEST:
        return f"more than {LONGEST} characters are not read as mathematics"
    depth = deepest = 0
    for character in text:
        depth += (character in _OPENS) - (character in _CLOSES)
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        return f"nested deeper than {DEEPEST}"
    return "a power or number too large to compute" if _LONG_POWER.search(text) else ""


class LatexComparison:
    """Says whether two texts are the same mathematics; started with the first question, ended with this object."""

    def __init__(self, *, seconds: float = 2.0) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._finalizer: Any = None
        self._has_answered = False
        self._lock = threading.Lock()

    def __call__(self, answer: str, given: str) -> tuple[bool, str]:
        """Return whether they are equal, and "" or why that was not found out (which then counts as unequal).

        Raises:
            RuntimeError: math-verify cannot be started.
        """
        trouble = too_wild(given) or too_wild(answer)
        if trouble:
            return False, trouble
        with self._lock:
            has_answered = self._has_answered
            reply = self._asked(answer, given)
            if reply == "" and has_answered:  # what earlier questions left in its memory must not decide this one
                reply = self._asked(answer, given)
            if not reply:
                why = f"stopped after {self._seconds:g} s" if reply is None else "it used too much memory"
                return False, f"the mathematics could not be compared: {why}"
        return reply.strip() == "equal", ""

    def _asked(self, answer: str, given: str) -> str | None:
        """Return the reply of the process, "" where it ended over the question, None where it was stopped."""
        process = self._process if self._process and self._process.poll() is None else self._start()
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps([answer, given]) + "\n")
            process.stdin.flush()
            reply = _line(process, self._seconds)
        except BrokenPipeError:
            reply = ""
        self._has_answered = bool(reply)
        if not reply:
            self._finalizer()
        return reply

    def _start(self) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, _ROOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._finalizer = weakref.finalize(self, _end, process)
        if (_line(process, START_SECONDS) or "").strip() != "ready":
            self._finalizer()
            raise RuntimeError("math-verify could not be started for LaTeX answers; is the environment complete? make setup")
        self._process = process
        return process


def _line(process: "subprocess.Popen[str]", seconds: float) -> str | None:
    """Return the next line that a process writes, "" where it has ended, None where it took longer."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline() if selector.select(seconds) else None


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:  # what was not sent yet has no reader any more
                continue
