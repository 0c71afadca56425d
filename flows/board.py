"""The jobs of a comparison under way: who waits, who runs and where it is, what came of each."""

import json
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flows.compare_screen import Line, Screen
from flows.estimate import Earlier
from flows.jobs import Finished, Job
from flows.order import Order
from flows.probe import Probed, ProbedStage, Prober
from flows.runners import ALIVE, LONGEST_END, Exchange, environment_of_a_job, result_of, run_process
from posttrain.errors import PosttrainError, StorageError
from posttrain.settings.config import Config
from tasks.workspace.paths import Paths

STAGE_LINE = re.compile(r"^(\d+)/(\d+) ([\w-]+)(.*)$", re.MULTILINE)
"""A stage in a job's log (tasks/workspace/progress.py): `3/9 sft: imitating 64 demonstrations … 2 s`."""
MADE = re.compile(r"… (?!stopped)\S|: (reused|done in)")
"""In the rest of such a line, once the stage is made."""
LOOK = 0.2
"""Seconds between two looks at the jobs."""
ASK = 5.0
"""Seconds between two questions to Prefect about a task that has left no exit code: its worker may have died."""
SIGN = 5.0
"""Seconds between two signs of life."""


@dataclass
class Entry:
    """A job on the board.

    Attributes:
        job: which one.
        future: takes what comes of it.
        probed: its stages.
        number: of the job, in the order of asking.
        exchange: its files, once it runs.
        task: its Prefect future, once it runs.
        started: when it did.
        passed: stages that it has come past.
        at: number and name of the stage that it is at.
        stage_since: when it came there.
    """

    job: Job
    future: Future[Finished]
    probed: Probed
    number: int
    exchange: Exchange | None = None
    task: Any = None
    started: float = 0.0
    passed: int = 0
    at: tuple[int, int, str] = (0, 0, "")
    stage_since: float = 0.0
    asked: float = field(default=0.0)


