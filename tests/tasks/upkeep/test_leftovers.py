"""What dead processes left, and what nothing names: seen, taken away or only told; what lives is left alone."""

import fcntl
import json
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from posttrain.settings.config import Config, merge
from tasks.upkeep.findings import Check, Severity, Stores, examine
from tasks.upkeep.leftovers import ELSEWHERE, REUSED, leftovers, orphans
from tasks.workspace.artifacts import Log, Outcome, make
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process

CHECK = Check("leftovers", "", leftovers)
KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(Paths(tmp_path), Config())


def put(file: Path, age: float = 0.0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"half")
    then = time.time() - age
    os.utime(file, (then, then))
    return file


def nothing(out: Path, log: Log) -> Outcome:
    (out / "a.txt").write_text("a")
    return Outcome()


def test_nothing_is_left(stores: Stores) -> None:
    make(stores.paths, "sft", KEY, nothing, settings={}, inputs={})
    (found,) = leftovers(stores)
    assert (found.severity, found.says) == (Severity.OK, "dead processes left nothing half-written")


def test_what_dead_processes_left_is_removed(stores: Stores, dead: Process) -> None:
    paths = stores.paths
    make(paths, "ppo", KEY, nothing, settings={}, inputs={})
    copy = paths.ledger / "artifacts" / "models" / "m-1" / f".artifacts.{dead.name}.new"
    left = [
        put(paths.reports / f".20261128-1.json.{dead.name}.new"),
        put(paths.store / "running" / f"{dead.name}.new"),
        put(paths.store / f".writable-{dead.pid}", REUSED + 60),
        put(paths.store / "judge" / f".judge.sqlite.{dead.pid}.new", REUSED + 60),
        put(paths.checkpoints / "ppo" / OTHER / f"step-00000010.part-{dead.pid}", REUSED + 60),
        put(copy / "model.safetensors").parent,
        put(paths.stages / "sft" / f"{OTHER}.part-{dead.pid}" / "a").parent,
        put(paths.checkpoints / "ppo" / KEY / "step-00000010.pt").parent,
    ]
    (found,) = leftovers(stores)
    assert found.severity is Severity.NOTE and found.says.startswith("8 leftovers of dead processes, under 1 MB: ")
    looked = examine(CHECK, stores, mends=True)
    assert (looked.severity, looked.mended) == (Severity.OK, ("8 leftovers of dead processes removed, under 1 MB",))
    assert not [file for file in left if file.exists()]
    assert (paths.stages / "ppo" / KEY / "stage.json").is_file() and (paths.checkpoints / "ppo" / OTHER).is_dir()


def test_what_may_be_at_work_is_left_alone(stores: Stores, dead: Process) -> None:
    paths, here = stores.paths, Process.current()
    elsewhere = replace(dead, boot="ffffffff")
    kept = [
        put(paths.reports / f".a.json.{here.name}.new"),
        put(paths.reports / f".a.json.{elsewhere.name}.new", ELSEWHERE - 60),
        put(paths.store / f".writable-{here.pid}", 10 * REUSED),
        put(paths.store / f".writable-{dead.pid}", REUSED - 60),
        put(paths.stages / "sft" / f"{KEY}.part-{dead.pid}" / "a").parent,
        put(paths.checkpoints / "ppo" / OTHER / "step-00000010.pt"),
        put(paths.reports / "new.json"),
    ]
    lock = paths.stages / "sft" / f"{KEY}.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        looked = examine(CHECK, stores, mends=True)
    assert looked.severity is Severity.OK and all(file.exists() for file in kept)


def test_another_start_of_a_machine_counts_as_dead_after_a_day(stores: Stores, dead: Process) -> None:
    file = put(stores.paths.reports / f".a.json.{replace(dead, boot='ffffffff').name}.new", ELSEWHERE + 60)
    examine(CHECK, stores, mends=True)
    assert not file.exists()


# --- what nothing names -----------------------------------------------------------------------------------------------


@pytest.fixture
def known(stores: Stores) -> Stores:
    """A ledger that knows a result, a model and a run."""
    stores.paths.ledger.mkdir(parents=True)
    with closing(sqlite3.connect(stores.paths.ledger / "mlflow.db")) as opened, opened:
        opened.execute("CREATE TABLE tags (key, value)")
        opened.execute("CREATE TABLE logged_models (model_id, lifecycle_stage)")
        opened.execute("CREATE TABLE model_versions (source)")
        opened.execute("CREATE TABLE runs (run_uuid)")
        opened.execute("INSERT INTO tags VALUES ('posttrain.stage_key', ?)", (KEY,))
        opened.execute("INSERT INTO logged_models VALUES ('m-1', 'active'), ('m-3', 'deleted')")
        opened.execute("INSERT INTO model_versions VALUES ('models:/m-2')")
        opened.execute("INSERT INTO runs VALUES (?)", ("1" * 32,))
    artifacts = stores.paths.ledger / "artifacts"
    for name in ("models/m-1/artifacts/a", "models/m-2/artifacts/a", f"{'1' * 32}/artifacts/a"):
        put(artifacts / name)
    make(stores.paths, "sft", KEY, nothing, settings={}, inputs={})
    return stores


def test_all_that_lies_there_is_named(known: Stores) -> None:
    assert orphans(known)[0].says == "nothing lies in the stores that nothing names"


def test_what_nothing_names_is_told_and_stays(known: Stores) -> None:
    artifacts = known.paths.ledger / "artifacts"
    make(known.paths, "sft", OTHER, nothing, settings={}, inputs={})
    for name in ("models/m-3/artifacts/a", "models/m-4/artifacts/a", f"{'2' * 32}/artifacts/a", "other/a"):
        put(artifacts / name)
    looked = examine(Check("orphans", "", orphans), known, mends=True)
    (found,) = looked.findings
    assert found.severity is Severity.NOTE and found.fix is None and looked.mended == ()
    for part in (
        f"1 result, under 1 MB (.posttrain/stages/sft/{'b' * 20}",
        "2 folders of models, under 1 MB (mlflow/store/artifacts/models/m-3 and mlflow/store/artifacts/models/m-4)",
        f"1 folder of a run, under 1 MB (mlflow/store/artifacts/{'2' * 32})",
    ):
        assert part in found.says
    assert (artifacts / "models" / "m-4").exists()


def test_a_report_names_results_too(known: Stores) -> None:
    make(known.paths, "sft", OTHER, nothing, settings={}, inputs={})
    put(known.paths.reports / "broken.json")
    report = known.paths.reports / "20261128-1.json"
    report.write_text(json.dumps({"stages": [{"name": "sft", "key": OTHER}]}))
    assert orphans(known)[0].severity is Severity.OK
    report.unlink()
    assert orphans(known)[0].severity is Severity.NOTE


def test_only_a_local_ledger_that_can_be_read_is_asked(known: Stores, tmp_path: Path) -> None:
    known.unusable = "it is damaged"
    assert orphans(known)[0].says == "not looked at: it is damaged"
    known.config = merge({}, ["tracking.uri=http://127.0.0.1:9"])
    assert orphans(known)[0].severity is Severity.OK
    assert orphans(Stores(Paths(tmp_path / "new"), Config()))[0].severity is Severity.OK
