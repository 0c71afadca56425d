import hashlib
import json

import pytest

from posttrain.errors import DataError, RequestError, StorageError
from tasks.labelling import batches
from tasks.labelling.batches import batches_of, open_batch, read_events, read_items, standing_of
from tasks.workspace.paths import Paths
from tests.tasks.labelling.batch_of import batch_in, desk_of, item


def test_a_batch_is_read_as_it_was_made(tmp_path):
    items = [item("0", family="f", gold=0.5, known=(1, 0)), item("1", texts=("a\u2028b\x85\r\n", "\x0c"), repeats="0")]
    made = batch_in(tmp_path, items, per_item=2)
    assert made.folder == Paths(tmp_path).labelling / "mine" / made.name
    assert open_batch(Paths(tmp_path), "mine", made.name) == made
    assert read_items(made) == items and read_events(made) == []
    assert (made.kind, made.per_item, made.size, made.seed, made.method) == ("pair", 2, 2, 3, "rlhf")
    assert made.prompt_version == hashlib.sha256(made.instructions.encode()).hexdigest()
    assert made.models == ("stage:sft/1",) and made.settings == {"label.per_item": 2, "label.kinds": ["pair"]}
    assert not made.is_closed and not made.is_finished
    assert {file.name for file in made.folder.iterdir()} == {"batch.json", "items.jsonl", "people.jsonl", "events.jsonl"}


def test_the_newest_batch_that_is_not_finished_is_opened(tmp_path, monkeypatch):
    names = iter(["aaaa", "bbbb", "cccc"])
    monkeypatch.setattr(batches.secrets, "token_hex", lambda _: next(names))
    at = iter(["2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00", "2026-01-03T00:00:00+00:00"])
    monkeypatch.setattr(batches, "utc_now", lambda: batches.datetime.fromisoformat(next(at)))
    first, second, third = (batch_in(tmp_path) for _ in range(3))
    paths = Paths(tmp_path)
    assert first.name == "20260101-000000-aaaa"
    assert batches_of(paths, "mine") == [first, second, third] and batches_of(paths, "other") == []
    (third.folder / "finished.json").write_text("{}")
    assert open_batch(paths, "mine") == second
    for batch in (first, second):
        (batch.folder / "finished.json").write_text("{}")
    with pytest.raises(RequestError, match=r"no batch of mine is waiting for labels. Make one: make label DATA=mine"):
        open_batch(paths, "mine")
    with pytest.raises(RequestError, match=f"no batch 20260101-000000-aaab of mine; did you mean {first.name}"):
        open_batch(paths, "mine", "20260101-000000-aaab")


def test_a_batch_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(batches.os, "fsync", full)
    with pytest.raises(StorageError, match=r"mine.*: No space left on device. What was there before is unchanged"):
        batch_in(tmp_path)
    assert list((tmp_path / "labelling" / "mine").iterdir()) == []
    assert batches_of(Paths(tmp_path), "mine") == []


def test_what_a_kill_left_half_made_is_no_batch(tmp_path):
    made = batch_in(tmp_path)
    made.folder.rename(made.folder.with_name(f".{made.name}.part"))
    assert batches_of(Paths(tmp_path), "mine") == []
    with pytest.raises(RequestError, match="no batch of mine is waiting"):
        open_batch(Paths(tmp_path), "mine")


@pytest.mark.parametrize(
    ("items", "per_item", "reason"),
    [
        ([], 1, "a batch needs one item at least, got none"),
        ([item("0"), item("0")], 1, "items of a batch must have ids of their own, and two have one"),
        ([item("0"), item("1", repeats="2")], 1, "must be of that kind, and repeat none but each other"),
        ([item("0"), item("1", kind="rating", texts=("a",))], 1, "items of a batch of kind pair must be of that kind"),
        ([item("0")], 0, "per_item must be at least 1, got 0"),
    ],
)
def test_what_makes_no_batch_is_refused(tmp_path, items, per_item, reason):
    with pytest.raises(RequestError, match=reason):
        batch_in(tmp_path, items, per_item=per_item)
    assert not (tmp_path / "labelling").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"format": 2},
            "has the format 2, and this posttrain reads 1: a newer posttrain made the batch. Finish it with that one",
        ),
        ({"format": 0}, "has the format 0, and this posttrain reads 1: another version of posttrain made the batch"),
        ({"format": None}, "has the format None"),
        ({"colour": 1}, "has an unknown field colour"),
        ({"kind": ...}, "lacks the field kind"),
    ],
)
def test_a_batch_of_another_version_is_refused(tmp_path, change, reason):
    made = batch_in(tmp_path)
    told = json.loads((made.folder / "batch.json").read_text()) | change
    (made.folder / "batch.json").write_text(json.dumps({name: value for name, value in told.items() if value is not ...}))
    with pytest.raises(DataError, match=reason):
        open_batch(Paths(tmp_path), "mine")


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_a_damaged_batch_is_refused(tmp_path, text):
    made = batch_in(tmp_path)
    (made.folder / "batch.json").write_text(text)
    with pytest.raises(DataError, match=r"batch.json (is damaged|has the format None)"):
        open_batch(Paths(tmp_path), "mine")


def test_damaged_items_are_refused(tmp_path):
    made = batch_in(tmp_path)
    file = made.folder / "items.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match=r"items.jsonl holds 3 items, and the batch was made of 4. Restore it from a backup"):
        read_items(made)
    file.write_text("".join(lines[:2]) + lines[2][:20] + "\n" + lines[3])
    with pytest.raises(DataError, match=r"items.jsonl line 3 is no item of a batch"):
        read_items(made)
    file.unlink()
    with pytest.raises(DataError, match=r"cannot read .*items.jsonl"):
        read_items(made)


def test_events_that_do_not_fit_the_items_are_refused(tmp_path):
    made = batch_in(tmp_path)
    desk = desk_of(made)
    desk.answer("Ada", desk.next("Ada").turn, 1.0, seconds=1)
    desk.close()
    assert standing_of(made).answered == 1
    lines = made.log.read_text().splitlines(keepends=True)
    made.log.write_text("".join([*lines, lines[-1]]))
    with pytest.raises(DataError, match=r"events.jsonl does not fit its batch: event .* ends turn .* Restore the folder"):
        standing_of(made)
    with pytest.raises(DataError, match=r"does not fit its batch"):
        desk_of(made)
    made.log.write_text("".join(lines))
    desk_of(made).close()  # the refused one has let go of it