class Board:
    """Takes jobs from anywhere, starts them in a good order, `workers` at a time, and says what came of each.

    `work` runs in the flow's own thread, since only there Prefect takes tasks; `run_job` may be called from any other.
    """

    def __init__(
        self,
        *,
        paths: Paths,
        folder: Path,
        prober: Prober,
        configuration: Callable[[Sequence[str]], Config],
        taken: Callable[[Job, Probed], Mapping[str, Any] | None],
        workers: int,
        is_far: bool,
        screen: Screen,
    ) -> None:
        """Take what jobs need.

        Args:
            paths: of the repository.
            folder: of the jobs' logs and results; made here.
            prober: of their stages.
            configuration: turns a job's words into settings.
            taken: the finished report of a job all of whose stages are there; None where there is none.
            workers: jobs at a time.
            is_far: they run on a cluster's workers.
            screen: shows them.
        """
        self.paths, self.folder, self.workers, self.is_far, self.screen = paths, folder, workers, is_far, screen
        self._prober, self._configuration, self._taken = prober, configuration, taken
        self._inbox: queue.SimpleQueue[tuple[Job, Future[Finished]]] = queue.SimpleQueue()
        self._order = Order()
        self._entries: dict[Job, Entry] = {}
        self._earlier = Earlier(paths)
        self._overheads: list[float] = []
        self._signed = 0.0
        self.finished: list[Finished] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ALIVE).touch()

    def submit(self, job: Job) -> Future[Finished]:
        """Let a job wait; the future gets what comes of it."""
        future: Future[Finished] = Future()
        self._inbox.put((job, future))
        return future

    def run_job(self, job: Job) -> Finished:
        """Run a job to its end, whatever that is: `flows.jobs.RunJob`. Not in the thread that works."""
        return self.submit(job).result()

    def work(self, producers: Iterable[Callable[[], None]] = ()) -> None:
        """Run what is submitted, and what the producers submit, each in a thread of its own, until all is done.

        Raises:
            BaseException: what a producer raised, or an interruption, once no job runs any more.
        """
        raised: list[BaseException] = []
        threads = [threading.Thread(target=_run, args=(produce, raised), daemon=True) for produce in producers]
        for thread in threads:
            thread.start()
        try:
            while not raised:
                is_produced = not any(thread.is_alive() for thread in threads)
                self._turn()
                if is_produced and self._inbox.empty() and not self._order.waiting and not self._order.running:
                    break
                time.sleep(LOOK)
        finally:
            self._stop()
        if raised:
            raise raised[0]

    # --- a turn -------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._take(*self._inbox.get_nowait())
        for job in list(self._order.running):
            self._look_at(self._entries[job])
        while len(self._order.running) < self.workers:
            missing = [stage for job in self._order.waiting for stage in self._entries[job].probed.missing]
            chosen = self._order.next(seconds=self._earlier.seconds(missing))
            if chosen is None:
                break
            self._start(self._entries[chosen])
        if self.is_far and time.monotonic() - self._signed > SIGN:
            self._signed = time.monotonic()
            (self.folder / ALIVE).touch()
        self.screen.show(self._lines(), left=self._left)

    def _take(self, job: Job, future: "Future[Finished]") -> None:
        """Put a job on the board; one that is done already, or that cannot run, is answered at once."""
        try:
            probed = self._prober.probe(self._configuration(job.words))
        except PosttrainError as error:
            self._answer(future, Finished(job, None, error=str(error), code=error.exit_code, kind=type(error).__name__))
            return
        report = self._taken(job, probed) if probed.is_cached else None
        if report is not None:
            self._answer(future, Finished(job=job, report=report, is_cached=True))
            return
        self._entries[job] = Entry(job=job, future=future, probed=probed, number=len(self._entries) + 1)
        self._order.add(job, [stage.key for stage in probed.missing])

    def _start(self, entry: Entry) -> None:
        job = entry.job
        name = f"{entry.number:03}-{job.method}-seed-{job.seed}"
        entry.exchange = Exchange(folder=str(self.folder.resolve()), name=name, is_far=self.is_far)
        entry.started = entry.asked = entry.stage_since = time.monotonic()
        entry.task = run_process.submit(
            title=job.title,
            words=job.words,
            root=str(self.paths.root.resolve()),
            exchange=entry.exchange,
            environment=environment_of_a_job(comparison_id=self.folder.name, mark=job.mark),
        )
        self._order.start(job)

    def _look_at(self, entry: Entry) -> None:
        """See how far a running job is, and whether it has ended."""
        assert entry.exchange is not None
        if entry.exchange.end.exists() and entry.exchange.end.stat().st_size:
            self._end(entry, result_of(entry.exchange))
            return
        if time.monotonic() - entry.asked > ASK:
            entry.asked = time.monotonic()
            entry.task.wait(timeout=0)
            if entry.task.state.is_final() and not entry.exchange.end.exists():
                message = entry.task.state.message or "its worker died"
                self._end(entry, {"code": -1, "error": f"{message}. Its log: {entry.exchange.log}"})
                return
        self._follow(entry)

    def _follow(self, entry: Entry) -> None:
        """Read in a job's log which stage it is at; stages that it is past may be used by others."""
        assert entry.exchange is not None
        try:
            told = STAGE_LINE.findall(entry.exchange.log.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return
        if not told:
            return
        number, total, name, rest = told[-1]
        at = (int(number), int(total), name)
        if at != entry.at:
            entry.at, entry.stage_since = at, time.monotonic()
        passed = int(number) if MADE.search(rest) else int(number) - 1
        if passed > entry.passed:
            self._order.progress(entry.job, [stage.key for stage in entry.probed.stages[entry.passed : passed]])
            entry.passed = passed

    def _end(self, entry: Entry, told: Mapping[str, Any]) -> None:
        """Answer a job that has ended, and those that would fail of the same."""
        self._follow(entry)
        seconds = time.monotonic() - entry.started
        report = self._report(told["pipeline_id"]) if told["code"] == 0 else None
        self._order.end(entry.job, is_whole=report is not None)
        finished = Finished(job=entry.job, report=report, seconds=seconds)
        if report is None:
            error = str(told.get("error") or f"its report {told.get('pipeline_id')} is not in {self.paths.reports}")
            finished = replace(finished, error=error, code=int(told["code"]) or -1, kind=str(told.get("kind", "")))
        else:
            made = sum(stage["seconds"] for stage in report["stages"] if not stage["cached"])
            self._overheads.append(max(seconds - made, 0.0))
            self._earlier.refresh()
        self._answer(entry.future, finished)
        if finished.kind:
            self._fail_alike(entry, finished)

    def _fail_alike(self, entry: Entry, failed: Finished) -> None:
        """Fail the waiting jobs that need the stage which failed: it would fail again; a disk that is full fails them all."""
        number = entry.at[0]
        keys = {stage.key for stage in entry.probed.stages[max(number - 1, 0) : number]} - self._order.made
        for job, missing in list(self._order.waiting.items()):
            if failed.kind == StorageError.__name__ or not keys.isdisjoint(missing):
                del self._order.waiting[job]
                self._answer(self._entries[job].future, replace(failed, job=job, seconds=0.0))

    def _answer(self, future: "Future[Finished]", finished: Finished) -> None:
        self.finished.append(finished)
        self.screen.ended(finished, done=len(self.finished), total=self._total(), left=self._left)
        future.set_result(finished)

    def _report(self, pipeline_id: str) -> Mapping[str, Any] | None:
        with suppress(OSError, ValueError):
            report: dict[str, Any] = json.loads((self.paths.reports / f"{pipeline_id}.json").read_text(encoding="utf-8"))
            return report
        return None

    def _stop(self) -> None:
        """Tell jobs that still run to end, and wait for it."""
        (self.folder / ALIVE).unlink(missing_ok=True)
        running = [self._entries[job] for job in self._order.running]
        deadline = time.monotonic() + LONGEST_END + 5
        while time.monotonic() < deadline and not all(one.exchange and one.exchange.end.exists() for one in running):
            time.sleep(LOOK / 2)

    # --- what is shown ------------------------------------------------------------------------------------------------

    def _total(self) -> int:
        return len(self.finished) + len(self._order.waiting) + len(self._order.running) + self._inbox.qsize()

    def _lines(self) -> list[Line]:
        now = time.monotonic()
        lines = []
        for job in (*self._order.running, *self._order.waiting):
            entry = self._entries[job]
            is_running = job in self._order.running
            stage = f"{entry.at[0]}/{entry.at[1]} {entry.at[2]}" if entry.at[2] else ""
            lines.append(Line(job=job, state="running" if is_running else "waiting", stage=stage, seconds=now - entry.started))
        return lines

    def _left(self) -> float | None:
        """Return about how many seconds are left; None where a stage to come is new, or a job has not been looked at."""
        if not self._inbox.empty():
            return None
        stages: dict[str, ProbedStage] = {}
        for job in (*self._order.waiting, *self._order.running):
            missing = self._order.waiting.get(job) or self._order.running.get(job, ())
            stages |= {one.key: one for one in self._entries[job].probed.missing if one.key in set(missing) - self._order.made}
        seconds = self._earlier.seconds(stages.values())
        if len(seconds) < len(stages):
            return None
        overhead = sum(self._overheads) / len(self._overheads) if self._overheads else 0.0
        jobs = len(self._order.waiting) + len(self._order.running)
        return (sum(seconds.values()) + overhead * jobs) / min(self.workers, max(jobs, 1))


def _run(produce: Callable[[], None], raised: list[BaseException]) -> None:
    try:
        produce()
    except BaseException as error:
        raised.append(error)
