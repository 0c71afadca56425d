"""A job of a comparison: one pipeline of one method on one seed, what is asked of it, and what came of it.

Budgets and tuning make jobs of their own (pilots, trials) and hand them to the same `RunJob`; whatever runs them, they are
processes `python -m flows pipeline …`, whose finished stages are kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Purpose = Literal["report", "level", "trial", "pilot"]
UNREGISTERED = "tracking.register_model=false"
"""What keeps any but a reported run from becoming challenger: its model is no candidate."""


@dataclass(frozen=True)
class Job:
    """One pipeline.

    Attributes:
        method: of the table of methods.
        seed: of everything that training and sampling draw.
        overrides: settings of this job, "dpo.beta=0.2": those of the whole comparison first, its own behind them.
        purpose: `report`: its result is what is compared. A `level` is the same at a smaller budget, for the curve. Neither that
            nor a `trial` of a setting nor a `pilot` of a budget is compared, and none of them registers anything.
        part: which of its purpose: number of a trial, amount of a level; "" for none.
    """

    method: str
    seed: int
    overrides: tuple[str, ...] = ()
    purpose: Purpose = "report"
    part: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """Return the words behind `python -m flows pipeline`."""
        kept = () if self.purpose == "report" else (UNREGISTERED,)
        return (f"method={self.method}", *self.overrides, *kept, f"seed={self.seed}")

    @property
    def title(self) -> str:
        """Return what people call it: "dpo seed 1", "dpo seed 1, trial 3"."""
        what = "" if self.purpose == "report" else f", {self.purpose} {self.part}".rstrip()
        return f"{self.method} seed {self.seed}{what}"

    @property
    def mark(self) -> str:
        """Return what its run in MLflow is tagged with, so that no view takes it for a result: number of a trial, or "pilot"."""
        return "" if self.purpose == "report" else self.part or self.purpose if self.purpose == "trial" else self.purpose


@dataclass(frozen=True)
class Finished:
    """What came of a job.

    Attributes:
        job: which one.
        report: of its pipeline, as `reports/<pipeline_id>.json` has it; None where it failed.
        error: the last sentence that it said where it failed; "" where it did not.
        code: its exit code.
        seconds: wall time that it took now; 0 where a finished report was taken.
        is_cached: nothing was started: every stage and the report were there.
        kind: of the error, by the class in posttrain/errors.py; "" for one that we did not expect.
    """

    job: Job
    report: Mapping[str, Any] | None
    error: str = ""
    code: int = 0
    seconds: float = 0.0
    is_cached: bool = False
    kind: str = ""


RunJob = Callable[[Job], Finished]
"""Runs a job to its end and returns what came of it; a job that fails is told in what it returns, and never raises."""
