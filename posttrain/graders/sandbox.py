"""Untrusted Python, run by pydantic-monty: an interpreter of its own in worker processes, without files, network or clock."""

import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

LONGEST_SOURCE = 20_000
"""Characters of a completion's program; a longer one is not run."""
MOST_PARTS = 1_000
"""Numbers, texts and containers in a value that leaves the sandbox; one that is referred to twice counts twice, as it is copied
twice."""
MOST_CHARACTERS = 10_000
"""Of all texts in such a value."""
DEEPEST = 8
"""Containers within one another in such a value."""
MOST_DIGITS = 400
"""Of a whole number in such a value, as in an answer that is read from text."""
GRACE = 1.0
"""Seconds after which a worker is ended that did not hear its own limit, in the middle of one long step."""
_TROUBLE = 2_000
"""Characters of an error that are looked at; a program may raise megabytes."""
_ON_A_LIMIT = (TimeoutError, MemoryError, RecursionError)


class Limits(BaseModel):
    """How much one program may use before it is stopped."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    seconds: float = Field(default=1.0, gt=0, le=120)
    memory_mb: int = Field(default=64, ge=1, le=2048)
    output_characters: int = Field(default=10_000, ge=1)
    recursion: int = Field(default=300, ge=1, le=1000)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running a program came to.

    Attributes:
        value: what it gave: None, a number, text, or a container of those within the limits above; None where it failed.
        trouble: why it failed, as "TypeError: …"; "" where it did not.
        kind: `done`, `error` (the program's own), or `limit` (time, memory, recursion, output).
    """

    value: Any
    trouble: str = ""
    kind: Literal["done", "error", "limit"] = "done"


class Sandbox:
    """A pool of interpreters, started with the first program and ended with this object.

    Every program gets a fresh session, so none sees another's names. Sleeping costs nothing, random numbers start from one
    seed, and asking for the time is an error: equal programs have equal outcomes.
    """

    def __init__(self, limits: Limits, *, workers: int = 2) -> None:
        self._limits = limits
        self._workers = workers
        self._pool: Any = None

    def run(self, jobs: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[Outcome]:
        """Run programs, each with an expression to evaluate after it and its input variables; return the expressions' values.

        A value is measured where it was made, and only one within `MOST_PARTS`, `MOST_CHARACTERS`, `DEEPEST` and `MOST_DIGITS`
        leaves the worker: a few shared references would unfold into more than the host can hold.

        Raises:
            RequestError: an input variable is of a type that has no counterpart inside.
            OSError: the interpreter is not installed.
        """
        if self._pool is None:
            self._start()
        if self._workers == 1 or len(jobs) < 2:
            return [self._one(job) for job in jobs]
        with ThreadPoolExecutor(self._workers) as threads:
            return list(threads.map(self._one, jobs))

    def _start(self) -> None:
        from pydantic_monty import Monty

        pool = Monty(max_processes=self._workers, request_timeout=self._limits.seconds + GRACE)
        pool.__enter__()
        self._pool = pool
        weakref.finalize(self, pool.__exit__, None, None, None)

    def _one(self, job: tuple[str, str, Mapping[str, Any]]) -> Outcome:
        from pydantic_monty import CollectString, MontyCrashedError, MontyError

        program, expression, inputs = job
        source = _measured(program, expression)
        printed = CollectString(self._limits.output_characters)
        try:
            with self._pool.checkout(limits=self._within(), os_policy=_REPEATABLE) as session:
                trouble, value = session.feed_run(source, inputs=dict(inputs), print_callback=printed)
                return Outcome(None, f"its value {trouble}", "limit") if trouble else Outcome(value)
        except MontyCrashedError:
            return Outcome(None, "the interpreter had to be stopped", "limit")
        except MontyError as error:
            told = str(error)[:_TROUBLE]
            is_limit = isinstance(error.exception(), _ON_A_LIMIT) or "limit" in told
            return Outcome(None, " ".join(told.split())[:200], "limit" if is_limit else "error")
        except (ValueError, OverflowError) as error:  # an integer of more digits than Python turns into text
            return Outcome(None, f"{type(error).__name__}: {str(error)[:100]}", "limit")

    def _within(self) -> dict[str, Any]:
        return {
            "max_feed_duration_secs": self._limits.seconds,
            "max_memory": self._limits.memory_mb * 2**20,
            "max_recursion_depth": self._limits.recursion,
            "max_suspensions": 100,
        }


_MEASURE = f"""
from decimal import Decimal as MEASURE_decimal
def MEASURE(value, left=None, deep={DEEPEST}, kind=type, size=len, number=int, text=str, pairs=dict, exact=MEASURE_decimal,
            containers=(list, tuple, set, frozenset), plain=(bool, float, type(None)), most=10**{MOST_DIGITS}):
    if left is None:
        left = [{MOST_PARTS}, {MOST_CHARACTERS}]
    left[0] -= 1
    what = kind(value)
    if what is text or what is exact:
        left[1] -= size(text(value))
    if left[0] < 0:
        return 'has more than {MOST_PARTS:,} parts'
    if left[1] < 0:
        return 'has more than {MOST_CHARACTERS:,} characters'
    if what is number:
        return '' if -most < value < most else 'has a number of more than {MOST_DIGITS} digits'
    if what is text or what is exact or what in plain:
        return ''
    if what in containers or what is pairs:
        if deep == 0:
            return 'is nested deeper than {DEEPEST} containers'
        for part in value:
            if (trouble := MEASURE(part, left, deep - 1)) or (
                what is pairs and (trouble := MEASURE(value[part], left, deep - 1))
            ):
                return trouble
        return ''
    return 'is no number, text or container of those'
"""
"""Runs inside, before the program: its names are taken while they still mean what they should, and its own name is made
of the program's digest, so that a program can neither change nor replace it."""


def _measured(program: str, expression: str) -> str:
    """Return the source that runs a program and gives ("", value), or (what is wrong with the value, None)."""
    # no program can hold its own digest
    name = f"m{sha256(f'{program}/{expression}'.encode('utf-8', 'surrogatepass')).hexdigest()}"
    measure = _MEASURE.replace("MEASURE", name)
    return f"{measure}\n{program}\n{name}_value = {expression}\n{name}_trouble = {name}({name}_value)\n" + (
        f"({name}_trouble, None if {name}_trouble else {name}_value)"
    )


_REPEATABLE: Mapping[str, Any] = {"datetime": "call_host", "sleep": "zero", "random_start": {"seed": 0}}
