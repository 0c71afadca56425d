"""Whatever people do, and whenever the process dies or the disk is full: what counts is what was acknowledged, once each."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.errors import StorageError
from posttrain.labelling.answers import labels_of
from tasks.labelling import log as logs
from tasks.labelling.batches import read_events, read_items
from tasks.labelling.desk import TurnOver
from tests.tasks.labelling.batch_of import Clocks, batch_in, desk_of, item

PEOPLE = ("Ada", "Ben", "Cyd")
CHOICES = (0.0, 0.5, 1.0)


class House:
    """A batch under a desk, and beside it a plain list of what the desk acknowledged."""

    def __init__(self, folder, per_item, count):
        items = [*(item(str(number)) for number in range(count)), item("again", question="q0", prompt="p0", repeats="0")]
        self.batch = batch_in(folder, items, per_item=per_item)
        self.per_item = per_item
        self.clocks = Clocks()
        self.desk = desk_of(self.batch, self.clocks, lease_seconds=60)
        self.turns = []
        self.acknowledged = {person: [] for person in PEOPLE}  # (event id, item, choice, texts) of each act, the last one last
        self.late = set()  # ids of acts that were taken back: an old turn may still return them

    def act(self, kind, person, number):
        """Do one thing and note what it acknowledged; return whether it may have written."""
        match kind:
            case "next":
                self._shown(person, self.desk.next(person))
            case "answer" | "answer_and_next" | "skip" | "skip_and_next":
                self._end(kind, person, number)
            case "undo":
                again = self.desk.undo(person)
                assert (again is None) == (not self.acknowledged[person])
                if again:
                    taken = self.acknowledged[person].pop()
                    self.late.add(taken[0])
                    assert again.item.id == taken[1]
                    self._shown(person, again)
            case "wait":
                self.clocks.pass_by(25 * number)
            case "jump":
                self.clocks.pass_by(0)
                self.clocks.time = self.clocks.time.replace(year=2000 + number)
            case "restart":
                self.reopen()

    def _end(self, kind, person, number):
        if not self.turns:
            return
        # as a rule the newest turn, as a page does; sometimes an old one, of anybody
        his = [one for one in self.turns if one[0] == person] or self.turns
        owner, shown = self.turns[number % len(self.turns)] if number % 4 == 3 else his[-1]
        choice = CHOICES[number % 3]
        call = getattr(self.desk, kind)
        told = {"choice": choice, "seconds": 1.0} if kind.startswith("answer") else {}
        try:
            result = call(person, shown.turn, **told)
        except TurnOver:
            repeated = shown.item.repeats and shown.item.repeats not in self._answered(person)
            assert owner != person or repeated or self._is_full(shown.item.id, but=person)
            return
        assert owner == person
        event, following = result if kind.endswith("next") else (result, None)
        known = {act[0] for act in self.acknowledged[person]} | self.late
        if event not in known:
            assert shown.item.id not in [act[1] for act in self.acknowledged[person]]
            texts = [one.text for one in shown.responses]
            self.acknowledged[person].append((event, shown.item.id, choice if told else None, texts))
        self._shown(person, following)

    def _answered(self, person):
        return [act[1] for act in self.acknowledged[person] if act[2] is not None]

    def _is_full(self, name, *, but):
        """Return whether an item may have had no room for somebody: others answered it, or were shown it."""
        return len({person for person, shown in self.turns if shown.item.id == name and person != but}) >= self.per_item

    def _shown(self, person, shown):
        if shown:
            assert shown.item.id not in [act[1] for act in self.acknowledged[person]]
            assert not shown.item.repeats or shown.item.repeats in self._answered(person)
            self.turns.append((person, shown))

    def reopen(self):
        self.desk.close()
        self.desk = desk_of(self.batch, self.clocks, lease_seconds=60)

    def check(self):
        given = labels_of(read_items(self.batch), read_events(self.batch), prompt_version="")
        found = {one.id: (one.annotator, one.question, one.preference, [one.first, one.second]) for one in given}
        acts = [(person, *act) for person, done in self.acknowledged.items() for act in done if act[2] is not None]
        question = {one.id: one.question for one in read_items(self.batch)}
        assert found == {f"people/{event}": (who, question[name], choice, texts) for who, event, name, choice, texts in acts}
        by_item = [name for _, _, name, _, _ in acts]
        assert all(by_item.count(name) <= self.per_item for name in question)
        for person in PEOPLE:
            told = self.desk.progress(person)
            done = [act for act in self.acknowledged[person] if act[2] is not None]
            assert (told.done, told.batch_done) == (len(done), len(acts))


ACTS = ("next", "answer", "answer_and_next", "answer_and_next", "skip", "skip_and_next", "undo", "wait", "jump", "restart")
ALL = st.lists(
    st.tuples(st.sampled_from(ACTS), st.sampled_from(PEOPLE), st.integers(0, 11), st.sampled_from(["", "", "", "kill", "full"])),
    max_size=40,
)


@contextmanager
def house_of(per_item, count):
    folder = Path(tempfile.mkdtemp())
    house = House(folder, per_item, count)
    try:
        yield house
    finally:
        house.desk.close()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def unsynced():
    """The disk is not waited for: kills are played on the bytes of the file."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(logs.os, "fsync", lambda descriptor: None)
        yield


