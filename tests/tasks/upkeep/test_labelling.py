"""Batches of labelling and labels of people: cut off, damaged, lost on their way; seen, and mended where that is safe."""

import json
import os
import time
from pathlib import Path

import pytest

from posttrain.settings.config import Config
from tasks.data.dvc_memory import md5_of
from tasks.upkeep.findings import Check, Severity, Stores, examine
from tasks.upkeep.labelling import UNFINISHED, labelling
from tasks.workspace.paths import Paths
from tests.tasks.upkeep import test_datasets
from tests.tasks.upkeep.test_datasets import keep, note
from tests.tasks.upkeep.test_datasets import told as told_of_data

datasets_stores = test_datasets.stores
SHOWN = "labelling/mine/b1"


def label(name: str) -> str:
    told = {"id": name, "prompt": "Who?", "question": "q", "group": "q", "first": "a", "second": "b", "preference": 1.0}
    return json.dumps(told | {"annotator": "Ada", "source": "person"}) + "\n"


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    """A finished batch of a pair and a ranking, whose three labels are part of the dataset, and one that waits for answers."""
    paths = Paths(tmp_path)
    for name in ("b1", "b2"):
        folder = paths.labelling / "mine" / name
        folder.mkdir(parents=True)
        (folder / "batch.json").write_text("{}")
        (folder / "items.jsonl").write_text("{}\n")
        (folder / "events.jsonl").write_text("".join(json.dumps({"id": f"{name}-{one}"}) + "\n" for one in ("pair", "ranking")))
    (paths.labelling / "mine" / "b1" / "finished.json").write_text(json.dumps({"labels": 3}))
    (paths.data / "mine").mkdir(parents=True)
    ids = ("people/b1-pair", "people/b1-ranking/0", "people/b1-ranking/1", "imported/b2-pair-by-hand")
    (paths.data / "mine" / "labels.jsonl").write_text("".join(map(label, ids)))
    return Stores(paths, Config())


def told(stores: Stores) -> list[tuple[Severity, str]]:
    return [(one.severity, one.says) for one in labelling(stores)]


WELL = [(Severity.OK, "2 batches, and labels of 1 dataset: whole")]


def test_what_is_whole(stores: Stores) -> None:
    assert told(stores) == WELL
    assert told(Stores(Paths(stores.paths.root / "empty"), Config())) == [(Severity.OK, "nobody has labelled anything here")]
    events = stores.paths.root / SHOWN / "events.jsonl"
    events.write_text(events.read_text() + '{"id": "half a li')  # which nobody was told of
    assert told(stores) == WELL


def test_picks_and_thumbs_are_read_and_damaged_ones_told(stores: Stores) -> None:
    folder = stores.paths.labelling / "other"
    folder.mkdir()
    thumb = {"id": "s/0", "question": "q", "response": "a", "is_good": True, "finished": True, "model": "m", "annotator": "Ada"}
    thumbs = json.dumps(thumb | {"prompt": "Who?", "at": "2026-01-01T00:00:00+00:00", "seconds": 1.0}) + "\n"
    (folder / "thumbs.jsonl").write_text(thumbs)
    alone = "2 batches, and labels of 1 dataset; 1 pick or thumb of models' answers: whole"
    assert told(stores) == [(Severity.OK, alone)]
    (folder / "ab.jsonl").write_text(label("pick") + '{"half')  # which nobody was told of
    assert told(stores) == [(Severity.OK, alone.replace("1 pick or thumb", "2 picks and thumbs"))]
    for name in ("ab.jsonl", "thumbs.jsonl"):
        whole = (folder / name).read_text()
        (folder / name).write_text("{half\n" + whole)
        ((severity, says),) = told(stores)
        assert severity is Severity.WRONG and f"labelling/other/{name}" in says and "line 1" in says
        (folder / name).write_text(whole)
    empty = Stores(Paths(stores.paths.root / "empty"), Config())
    (empty.paths.labelling / "other").mkdir(parents=True)
    (empty.paths.labelling / "other" / "thumbs.jsonl").write_text(thumbs)
    assert told(empty) == [(Severity.OK, "1 pick or thumb of models' answers: whole")]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("batch.json", "{half", f"{SHOWN}/batch.json cannot be read: Expecting property name"),
        (
            "batch.json",
            "[]",
            f"{SHOWN}/batch.json is no JSON object. Restore the folder from a backup (make restore); ",
        ),
        ("batch.json", None, f"{SHOWN}/batch.json cannot be read: "),
        ("finished.json", "", f"{SHOWN}/finished.json cannot be read: "),
        ("items.jsonl", None, f"{SHOWN} has no items.jsonl, so it can be neither opened nor finished. Restore the folder"),
        ("events.jsonl", None, f"{SHOWN} has no events.jsonl, so it can be neither opened nor finished. Restore the folder"),
    ],
)
def test_a_damaged_batch(stores: Stores, name: str, content: str | None, says: str) -> None:
    file = stores.paths.root / SHOWN / name
    file.unlink() if content is None else file.write_text(content)
    ((severity, found),) = told(stores)
    assert severity is Severity.WRONG and found.startswith(says) and "make restore" in found


