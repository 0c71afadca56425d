"""Untrusted Python, run by pydantic-monty: an interpreter of its own in worker processes, without files, network or clock."""

import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

LONGEST_SOURCE = 20_000
"""Characters of a completion's program; a longer one is not run."""
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
        value: what its last expression gave; None where it failed.
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

    def run(self, jobs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Outcome]:
        """Run programs, each with its input variables; return the value of each one's last expression.

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

        pool = Monty(max_processes=self._workers, request_timeout=self._limits.seconds + 5)
        pool.__enter__()
        self._pool = pool
        weakref.finalize(self, pool.__exit__, None, None, None)

    def _one(self, job: tuple[str, Mapping[str, Any]]) -> Outcome:
        from pydantic_monty import CollectString, MontyCrashedError, MontyError

        source, inputs = job
        printed = CollectString(self._limits.output_characters)
        try:
            with self._pool.checkout(limits=self._within(), os_policy=_REPEATABLE) as session:
                return Outcome(session.feed_run(source, inputs=dict(inputs), print_callback=printed))
        except MontyCrashedError:
            return Outcome(None, "the interpreter had to be stopped", "limit")
        except MontyError as error:
            is_limit = isinstance(error.exception(), _ON_A_LIMIT) or "limit" in str(error)
            return Outcome(None, " ".join(str(error).split())[:200], "limit" if is_limit else "error")
        except (ValueError, OverflowError) as error:  # an integer of more digits than Python turns into text
            return Outcome(None, f"{type(error).__name__}: {str(error)[:100]}", "limit")

    def _within(self) -> dict[str, Any]:
        return {
            "max_feed_duration_secs": self._limits.seconds,
            "max_memory": self._limits.memory_mb * 2**20,
            "max_recursion_depth": self._limits.recursion,
            "max_suspensions": 100,
        }


_REPEATABLE: Mapping[str, Any] = {"datetime": "call_host", "sleep": "zero", "random_start": {"seed": 0}}
