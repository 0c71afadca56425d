"""The labelling page under many annotators and kills: docs/labelling.md.

    python -m benchmarks.labelling [labels=10000] [annotators=50] [kills=20] [pause=1] [random=0]

A real server on this machine serves one batch of pairs. Each annotator has a personal link and a connection of his own, answers,
and takes `pause` seconds on average to read the next pair; 0 measures how many answers a second the server can take. The
server is killed with SIGKILL at moments of a seeded draw and started again on its port, and whoever has no reply sends the same
turn again. Two things are told:

- the time from sending an answer to having the whole next item, with and without the requests that a kill met;
- labels that were confirmed and are not on the disk (lost), and labels of one person and item that are there twice.
"""

import http.client
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.kills import free_port
from posttrain.labelling.answers import labels_of
from posttrain.labelling.items import Item, Response
from tasks.labelling.batches import Batch, make_batch, read_events
from tasks.labelling.people import add_person
from tasks.workspace.paths import Paths

HOST = "127.0.0.1"
AGAIN = 0.1
"""Seconds after which a request without a reply is sent again; the page itself waits a second and more."""
LONGEST = 60.0
"""Seconds that one reply, or the start of a server, may take."""
WORDS = 120
"""Words of a response."""
TURN = re.compile(r'data-turn="(\w*)"')
SERVE = """
import sys
from pathlib import Path
from tasks.labelling.batches import open_batch
from tasks.labelling.desk import Desk
from tasks.labelling.serve import serve_page
from tasks.workspace.paths import Paths

desk = Desk(open_batch(Paths(Path(sys.argv[1])), "bench"))
serve_page(desk, port=int(sys.argv[2]), begun=lambda: print("open", flush=True))
"""


def main(words: Sequence[str]) -> int:
    given = dict(word.partition("=")[::2] for word in words)
    labels, annotators, kills = (
        int(given.get(name, usual)) for name, usual in (("labels", 10_000), ("annotators", 50), ("kills", 20))
    )
    chosen = random.Random(int(given.get("random", "0")))
    pause = float(given.get("pause", "1"))
    with TemporaryDirectory() as folder:
        batch, items = batch_of(Path(folder), labels, chosen)
        server = Server(Path(folder), free_port())
        try:
            server.start()
            people = [
                Annotator(server.port, f"p{number}", add_person(batch, f"p{number}").token, pause, chosen.random())
                for number in range(annotators)
            ]
            seconds = label(people, server, sorted(chosen.sample(range(1, labels), min(kills, labels - 1))))
        finally:
            server.kill()
        return tell(people, batch, items, seconds=seconds, starts=server.starts)


def batch_of(folder: Path, size: int, chosen: random.Random) -> tuple[Batch, list[Item]]:
    """Make a batch of pairs, of which a fifth of the words differ."""
    vocabulary = [f"word{number}" for number in range(2_000)]
    items = []
    for number in range(size):
        first = chosen.choices(vocabulary, k=WORDS)
        second = [chosen.choice(vocabulary) if chosen.random() < 0.2 else word for word in first]
        texts = (Response(text=" ".join(first)), Response(text=f"{' '.join(second)} {number}."))
        items.append(
            Item(id=f"i{number}", kind="pair", question=f"q{number}", prompt=f"{number}?", responses=texts, selection="random")
        )
    batch = make_batch(
        Paths(folder),
        dataset="bench",
        kind="pair",
        items=items,
        per_item=1,
        method="dpo",
        data_md5="",
        models=[],
        instructions="The better one.",
        seed=0,
        settings={},
    )
    return batch, items


