"""Datasets: edited, gone, damaged, cut off; seen, mended by the command that is told, and gone. DVC itself is not started."""

import json
import shutil
from pathlib import Path

import pytest

from posttrain.settings.config import Config
from tasks.data import dvc as versions
from tasks.data.dvc_memory import Memory, md5_of
from tasks.data.swap import incoming
from tasks.upkeep.datasets import datasets
from tasks.upkeep.findings import Check, Severity, Stores, examine
from tasks.workspace.locks import exclusive, import_lock
from tasks.workspace.paths import Paths

ROLES = ("demonstrations", "questions", "held_out")


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    monkeypatch.setattr(versions, "run_dvc", lambda *_: pytest.fail("DVC was started"))
    paths = Paths(tmp_path)
    folder = paths.data / "mine"
    folder.mkdir(parents=True)
    for name in ("records", *ROLES):
        (folder / f"{name}.jsonl").write_text(json.dumps({"of": name}) + "\n")
        keep(paths, folder / f"{name}.jsonl")
    note(paths)
    return Stores(paths, Config())


def keep(paths: Paths, file: Path) -> None:
    """Put a file into DVC's cache."""
    md5 = md5_of(file)
    cached = paths.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    cached.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, cached)


def note(paths: Paths) -> None:
    """Write DVC's files for what lies there, as DVC does."""
    folder = paths.data / "mine"
    outs = [f"data/mine/{role}.jsonl" for role in ROLES]
    told = {"cmd": "python -m tasks.data split mine", "deps": ["data/mine/records.jsonl"], "outs": outs}
    (folder / "dvc.yaml").write_text(json.dumps({"stages": {"split": told}}))  # JSON is YAML
    locked = {"cmd": told["cmd"], "outs": [{"path": path, "md5": md5_of(paths.root / path), "size": 1} for path in outs]}
    (folder / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"split": locked}}))
    version = {"md5": md5_of(folder / "records.jsonl"), "size": 1, "path": "records.jsonl"}
    (folder / "records.jsonl.dvc").write_text(json.dumps({"outs": [version]}))


def told(stores: Stores) -> list[tuple[Severity, str]]:
    return [(one.severity, one.says) for one in datasets(stores)]


WELL = [(Severity.OK, "1 dataset, as DVC has noted them")]


def test_datasets_as_they_were_left(stores: Stores) -> None:
    assert told(stores) == WELL
    assert not (stores.paths.store / "dvc.json").exists(), "looking writes nothing down"
    assert told(Stores(Paths(stores.paths.root / "empty"), Config())) == [(Severity.OK, "0 datasets, as DVC has noted them")]


@pytest.mark.parametrize("name", ["questions", "records"])
def test_an_edited_file(stores: Stores, name: str) -> None:
    file = stores.paths.data / "mine" / f"{name}.jsonl"
    file.write_text("edited\n")
    ((severity, says),) = told(stores)
    assert severity is Severity.NOTE
    assert says.startswith(f"data/mine/{name}.jsonl changed since DVC noted it, by hand or because git went to another commit. ")
    note(stores.paths)  # as make data DATA=mine does
    assert told(stores) == WELL


def test_a_file_that_rots_is_found_where_every_byte_is_read(stores: Stores) -> None:
    name = "data/mine/questions.jsonl"
    file, memory = stores.paths.root / name, Memory.load(stores.paths)
    whole = memory.md5(stores.paths, name)
    file.write_bytes(file.read_bytes()[:-2] + b"?\n")
    # the disk tells no other size, time or place than those that the memory has
    now = file.stat()
    memory.digests[name] = [now.st_size, now.st_mtime_ns, now.st_ino, whole]
    stores.paths.store.mkdir()
    memory.save()
    assert told(stores) == WELL
    stores.is_deep = True
    assert told(stores)[0][0] is Severity.NOTE


def test_a_file_that_is_gone(stores: Stores) -> None:
    (stores.paths.data / "mine" / "questions.jsonl").unlink()
    assert told(stores) == [
        (Severity.NOTE, "data/mine/questions.jsonl not here; DVC's cache has it. make data DATA=mine brings it back")
    ]
    shutil.rmtree(stores.paths.root / ".dvc" / "cache")
    ((severity, says),) = told(stores)
    assert severity is Severity.NOTE and says.endswith("make data DATA=mine makes it again from its source")
    (stores.paths.data / "mine" / "records.jsonl").unlink()
    found = told(stores)
    assert [severity for severity, _ in found] == [Severity.WRONG, Severity.NOTE]
    assert found[0][1].startswith("data/mine/records.jsonl not here, nor in DVC's cache. Fetch it from where it was pushed")
    for name in ("records", "questions"):
        (stores.paths.data / "mine" / f"{name}.jsonl").write_text(json.dumps({"of": name}) + "\n")
    assert told(stores) == WELL


@pytest.mark.parametrize("name", ["dvc.yaml", "dvc.lock", "records.jsonl.dvc"])
def test_a_damaged_file_of_dvc_is_told_and_the_others_are_looked_at(stores: Stores, name: str) -> None:
    (stores.paths.root / "dvc.yaml").write_text("stages: {}\n")
    (stores.paths.data / "mine" / name).write_text("[")
    (found,) = told(stores)
    assert found[0] is Severity.WRONG and found[1].startswith(f"data/mine/{name} is not what DVC writes (")
    note(stores.paths)
    assert told(stores) == [(Severity.OK, "2 datasets, as DVC has noted them")]


def test_an_import_that_was_cut_off(stores: Stores) -> None:
    left = incoming(stores.paths.data / "mine")
    (left / "data" / "mine").mkdir(parents=True)
    with exclusive(stores.paths, import_lock("mine")):
        assert told(stores) == WELL, "one at work is left alone"
    assert told(stores)[0][1].startswith("1 import cut off: mine. FIX=1 completes it, or takes it away")
    looked = examine(Check("data", "", datasets), stores, mends=True)
    assert looked.severity is Severity.OK and not left.exists()
    assert looked.mended == ("an import of mine was stopped before its end; data/mine is as it was before",)