@settings(max_examples=200)
@given(acts=ALL, per_item=st.integers(1, 2), count=st.integers(1, 4), cut=st.floats(0, 1))
def test_what_counts_is_what_was_acknowledged(unsynced, acts, per_item, count, cut):
    with house_of(per_item, count) as house:
        for kind, person, number, trouble in acts:
            if trouble == "full":
                play_full_disk(house, kind, person, number, cut)
            elif trouble == "kill":
                play_kill(house, kind, person, number, cut)
            else:
                house.act(kind, person, number)
            house.check()
        house.reopen()
        house.check()


def play_full_disk(house, kind, person, number, cut):
    """Let the disk take a part of what an act writes; then nothing has happened."""
    pwrite = os.pwrite
    before = house.batch.log.read_bytes()

    def no_room(descriptor, content, offset):
        if offset > len(before) or not int(cut * len(content)):
            raise OSError(28, "No space left on device")
        return pwrite(descriptor, content[: int(cut * len(content))], offset)

    remembered = {name: list(done) for name, done in house.acknowledged.items()}, set(house.late), list(house.turns)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(logs.os, "pwrite", no_room)
        try:
            house.act(kind, person, number)
        except StorageError:
            house.acknowledged, house.late, house.turns = remembered
    # where the whole of a write fitted it counts
    if (house.acknowledged, house.late, house.turns) == remembered and kind != "restart":
        assert house.batch.log.read_bytes() == before


def play_kill(house, kind, person, number, cut):
    """Let an act happen, then cut the log at some byte that it wrote, as a kill during its write does: nobody was told of it."""
    remembered = {name: list(done) for name, done in house.acknowledged.items()}, set(house.late), list(house.turns)
    before = house.batch.log.stat().st_size
    house.act(kind, person, number)
    house.desk.close()
    content = house.batch.log.read_bytes()
    at = before + int(cut * (len(content) - before))
    house.batch.log.write_bytes(content[:at])
    # an act whose line is whole counts, although nobody was told: the page asks again, with the same turn
    if b"\n" not in content[before:at] and len(content) > before:
        house.acknowledged, house.late, _ = remembered
    house.turns = remembered[2]  # nobody was shown anything
    house.desk = desk_of(house.batch, house.clocks, lease_seconds=60)


def test_a_log_cut_at_every_byte(tmp_path, unsynced):
    batch = batch_in(tmp_path, per_item=2)
    desk = desk_of(batch)
    ends = {}  # bytes of the log when a call returned → ids that count then
    standing = []
    shown = {person: desk.next(person) for person in ("Ada", "Ben")}
    for person, act in (
        ("Ada", "answer"),
        ("Ben", "answer"),
        ("Ada", "undo"),
        ("Ada", "skip"),
        ("Ben", "undo"),
        ("Ben", "answer"),
    ):
        if act == "undo":
            shown[person] = desk.undo(person)
            standing = [one for one in standing if one[0] != person]
        elif act == "skip":
            shown[person] = desk.skip_and_next(person, shown[person].turn)[1]
        else:
            event, shown[person] = desk.answer_and_next(person, shown[person].turn, 1.0, seconds=1)
            standing = [*standing, (person, f"people/{event}")]
        ends[batch.log.stat().st_size] = [name for _, name in standing]
    desk.close()
    content = batch.log.read_bytes()
    for cut in range(min(ends), len(content) + 1):
        batch.log.write_bytes(content[:cut])
        desk = desk_of(batch)
        told = [one.id for one in labels_of(read_items(batch), read_events(batch), prompt_version="")]
        acknowledged = max(end for end in ends if end <= cut)
        following = min((end for end in ends if end > cut), default=acknowledged)
        is_half_written = b"\n" not in content[acknowledged:cut]
        assert told == ends[acknowledged if is_half_written else following]
        desk.close()


KILLED = """
import sys
from pathlib import Path
from tasks.labelling.batches import open_batch
from tasks.labelling.desk import Desk
from tasks.workspace.paths import Paths
desk = Desk(open_batch(Paths(Path(sys.argv[1])), "mine"))
shown = desk.next("Ada")
while shown:
    event, shown = desk.answer_and_next("Ada", shown.turn, 1.0, seconds=1)
    print(event, flush=True)
"""


def test_a_process_that_is_killed_loses_nothing_that_it_acknowledged(tmp_path):
    batch = batch_in(tmp_path, [item(str(number)) for number in range(1000)])
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    acknowledged = [process.stdout.readline().strip() for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    with process.stdout:
        acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
    process.wait(timeout=60)
    assert process.returncode == -signal.SIGKILL
    desk = desk_of(batch)  # nobody holds the batch any more
    told = [one.id.removeprefix("people/") for one in labels_of(read_items(batch), read_events(batch), prompt_version="")]
    assert len(acknowledged) >= 20 and told[: len(acknowledged)] == acknowledged and len(told) <= len(acknowledged) + 1
    assert desk.progress("Ada").done == len(told)
    desk.close()