class Server:
    """The page's server in a process of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port, self.starts = port, list[float]()
        self._command = [sys.executable, "-c", SERVE, str(folder), str(port)]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        began = time.perf_counter()
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        if self._process.stdout.readline() != "open\n":
            raise SystemExit("the server did not start")
        self.starts.append(time.perf_counter() - began)

    def kill(self) -> None:
        """Kill it at once."""
        if self._process and self._process.stdout:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()


@dataclass
class Annotator:
    """Somebody who answers all that he is shown.

    Attributes:
        said: turn → choice of what the server confirmed.
        quick: seconds of requests that were sent once.
        disturbed: seconds of requests that were sent again.
    """

    port: int
    name: str
    token: str
    pause: float
    seed: float
    said: dict[str, float] = field(default_factory=dict)
    quick: list[float] = field(default_factory=list)
    disturbed: list[float] = field(default_factory=list)
    _headers: dict[str, str] = field(default_factory=dict)

    def work(self) -> None:
        """Answer until nothing is left."""
        chosen = random.Random(self.seed)
        self._connection = http.client.HTTPConnection(HOST, self.port, timeout=LONGEST)
        csrf = json.loads(self._ask("POST", "/session", {"token": self.token})[0])["csrf"]
        self._headers = {"X-CSRF-Token": csrf}
        turn = turn_in(self._ask("GET", "/")[0])
        while turn:
            time.sleep(chosen.expovariate(1 / self.pause) if self.pause else 0)
            choice = chosen.choice((0, 0.5, 1))
            began = time.perf_counter()
            told, tries = self._ask("POST", "/api/answer", {"turn": turn, "choice": choice, "seconds": 1.0})
            (self.quick if tries == 1 else self.disturbed).append(time.perf_counter() - began)
            self.said[turn] = choice
            turn = turn_in(json.loads(told)["html"])
        self._connection.close()

    def _ask(self, method: str, path: str, body: object = None) -> tuple[str, int]:
        """Return what the server says, asked until it does, and how often it was asked."""
        headers = {
            "Cookie": f"posttrain-labelling-{self.port}={self.token}",
            "Content-Type": "application/json",
            **self._headers,
        }
        for tries in range(1, int(LONGEST / AGAIN)):
            try:
                self._connection.request(method, path, None if body is None else json.dumps(body), headers)
                reply = self._connection.getresponse()
                told = reply.read().decode()
            except (OSError, http.client.HTTPException):
                self._connection.close()
                time.sleep(AGAIN)
                continue
            if reply.status != 200:
                raise RuntimeError(f"{method} {path} was answered with {reply.status}: {told[:300]}")
            return told, tries
        raise RuntimeError(f"{path} was not answered within {LONGEST:.0f} s")


def turn_in(html: str) -> str:
    """Return the turn that a page shows, "" where nothing is left."""
    found = TURN.search(html)
    return found[1] if found else ""


def label(people: Sequence[Annotator], server: Server, kills: Sequence[int]) -> float:
    """Let all work at once, and kill the server after so many answers each; return the seconds that it took."""
    began = time.perf_counter()
    threads = [threading.Thread(target=person.work, daemon=True) for person in people]
    for thread in threads:
        thread.start()
    for wanted in kills:
        while sum(len(person.said) for person in people) < wanted and any(thread.is_alive() for thread in threads):
            time.sleep(0.002)
        server.kill()
        server.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def tell(people: Sequence[Annotator], batch: Batch, items: Sequence[Item], *, seconds: float, starts: Sequence[float]) -> int:
    """Print what came of it, and return the exit code."""
    events = [event for event in read_events(batch) if event.kind == "answer"]
    kept = {(event.person, event.turn): event.choice for event in events}
    lost = sum(kept.get((person.name, turn)) != choice for person in people for turn, choice in person.said.items())
    twice = sum(count - 1 for count in Counter((event.person, event.item) for event in events).values())
    labels = len(labels_of(items, read_events(batch), prompt_version=batch.prompt_version))
    table = Table("requests", "count", "median, ms", "99 %, ms", "longest, ms", title="from an answer to the next item")
    quick = [time for person in people for time in person.quick]
    disturbed = [time for person in people for time in person.disturbed]
    for name, times in (("all", [*quick, *disturbed]), ("that no kill met", quick), ("that were sent again", disturbed)):
        cells = [f"{1000 * float(np.quantile(times, share)):,.1f}" for share in (0.5, 0.99, 1)] if times else ["-"] * 3
        table.add_row(name, f"{len(times):,}", *cells)
    Console(width=120).print(table)
    print(
        f"{labels:,} labels of {len(people)} annotators in {seconds:.0f} s, {len(starts) - 1} kills, "
        f"start {np.median(starts):.1f} s: {lost} lost, {twice} twice, {len(items) - labels} missing"
    )
    return 3 if lost or twice or labels != len(items) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
