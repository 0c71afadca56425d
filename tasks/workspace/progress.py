"""What a user sees on stderr of work under way: a line a stage, and a bar where someone is looking."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@dataclass
class StageLine:
    """One line of a stage: `3/9 sft: imitating 64 demonstrations … 2 s`, begun and ended when the stage is.

    Where someone is looking, a bar moves below it, so it is two lines there: `stage 3 of 9, sft: imitating 64 demonstrations,
    about 2 s`, then `stage 3 of 9, sft: done in 2 s`. A line without a name is silent.

    Attributes:
        name: of the stage.
        doing: what it does.
        number: of the stage in its pipeline, from 1.
        total: stages of the pipeline.
    """

    name: str = ""
    doing: str = ""
    number: int = 0
    total: int = 0
    _started: float | None = None
    _is_open: bool = False

    @property
    def _head(self) -> str:
        where = f"stage {self.number} of {self.total}," if _is_watched() else f"{self.number}/{self.total}"
        return f"{where} {self.name}"

    def begin(self, *, about: float | None) -> None:
        """Tell that the stage begins.

        Args:
            about: seconds that it took before; None where it has not run yet.
        """
        self._started = time.monotonic()
        what = f"{self._head}: {self.doing}" if self.doing else self._head
        if _is_watched():
            _write(f"{what}{'' if about is None else f', about {duration(max(about, 1.0))}'}\n")
        else:
            self._is_open = True
            _write(f"{what} …")

    def pause(self) -> None:
        """End the line early, because another one is to be printed; its end then stands on one of its own."""
        if self._is_open:
            self._is_open = False
            _write("\n")

    def end(self, how: str = "") -> None:
        """Tell that the stage has ended.

        Args:
            how: "reused", "stopped"; "" where it did what it was to do.
        """
        took = "" if self._started is None else duration(time.monotonic() - self._started)
        told = " after ".join(part for part in (how, took) if part)
        if self._is_open:
            _write(f" {told}\n")
        elif self.name:
            _write(f"{self._head}: {told if how else f'done in {took}'}\n")
        self._is_open = False


def duration(seconds: float) -> str:
    """Return a time as people say it: "under 1 s", "12 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 1:
        return "under 1 s"
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _is_watched() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _write(text: str) -> None:
    if sys.stderr is not None:  # as it is where a process is started with it closed
        sys.stderr.write(text)
        sys.stderr.flush()


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Yield `advance(steps, note)`; the bar goes when it is done."""
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not Console(stderr=True).is_terminal
    ) as progress:
        task = progress.add_task(title, total=total, note="")

        def advance(steps: int, note: str = "") -> None:
            if note:
                progress.update(task, note=note)
            progress.update(task, advance=steps)

        yield advance