def test_labels_of_a_finished_batch_that_are_missing_are_told_and_left_to_a_person(stores: Stores) -> None:
    file = stores.paths.data / "mine" / "labels.jsonl"
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if "ranking/1" not in line))
    sentence = (
        f"{SHOWN} was finished with 3 labels, and data/mine/labels.jsonl has 2 of them: some were taken out by hand, or the file "
        "is an older version (git log -- data/mine/labels.jsonl.dvc). To put them back: make labels "
        f"DATA=mine FINISH=1 BATCH={SHOWN.rpartition('/')[2]}"
    )
    assert told(stores) == [(Severity.NOTE, sentence)]
    assert labelling(stores)[0].fix is None, "somebody may have taken it out on purpose"
    file.unlink()
    assert "has 0 of them" in told(stores)[0][1]


def test_a_batch_whose_end_was_cut_off(stores: Stores) -> None:
    folder = stores.paths.labelling / "mine" / "b2"
    (folder / "closed.json").write_text("{}")
    sentence = (
        "labelling/mine/b2 was ended, and its labels are no version of mine yet. Finish it again, nothing counts twice: "
        "make labels DATA=mine FINISH=1 BATCH=b2"
    )
    assert told(stores) == [(Severity.NOTE, sentence)]
    (folder / "finished.json").write_text(json.dumps({"labels": 0}))
    assert told(stores) == WELL


def test_damaged_labels_are_told_once_and_no_batch_is_said_to_miss_any(stores: Stores) -> None:
    file = stores.paths.data / "mine" / "labels.jsonl"
    file.write_text(file.read_text() + "{half\n")
    ((severity, says),) = told(stores)
    assert severity is Severity.WRONG and says.startswith("data/mine/labels.jsonl: 1 of 5 labels cannot be used")


def test_a_batch_that_was_cut_off_while_being_made_is_removed_once_nobody_can_be_at_it(stores: Stores) -> None:
    part = stores.paths.labelling / "mine" / ".b3.part"
    part.mkdir()
    (part / "batch.json").write_text("{half")
    assert told(stores) == WELL, "somebody may be making it"
    old = time.time() - UNFINISHED - 60
    os.utime(part, (old, old))
    looked = examine(Check("labelling", "", labelling), stores, mends=True)
    assert looked.mended == ("1 batch that had been cut off while being made removed",)
    assert told(stores) == WELL and not part.exists()
    part.mkdir()
    os.utime(part, (old, old))
    assert told(stores) == [
        (
            Severity.NOTE,
            "1 batch cut off while being made: labelling/mine/.b3.part. Nobody was asked anything of it yet; FIX=1 removes it",
        )
    ]


def test_labels_that_differ_from_what_dvc_noted_or_are_gone(datasets_stores: Stores) -> None:
    paths = datasets_stores.paths
    file = paths.data / "mine" / "labels.jsonl"
    file.write_text("as noted\n")
    keep(paths, file)
    file.with_name("labels.jsonl.dvc").write_text(
        json.dumps({"outs": [{"md5": md5_of(file), "size": 1, "path": "labels.jsonl"}]})
    )
    note(paths)
    assert [severity for severity, _ in told_of_data(datasets_stores)] == [Severity.OK]
    file.write_text("edited\n")
    ((severity, says),) = told_of_data(datasets_stores)
    assert severity is Severity.NOTE and says.startswith("data/mine/labels.jsonl changed since DVC noted it")
    file.unlink()
    ((severity, says),) = told_of_data(datasets_stores)
    assert severity is Severity.NOTE and "DVC's cache has it. make data DATA=mine brings it back" in says
    version = json.loads(file.with_name("labels.jsonl.dvc").read_text())["outs"][0]["md5"]
    (paths.root / ".dvc" / "cache" / "files" / "md5" / version[:2] / version[2:]).unlink()
    assert told_of_data(datasets_stores) == [
        (
            Severity.WRONG,
            "data/mine/labels.jsonl not here, nor in DVC's cache: what people said of responses. Fetch it from where it was "
            "pushed (.venv/bin/dvc pull), or restore it from a backup (make restore)",
        )
    ]
