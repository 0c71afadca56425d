"""What a killed restore or clean left: seen, settled, and left alone while one is at work."""

import json
from pathlib import Path

import pytest

from flows.doctor_keeping import keeping
from posttrain.settings.config import Config
from tasks.keeping.exchange import CLEANING, DONE, DRAFT, LOCK, PLAN, notes_folder
from tasks.keeping.removal import trash
from tasks.upkeep.findings import Check, Severity, Stores, examine
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths

CHECK = Check("keeping", "", keeping)
STAGING = ".restore-1-2-abcdef00"
WELL = "no backup, restore or clean was cut off"


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(Paths(tmp_path), Config())


def put(file: Path, text: str = "x") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def plan(stores: Stores) -> str:
    return json.dumps({"staging": STAGING, "units": [{"folder": "data", "aside": ["mine.txt"], "put": ["mine.txt"], "add": []}]})


def severity_and_words(stores: Stores) -> tuple[Severity, str]:
    (found,) = keeping(stores)
    return found.severity, found.says


def test_nothing_was_cut_off(stores: Stores) -> None:
    assert severity_and_words(stores) == (Severity.OK, WELL)
    notes_folder(stores.paths).mkdir(parents=True)
    trash(stores.paths).mkdir()
    assert severity_and_words(stores) == (Severity.OK, WELL)


def test_a_restore_that_was_decided_is_completed(stores: Stores) -> None:
    data = stores.paths.root / "data"
    put(data / "mine.txt", "old")
    put(data / STAGING / "new" / "mine.txt", "new")
    put(notes_folder(stores.paths) / PLAN, plan(stores))
    severity, says = severity_and_words(stores)
    assert severity is Severity.WRONG and says.startswith("a restore was stopped while its files were put in place. FIX=1 ")
    assert (data / "mine.txt").read_text() == "old", "a look changes nothing"
    looked = examine(CHECK, stores, mends=True)
    assert looked.severity is Severity.OK and looked.mended == (
        "a restore was stopped while its files were put in place; now they all are",
    )
    assert (data / "mine.txt").read_text() == "new" and not (data / STAGING).exists()


@pytest.mark.parametrize(("name", "what"), [(DRAFT, "a restore"), (DONE, "a restore"), (CLEANING, "a clean")])
def test_what_was_not_decided_is_taken_away(stores: Stores, name: str, what: str) -> None:
    left = put(stores.paths.root / "data" / STAGING / "new" / "mine.txt")
    note = put(notes_folder(stores.paths) / name, "{}")
    severity, says = severity_and_words(stores)
    assert severity is Severity.NOTE and says.startswith(f"{what} was stopped before its end. ") and left.exists()
    assert examine(CHECK, stores, mends=True).severity is Severity.OK
    assert not note.exists() and left.exists() is (name == CLEANING), "a clean stages nothing"


def test_what_a_clean_had_put_away(stores: Stores) -> None:
    put(trash(stores.paths) / "12-abc" / "model.safetensors", "x" * 2 * 2**20)
    assert severity_and_words(stores) == (
        Severity.NOTE,
        "a clean had taken 2 MB out of their place when it was stopped. FIX=1 removes them",
    )
    looked = examine(CHECK, stores, mends=True)
    assert looked.mended == ("what a clean had taken out of its place is removed",) and not trash(stores.paths).exists()


def test_one_that_is_at_work_is_left_alone(stores: Stores) -> None:
    put(notes_folder(stores.paths) / PLAN, plan(stores))
    with exclusive(stores.paths, LOCK):
        assert severity_and_words(stores) == (Severity.OK, "a backup, restore or clean is at work, so nothing was looked at")
    assert severity_and_words(stores)[0] is Severity.WRONG
