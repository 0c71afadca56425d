"""`make clean KEEP=…` on a real ledger: what goes, what stays, and that a clean which was stopped anywhere is gone on with."""

import json
import os
import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from flows import keep_clean as subject
from flows.keep_clean import clean, listing, old_flow_runs, schedules_of
from posttrain.errors import RequestError, StorageError
from posttrain.keeping.retention import Keep, Retention
from posttrain.promotion.moves import CHAMPION
from posttrain.settings.config import Config
from posttrain.settings.evaluation import TrackingSettings
from tasks.keeping import removal
from tasks.keeping.exchange import CLEANING, LOCK, notes_folder
from tasks.keeping.removal import COPIES, LOGS, PREFECT_RUNS, STAGES, VERSIONS, Removal
from tasks.promotion.evaluations import evaluation_of
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import local_path, moves_lock, register
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths
from tasks.workspace.presence import present
from tests.tasks.promotion.versions import NAME, answered, model_folder, stage

OLD = time.time() - 40 * 86_400
IDS = tuple(f"20261128-17422{number}-dpo-3cb{number}" for number in range(5))
SHARED = "5" * 64


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"):
        monkeypatch.delenv(name, raising=False)


def pipeline(ledger: Ledger, folder: Path, number: int, *, shares: bool = True) -> str:
    """Leave what a pipeline leaves: runs, stages that it shares and its own, a version, and a report; return its run."""
    facts = {"dataset": "world", "data_md5": "d" * 32, "git_commit": "g", "flow_run_id": "f", "pipeline_id": IDS[number]}
    run = ledger.start_pipeline(Config(method="dpo"), files_md5={}, command="make pipeline METHOD=dpo", **facts)
    key = str(number) * 64
    stage(ledger, run, "evaluate-dpo", key, answered(10 + number))
    stage(ledger, run, "evaluate-base", SHARED if shares else f"b{key[1:]}", answered(10))
    tags = {"posttrain.method": "dpo", "posttrain.seed": "0", "posttrain.stage_key": key}
    register(ledger, name=NAME, folder=model_folder(folder / f"model-{number}", float(number)), run_id=run, tags=tags, metrics={})
    ledger.finish_pipeline(run, metrics={})
    reports = ledger.paths.reports
    reports.mkdir(exist_ok=True)
    for name in (f"{IDS[number]}.json", "latest.json"):
        (reports / name).write_text(json.dumps({"pipeline_id": IDS[number], "stages": []}))
    (reports / f"{IDS[number]}.md").write_text("a page")
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pipelines: 1 made the champion, nothing names 2, a comparison 3, and 4 is the newest; with old files of every kind."""
    root = tmp_path_factory.mktemp("made")
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ledger = Ledger.open(Paths(root / "repo"), TrackingSettings())
    paths = ledger.paths
    for number in (1, 2, 3, 4):
        pipeline(ledger, root, number)
    ledger.client.set_registered_model_alias(NAME, CHAMPION, "1")
    page = paths.reports / "compare" / "c1" / "comparison.json"
    page.parent.mkdir(parents=True)
    page.write_text(json.dumps({"runs": [IDS[3]]}))
    for name in ("stages/sft/" + "9" * 64 + "/stage.json", "checkpoints/ppo/" + "8" * 64 + "/step-00000001.pt"):
        file = paths.store / name
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    for name in ("services/mlflow.log.1", "services/mlflow.log", "compare/c0/x.log", "models/posttrain-world/2/config.json"):
        file = paths.store / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a word")
    for path in (*paths.store.rglob("*"),):
        os.utime(path, (OLD, OLD))
    patch.undo()
    return root / "repo"


@pytest.fixture
def paths(made: Path, tmp_path: Path) -> Paths:
    shutil.copytree(made, tmp_path / "repo", symlinks=True)
    return Paths(tmp_path / "repo")


def state(paths: Paths) -> dict[str, Any]:
    """Return what a clean changes: files, runs, and versions."""
    ledger = Ledger.open(paths, TrackingSettings())
    runs = sorted(run.info.run_id for run in ledger.client.search_runs([ledger.experiment_id], max_results=1000))
    versions = sorted(int(one.version) for one in ledger.client.search_model_versions(f"name = '{NAME}'"))
    models = sorted(one.model_id for one in ledger.client.search_logged_models([ledger.experiment_id]))
    files = sorted(
        str(file.relative_to(paths.root))
        for file in paths.root.rglob("*")
        if file.is_file() and not file.name.endswith((".lock", ".db", "-wal", "-shm", "-journal"))
    )
    return {"runs": runs, "versions": versions, "models": models, "files": files}


def run(paths: Paths, *, keep: str = "1", is_applied: bool = True) -> tuple[list[Removal], list[str]]:
    said: list[str] = []
    return clean(paths, Config(), said.append, keep=Keep.read(keep), is_applied=is_applied), said


def test_what_is_old_and_needed_by_nothing_goes_and_nothing_else(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(paths)
    found, said = run(paths, is_applied=False)
    listed = capsys.readouterr().out
    assert state(paths) == before, "without APPLY=1 nothing is removed"
    assert "make clean KEEP=1 would remove, of 4 pipelines, 1:" in listed and f"\n    {IDS[2]}\n" in listed
    assert "versions: 1, 0.0 MB (models that nothing names, with their files)" in listed and "models:/posttrain-world/2" in listed
    assert "Older ones that stay: 1 (a comparison), 1 (an alias names its version)" in listed
    assert listed.endswith("nothing was removed. To do it: make clean KEEP=1 APPLY=1\n")
    assert said == ["note: Prefect's old runs stay, since its server does not run; with it: make up, then run again"]
    assert [one.kind for one in found] == ["versions", "pipelines", "stages", "stages", "checkpoints", COPIES, LOGS, LOGS]

    run(paths)
    after = state(paths)
    assert after["versions"] == [1, 3, 4] and len(after["models"]) == 3 and len(before["runs"]) - len(after["runs"]) == 3
    gone = set(before["files"]) - set(after["files"])
    assert {name for name in gone if name.startswith("reports/")} == {f"reports/{IDS[2]}.json", f"reports/{IDS[2]}.md"}
    assert {Path(name).parts[1:4] for name in gone if name.startswith(".posttrain/stages")} == {
        ("stages", "evaluate-dpo", "2" * 64),
        ("stages", "sft", "9" * 64),
    }
    assert not [
        name for name in after["files"] if "mlflow.log.1" in name or "compare/c0/" in name or "models/posttrain-world/2" in name
    ]
    assert ".posttrain/services/mlflow.log" in after["files"], "the log of a service that may run stays"
    assert set(after["files"]) <= set(before["files"]), "nothing is left of the removal itself"

    # what stays is whole: the gate can read the champion's evaluation, and every version loads
    ledger = Ledger.open(paths, TrackingSettings())
    for version in ("1", "3", "4"):
        assert len(evaluation_of(ledger, NAME, version).rows) == 40
        assert (local_path(ledger, f"models:/{NAME}/{version}") / "config.json").is_file()
    with pytest.raises(RequestError, match="has the versions 1, 3, 4"):
        local_path(ledger, f"models:/{NAME}/2")
    capsys.readouterr()
    assert run(paths)[0] == []
    assert capsys.readouterr().out == "make clean KEEP=1 finds nothing that is old: 3 pipelines, all of which stay\n"


class StopError(BaseException):
    """As a kill: no handler of ours catches it."""


class Stopping:
    """Stop before one of the steps that remove something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        from mlflow import MlflowClient
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        self.at, self.count = at, 0
        steps = (
            *((MlflowClient, name) for name in ("set_logged_model_tags", "delete_model_version", "delete_logged_model")),
            *((SqlAlchemyStore, "_hard_delete_run"), (Path, "unlink"), (Path, "rename"), (shutil, "rmtree")),
        )
        for owner, name in steps:
            monkeypatch.setattr(owner, name, self._wrapped(getattr(owner, name)))

    def _wrapped(self, function: Any) -> Any:
        def step(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                raise StopError
            return function(*arguments, **options)

        return step


@pytest.mark.slow
def test_a_clean_that_was_stopped_before_any_step_is_gone_on_with(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made, tmp_path / "whole", symlinks=True)
    run(Paths(tmp_path / "whole"))
    wanted, stopped = state(Paths(tmp_path / "whole")), 0
    for at in range(1, 200):
        paths = Paths(tmp_path / f"stopped-{at}")
        shutil.copytree(made, paths.root, symlinks=True)
        with pytest.MonkeyPatch.context() as patch:
            steps = Stopping(patch, at)
            with suppress(StopError):
                run(paths)
        ledger = Ledger.open(paths, TrackingSettings())
        assert (local_path(ledger, f"models:/{NAME}@{CHAMPION}") / "config.json").is_file()
        assert len(evaluation_of(ledger, NAME, "1").rows) == 40
        run(paths)
        assert state(paths) == wanted, f"step {at}"
        shutil.rmtree(paths.root)
        if steps.count < at:
            break
        stopped += 1
    assert stopped > 12


def test_nothing_is_removed_while_somebody_works_here(paths: Paths) -> None:
    before = state(paths)
    with present(paths, command="make pipeline"):
        assert run(paths, is_applied=False)[0], "the list is there all the same"
        with pytest.raises(RequestError, match="runs a pipeline here, or another command, which may need what is old"):
            run(paths)
    with exclusive(paths, LOCK), pytest.raises(RequestError, match="another backup, restore or clean"):
        run(paths)
    with exclusive(paths, moves_lock(NAME)), pytest.raises(RequestError, match="moves aliases of posttrain-world now"):
        run(paths)
    assert state(paths) == before and not (notes_folder(paths) / CLEANING).exists()


def test_a_pipeline_that_begins_in_the_middle_stops_it(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = iter([set(), set(), {"77-1-boot"}])
    monkeypatch.setattr(subject, "living", lambda paths: next(begun, {"77-1-boot"}))
    with pytest.raises(RequestError, match="process 77 runs a pipeline here"):
        run(paths)
    assert state(paths)["versions"] == [1, 3, 4], "the first was removed, and nothing after it"
    assert (paths.reports / f"{IDS[2]}.json").exists()


def test_a_schedule_keeps_the_version_that_it_names(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "schedules_of", lambda *_: ["{'words': ['ppo.reward=model:models:/posttrain-world/2']}"])
    found, _ = run(paths, is_applied=False)
    assert {one.kind for one in found} == {STAGES, "checkpoints", LOGS}
    assert VERSIONS not in {one.kind for one in found}


def test_young_files_of_nobody_stay(paths: Paths) -> None:
    orphan = paths.stages / "sft" / ("9" * 64)
    os.utime(orphan / "stage.json")
    found, _ = run(paths, keep="30d", is_applied=False)
    assert not [one for one in found if one.kind in (VERSIONS, "pipelines")], "all pipelines are of today"
    assert not [one for one in found if one.name.startswith("sft/")]
    assert [one.kind for one in found] == ["checkpoints", LOGS, LOGS]


def test_nothing_to_clean(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is nothing to clean in"):
        run(Paths(tmp_path))


def test_a_damaged_database_of_prefect_is_told_since_it_knows_the_schedules(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    assert schedules_of(paths, Config()) == []
    (paths.store / "prefect").mkdir(parents=True)
    (paths.store / "prefect" / "prefect.db").write_bytes(b"noise" * 99)
    with pytest.raises(StorageError, match=r"Prefect's database .* is no SQLite database"):
        schedules_of(paths, Config())


def test_without_the_server_of_a_postgresql_nobody_knows_the_schedules(tmp_path: Path) -> None:
    config = Config(servers={"prefect_database": "postgresql+asyncpg://a@b/prefect"})  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"nobody can say which versions they name. Start it, then run again: make up"):
        schedules_of(Paths(tmp_path), config)


def flow_run(days: float | None, deployment: object = None, *, is_final: bool = True) -> SimpleNamespace:
    now = datetime(2026, 11, 29, tzinfo=UTC)
    ended = None if days is None else now - timedelta(days=days)
    return SimpleNamespace(end_time=ended, deployment_id=deployment, state=SimpleNamespace(is_final=lambda: is_final))


def test_of_prefects_runs_the_last_of_each_schedule_stays() -> None:
    one, other = uuid4(), uuid4()
    runs = [
        flow_run(None, one, is_final=False),
        flow_run(40, one),
        flow_run(41, one),
        flow_run(42, other),
        flow_run(50),
        flow_run(5),
        flow_run(60, other),
        flow_run(None),
    ]
    horizon = (datetime(2026, 11, 29, tzinfo=UTC) - timedelta(days=30)).timestamp()
    assert old_flow_runs(runs, horizon) == [runs[2], runs[4], runs[6]]


def test_the_list_counts_by_kind_and_names_some() -> None:
    found = [Removal(STAGES, f"dpo/{number}", 2**20, lambda: None) for number in range(7)]
    found.append(Removal(PREFECT_RUNS, "quick fox", 0, lambda: None))
    retention = Retention((), {"a": "new", "b": "a report"}, frozenset(), frozenset(), None)
    lines = listing(found, retention, Keep(count=3), pipelines=2, is_applied=True)
    assert lines == [
        "make clean KEEP=3 removes, of 2 pipelines, 0:",
        "  stages: 7, 7.0 MB (finished results that no pipeline which stays has)",
        "    dpo/0, dpo/1, dpo/2, dpo/3, dpo/4, …",
        "  Prefect's runs: 1 (of Prefect's server, but for the last of each schedule)",
        "    quick fox",
        "together 7.0 MB. Older ones that stay: 1 (a report)",
    ]


def test_what_is_taken_out_of_its_place_on_another_disk_is_no_whole_stage_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stages" / "dpo" / "k"
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text("{}")
    (folder / "weights").write_text("x")
    order: list[str] = []

    def elsewhere(self: Path, target: Path) -> Path:
        raise OSError(18, "Invalid cross-device link")

    def remember(path: Path) -> None:
        order.append("whole" if (path / "stage.json").exists() else "no stage any more")

    monkeypatch.setattr(Path, "rename", elsewhere)
    monkeypatch.setattr(removal, "remove", remember)
    removal.put_away(Paths(tmp_path), folder)
    assert order == ["no stage any more"]
