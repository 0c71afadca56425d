"""What the background services cost: start, memory, idle processor time, and the list of schedules (docs/services.md).

    python -m benchmarks.services [repetitions=5] [schedules=10] [idle=60]

In a fresh copy of the repository with a small world and servers on free ports. `make up` counts until every service is well,
which is when it returns: the first start, which makes the databases, and so many later ones. `make schedule` lists so many
schedules. Memory is the sum of the resident memory of all their processes, which counts shared pages once a process. Idle is
the processor time of all of them, in % of one core, in so many seconds in which nobody asks anything, beginning a minute after
the start; below it stands the share of each service. The rows of several times are medians with the lowest and the highest.
"""

import os
import sys
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.kills import SERVICES, House
from benchmarks.pipeline import fresh_copy
from tasks.services.notes import note_of
from tasks.workspace.paths import Paths

SETTLED = 60.0
"""Seconds after a start until services are idle."""


def main(words: Sequence[str]) -> int:
    given = dict(word.partition("=")[::2] for word in words)
    repetitions, schedules = int(given.get("repetitions", "5")), int(given.get("schedules", "10"))
    seconds = float(given.get("idle", "60"))
    with TemporaryDirectory() as folder:
        house = House(fresh_copy(Path(folder) / "house"))
        try:
            house.must("data")
            first = house.must("up")
            up = [_restarted(house) for _ in range(repetitions)]
            for number in range(schedules):
                house.must("schedule", "METHOD=sft", f"CRON={number} 3 * * *", f"NAME=nightly-{number}", "TZ=Europe/Berlin")
            listed = [house.must("schedule") for _ in range(repetitions)]
            time.sleep(SETTLED)
            memory = sum(process.memory_info().rss for process in chain(*processes(house).values())) / 2**20
            idle = _idle(house, seconds)
        finally:
            house.verb("down")
    table = Table("", "median", "lowest", "highest", title="background services")
    for name, times in (("first make up, s", [first]), ("make up, s", up), (f"make schedule, {schedules} schedules, s", listed)):
        table.add_row(name, *(f"{value:.1f}" for value in (median(times), min(times), max(times))))
    table.add_row("memory of all, MB", f"{memory:.0f}", "", "")
    table.add_row(f"idle for {seconds:.0f} s, % of a core", f"{sum(idle.values()):.2f}", "", "")
    for service, share in idle.items():
        table.add_row(f"  of which {service}", f"{share:.2f}", "", "")
    Console(width=100).print(table)
    return 0


def _restarted(house: House) -> float:
    """Return the seconds of a start of all services."""
    house.must("down")
    return house.must("up")


def processes(house: House) -> dict[str, list[psutil.Process]]:
    """Return each service's processes, children too."""
    notes = {name: note_of(Paths(house.root), name) for name in SERVICES}
    leaders = {name: psutil.Process(note.process.pid) for name, note in notes.items() if note}
    return {name: [leader, *leader.children(recursive=True)] for name, leader in leaders.items()}


def _idle(house: House, seconds: float) -> dict[str, float]:
    """Return each service's processor time in % of one core."""

    def used() -> dict[str, float]:
        return {name: sum(sum(one.cpu_times()[:2]) for one in family) for name, family in processes(house).items()}

    before, began = used(), time.perf_counter()
    time.sleep(seconds)
    past = time.perf_counter() - began
    return {name: (after - before.get(name, 0.0)) / past * 100 for name, after in used().items()}


if __name__ == "__main__":
    os.environ.setdefault("DO_NOT_TRACK", "true")
    sys.exit(main(sys.argv[1:]))
