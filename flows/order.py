"""Which job of a comparison starts next: shared stages are made once, and nothing waits for what another job is making.

Two jobs that miss the same stage would both want to make it, and one would wait at its lock with a worker in its hands. So a job
starts when none of what it misses is on another running job's way. Where several may start, those that make what others wait for
come first, and the one of them with the least work of its own; then the longest one, since a long job that starts last makes
everybody wait (Graham 1969, longest processing time first, doi:10.1137/0117039).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from flows.jobs import Job


@dataclass
class Order:
    """Jobs that wait and run, and the stages that they miss.

    Attributes:
        waiting: keys of the stages that each waiting job misses.
        running: the same of those under way; a stage that is made is taken out.
        made: keys of the stages that are there.
    """

    waiting: dict[Job, tuple[str, ...]] = field(default_factory=dict)
    running: dict[Job, tuple[str, ...]] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)

    def add(self, job: Job, missing: Collection[str]) -> None:
        """Let a job wait."""
        self.waiting[job] = tuple(missing)

    def next(self, *, seconds: Mapping[str, float]) -> Job | None:
        """Return the job that starts now, None where none may.

        Args:
            seconds: what a stage takes, by key, where that is known; any other counts as one.
        """
        claimed = {key for missing in self.running.values() for key in missing}
        missing = {job: [key for key in keys if key not in self.made] for job, keys in self.waiting.items()}
        free = [job for job, keys in missing.items() if claimed.isdisjoint(keys)]
        wanted: dict[str, int] = {}
        for keys in missing.values():
            for key in keys:
                wanted[key] = wanted.get(key, 0) + 1

        def urgency(job: Job) -> tuple[bool, float]:
            is_awaited = any(wanted[key] > 1 for key in missing[job])
            own = sum(seconds.get(key, 1.0) for key in missing[job] if wanted[key] == 1)
            return is_awaited, -own if is_awaited else own

        return max(free, key=urgency, default=None)  # of equals the one that was asked for first

    def start(self, job: Job) -> None:
        """Note that a waiting job runs."""
        self.running[job] = tuple(key for key in self.waiting.pop(job) if key not in self.made)

    def progress(self, job: Job, made: Collection[str]) -> None:
        """Note that a running job has come past some of its stages."""
        self.made |= set(made)
        self.running[job] = tuple(key for key in self.running[job] if key not in self.made)

    def end(self, job: Job, *, is_whole: bool) -> None:
        """Note that a running job has ended; a whole one has made all that it missed."""
        missing = self.running.pop(job)
        if is_whole:
            self.made |= set(missing)
