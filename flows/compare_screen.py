"""What a comparison shows while it runs: a table that moves where someone is looking, a line a job elsewhere."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flows.jobs import Finished, Job
from posttrain.printable import printable
from tasks.workspace.progress import duration

LONGEST_TABLE = 30
"""Lines of the table, at most: one that is higher than its terminal flickers."""


@dataclass(frozen=True)
class Line:
    """A job that is not done.

    Attributes:
        job: which one.
        state: whether it has begun.
        stage: that it is at, "3/9 sft".
        seconds: since it began.
    """

    job: Job
    state: Literal["running", "waiting"]
    stage: str
    seconds: float


class Screen:
    """Standard error, as a comparison writes on it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Take what prints a line."""
        self._say = say
        self._done: list[Finished] = []
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Begin the table, where someone is looking."""
        if sys.stderr is not None and sys.stderr.isatty():
            self._live = Live(console=Console(stderr=True), refresh_per_second=4, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Take the table away."""
        if self._live:
            self._live.__exit__(kind, error, traceback)
            self._live = None

    def say(self, line: str) -> None:
        """Print a line that stays, above the table."""
        if self._live:
            self._live.console.print(Text(printable(line)), soft_wrap=True)
        else:
            self._say(line)

    def ended(self, finished: Finished, *, done: int, total: int, left: Callable[[], float | None]) -> None:
        """Tell what came of a job."""
        self._done.append(finished)
        if finished.report is None:
            # a pilot is short, and one that learns too little to show is followed by a longer one
            how = f"{'measured nothing' if finished.job.purpose == 'pilot' else 'failed'}: {finished.error}"
        elif finished.is_cached:
            how = "finished before, its report is taken"
        else:
            how = f"done in {duration(finished.seconds)}"
        remaining = left() if done < total else None
        about = "" if remaining is None or finished.is_cached else f", about {duration(remaining)} left"
        self.say(f"{done}/{total} {finished.job.title}: {how}{about}")

    def show(self, lines: Sequence[Line], *, left: Callable[[], float | None]) -> None:
        """Draw the table anew; nothing where nobody is looking."""
        if self._live:
            self._live.update(_table(lines, done=len(self._done), left=left()))


def _table(lines: Sequence[Line], *, done: int, left: float | None) -> Table:
    about = "" if left is None else f", about {duration(left)} left"
    table = Table(box=None, padding=(0, 2, 0, 0), title=f"{done} of {done + len(lines)} done{about}", title_justify="left")
    for name, side in (("job", "left"), ("", "left"), ("stage", "left"), ("time", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for line in lines[:LONGEST_TABLE]:
        is_running = line.state == "running"
        time = duration(line.seconds) if is_running else ""
        table.add_row(line.job.title, line.state, line.stage if is_running else "", time, style="" if is_running else "dim")
    if len(lines) > LONGEST_TABLE:
        table.add_row(f"and {len(lines) - LONGEST_TABLE} more", "", "", "")
    return table
