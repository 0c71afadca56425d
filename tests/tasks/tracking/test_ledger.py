"""The ledger on a real SQLite store; one is made for the file and copied for each test, which moves it, too."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from posttrain.errors import RequestError, StorageError
from posttrain.settings.config import Config
from posttrain.settings.evaluation import TrackingSettings
from tasks.tracking import store as ledger_store
from tasks.tracking.ledger import Ledger, StageRun
from tasks.tracking.registry import register
from tasks.tracking.server import server_command, server_environment
from tasks.tracking.views import PIPELINES, VIEW_TAG, view_url, write_views
from tasks.workspace.paths import Paths

LOCAL = TrackingSettings()
KEY = "c" * 64


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def ledger(empty_store: Path, tmp_path: Path) -> Ledger:
    shutil.copytree(empty_store, tmp_path / "copy")
    return Ledger.open(Paths(tmp_path / "copy"), LOCAL)


def start(ledger: Ledger, method: str = "dpo", **changes: str) -> str:
    facts = {
        "dataset": "world",
        "data_md5": "d" * 32,
        "git_commit": "abc1234",
        "flow_run_id": "flow-1",
        "pipeline_id": "p1",
        "command": f"make pipeline METHOD={method}",
    } | changes
    return ledger.start_pipeline(Config(method=method), files_md5={"questions.jsonl": "e" * 32}, **facts)


def artifact(folder: Path) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "pages").mkdir()
    (folder / "pages" / "samples.html").write_text("<p>before and after</p>")
    (folder / "big.json").write_text(" " * (2**20 + 1))
    (folder / "optimizer.bin").write_bytes(b"weights")
    facts = {
        "stage": "sft",
        "key": KEY,
        "seconds": 6.5,
        "settings": {"sft.epochs": 10.0, "seed": 0},
        "metrics": {"loss_last": 0.25},
        "costs": {"train_seconds": 6.0, "trained_tokens": 1200},
    }
    (folder / "stage.json").write_text(json.dumps(facts))
    lines = [{"step": step, "loss": 1.0 / (step + 1), "note": "text is no metric"} for step in range(3)]
    (folder / "curves.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def children(ledger: Ledger, parent: str) -> list:
    return list(ledger.client.search_runs([ledger.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"))


def history(ledger: Ledger, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in ledger.client.get_metric_history(run_id, name)]


def test_a_pipeline_carries_every_name_that_others_rely_on(ledger: Ledger) -> None:
    run_id = start(ledger)
    ledger.finish_pipeline(run_id, metrics={"eval/accuracy": 0.5, "eval/win_rate": None}, tags={"posttrain.stage_key": KEY})
    run = ledger.client.get_run(run_id)
    wanted = {
        "posttrain.kind": "pipeline",
        "posttrain.method": "dpo",
        "posttrain.stage": "pipeline",
        "posttrain.pipeline_id": "p1",
        "posttrain.seed": "0",
        "posttrain.dataset": "world",
        "posttrain.data_md5": "d" * 32,
        "posttrain.stage_key": KEY,
        "posttrain.cached": "false",
        "posttrain.git_commit": "abc1234",
        "prefect.flow_run_id": "flow-1",
    }
    assert wanted.items() <= run.data.tags.items()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "dpo world seed 0")
    asked = {"method": "dpo", "seed": "0", "data.name": "world", "labels.source": "auto"}
    assert run.data.params == asked, "no stage has read more"
    assert run.data.metrics == {"eval/accuracy": 0.5}
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("world", "d" * 32)
    tags = {tag.key: tag.value for tag in given.tags}
    assert tags["dvc.md5"] == "d" * 32 and tags["dvc.md5.questions.jsonl"] == "e" * 32


def test_a_digest_longer_than_mlflow_allows_is_cut_and_kept_whole_beside_it(ledger: Ledger) -> None:
    (given,) = ledger.client.get_run(start(ledger, data_md5="d" * 40)).inputs.dataset_inputs
    assert given.dataset.digest == "d" * 36
    assert {tag.key: tag.value for tag in given.tags}["dvc.md5"] == "d" * 40


def test_finishing_twice_with_equal_values_leaves_one_point(ledger: Ledger) -> None:
    run_id = start(ledger)
    ledger.log_metrics(run_id, {"eval/accuracy": 0.5})
    ledger.finish_pipeline(run_id, metrics={"eval/accuracy": 0.5})
    assert history(ledger, run_id, "eval/accuracy") == [(0, 0.5)]


def test_a_stage_streams_its_curve_and_keeps_what_it_left(ledger: Ledger, tmp_path: Path) -> None:
    parent = start(ledger)
    stage = ledger.start_stage(parent, "sft", key=KEY, settings={"sft.epochs": 10.0})
    stage.log(0, {"loss": 5.0})
    stage.log(1, {"loss": 4.0})
    stage.finish(artifact(tmp_path / "a"))
    run = ledger.client.get_run(stage.run_id)
    assert run.info.status == "FINISHED"
    assert history(ledger, stage.run_id, "loss") == [(0, 5.0), (1, 4.0)]  # and not curves.jsonl once more
    assert run.data.metrics["loss_last"] == 0.25 and run.data.metrics["cost/trained_tokens"] == 1200
    assert run.data.metrics["cost/seconds"] == 6.5
    assert run.data.params == {"sft.epochs": "10.0"}
    tags = run.data.tags
    assert (tags["posttrain.kind"], tags["posttrain.stage"], tags["posttrain.stage_key"]) == ("stage", "sft", KEY)
    assert (tags["posttrain.cached"], tags["posttrain.pipeline_id"]) == ("false", "p1")
    files = {file.path for file in ledger.client.list_artifacts(stage.run_id)}
    assert files == {"pages", "stage.json"}  # neither weights, nor what is too big to look at, nor the curve
    assert [file.path for file in ledger.client.list_artifacts(stage.run_id, "pages")] == ["pages/samples.html"]


def test_a_cached_stage_is_as_complete_as_one_that_ran(ledger: Ledger, tmp_path: Path) -> None:
    folder, parent = artifact(tmp_path / "a"), start(ledger)
    ran = ledger.start_stage(parent, "sft", key=KEY, settings={"sft.epochs": 10.0, "seed": 0})
    for line in (folder / "curves.jsonl").read_text().splitlines():
        row = json.loads(line)
        ran.log(row["step"], {"loss": row["loss"]})
    ran.finish(folder)
    cached_id = ledger.log_cached_stage(parent, folder)
    first, again = ledger.client.get_run(ran.run_id), ledger.client.get_run(cached_id)
    assert again.data.metrics == first.data.metrics and again.data.params == first.data.params
    assert history(ledger, cached_id, "loss") == history(ledger, ran.run_id, "loss")
    assert again.data.tags["posttrain.cached"] == "true" and again.info.run_name == "sft (cached)"
    assert len(children(ledger, parent)) == 2


def test_curves_are_written_by_the_thousand(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.tracking.ledger.SECONDS_BETWEEN_FLUSHES", float("inf"))
    stage = ledger.start_stage(start(ledger), "base", key=KEY, settings={})
    for step in range(999):
        stage.log(step, {"loss": 1.0})
    assert history(ledger, stage.run_id, "loss") == []
    stage.log(999, {"loss": 1.0})
    assert len(history(ledger, stage.run_id, "loss")) == 1_000
    monkeypatch.setattr("tasks.tracking.ledger.SECONDS_BETWEEN_FLUSHES", 0.0)
    stage.log(1_000, {"loss": 1.0})
    assert len(history(ledger, stage.run_id, "loss")) == 1_001


def test_failures_say_why(ledger: Ledger) -> None:
    parent = start(ledger)
    failed = ledger.start_stage(parent, "sft", key=KEY, settings={})
    failed.log(0, {"loss": 2.0})
    failed.fail("sft.learning_rate is too high")
    still_open = ledger.start_stage(parent, "dpo", key=KEY, settings={})
    ledger.fail_pipeline(parent, "the SFT stage broke its promise")
    stage = ledger.client.get_run(failed.run_id)
    assert stage.info.status == "FAILED" and stage.data.metrics == {"loss": 2.0}
    assert stage.data.tags["posttrain.error"] == "sft.learning_rate is too high"
    assert ledger.client.get_run(still_open.run_id).info.status == "KILLED"
    pipeline = ledger.client.get_run(parent)
    assert pipeline.info.status == "FAILED" and pipeline.data.tags["posttrain.error"] == "the SFT stage broke its promise"
    page = pipeline.data.tags["mlflow.note.content"]
    assert page.startswith(
        "**Failed:** the SFT stage broke its promise\n\n"
        "**To go on** from the last finished stage: `make pipeline METHOD=dpo`\n\nPost-training `tiny`"
    )
    assert "reports/" not in page, "there is none"


def test_a_report_is_named_once_it_is_there(ledger: Ledger) -> None:
    without, with_one = start(ledger, pipeline_id="p1"), start(ledger, pipeline_id="p2")
    ledger.paths.reports.mkdir()
    (ledger.paths.reports / "p2.md").touch()
    pages = {}
    for run_id in (without, with_one):
        assert "reports/" not in ledger.client.get_run(run_id).data.tags["mlflow.note.content"]
        ledger.finish_pipeline(run_id, metrics={})
        pages[run_id] = ledger.client.get_run(run_id).data.tags["mlflow.note.content"]
    assert "reports/" not in pages[without]
    assert pages[with_one].endswith("The same in a file: `reports/p2.md`.")


def test_a_table_of_samples(ledger: Ledger) -> None:
    run_id = start(ledger)
    ledger.log_table(run_id, [{"prompt": "1+1", "after": "2"}, {"prompt": "2+2", "after": "4"}], "samples.json")
    logged = json.loads((Path(ledger.client.download_artifacts(run_id, "samples.json"))).read_text())
    assert logged == {"columns": ["prompt", "after"], "data": [["1+1", "2"], ["2+2", "4"]]}
    for rows in ([], [{"a": 1}, {"b": 2}]):
        with pytest.raises(ValueError, match=r"^table x\.json needs at least one row, and the same columns in each$"):
            ledger.log_table(run_id, rows, "x.json")


def test_the_server_listens_to_this_machine_only(tmp_path: Path) -> None:
    command = server_command(5001)
    assert command[command.index("--host") + 1] == "127.0.0.1" and "--workers" not in command
    assert server_environment(Paths(tmp_path), 5001)["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_a_moved_store_serves_its_files(ledger: Ledger, tmp_path: Path) -> None:
    run_id = start(ledger)
    artifacts = Path(ledger.client.get_run(run_id).info.artifact_uri)
    artifacts.mkdir(parents=True)  # not by the client, which remembers where a run's files are as long as its process lives
    (artifacts / "a.txt").write_text("hello")
    old = str(ledger.paths.root)
    ledger.paths.root.rename(tmp_path / "moved to ü")
    moved = Ledger.open(Paths(tmp_path / "moved to ü"), LOCAL)
    assert moved.experiment_id == ledger.experiment_id
    assert Path(moved.client.download_artifacts(run_id, "a.txt")).read_text() == "hello"
    moved.client.log_text(run_id, "still", "b.txt")
    assert not Path(old).exists()
    for run in moved.client.search_runs([moved.experiment_id]):
        assert run.info.artifact_uri.startswith(str(tmp_path / "moved to ü" / "mlflow" / "store" / "artifacts"))


def test_a_neighbour_with_a_longer_name_is_left_alone(tmp_path: Path) -> None:
    database, here = tmp_path / "m.db", tmp_path / "new" / "artifacts"
    import sqlite3

    with sqlite3.connect(database) as store:
        for table, column in ledger_store.ABSOLUTE_PATHS:
            store.execute(f"CREATE TABLE IF NOT EXISTS {table} (experiment_id INTEGER, source, storage_location, {column}_x)")
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
        ):
            store.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
        store.execute("INSERT INTO experiments (experiment_id, artifact_location) VALUES (0, '/old/artifacts')")
        store.execute("INSERT INTO experiments (experiment_id, artifact_location) VALUES (1, 's3://bucket/old/artifacts')")
        for uri in ("/old/artifacts/r1", "/old/artifacts2/r2", "mlflow-artifacts:/old/artifacts/r3"):
            store.execute("INSERT INTO runs (artifact_uri) VALUES (?)", (uri,))
    store.close()
    ledger_store.follow_a_move(database, artifacts=here)
    store = sqlite3.connect(database)
    kept = [row[0] for row in store.execute("SELECT artifact_uri FROM runs")]
    roots = [row[0] for row in store.execute("SELECT artifact_location FROM experiments")]
    store.close()
    assert kept == [f"{here}/r1", "/old/artifacts2/r2", "mlflow-artifacts:/old/artifacts/r3"]
    assert roots == [str(here), "s3://bucket/old/artifacts"]


OPEN_ONCE = """
import sys
from pathlib import Path
from posttrain.settings.config import Config
from posttrain.settings.evaluation import TrackingSettings
from tasks.workspace.paths import Paths
from tasks.tracking.ledger import Ledger
ledger = Ledger.open(Paths(Path(sys.argv[1])), TrackingSettings())
facts = dict(dataset="world", data_md5="d", files_md5={}, git_commit="g", flow_run_id="f", pipeline_id="p")
print(ledger.start_pipeline(Config(), **facts))
"""


@pytest.mark.slow
def test_two_processes_may_open_a_fresh_store_at_once(tmp_path: Path) -> None:
    here = str(Path(ledger_store.__file__).parent.parent)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_ONCE, str(tmp_path)], cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    answers = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    ledger = Ledger.open(Paths(tmp_path), LOCAL)
    runs = {run.info.run_id for run in ledger.client.search_runs([ledger.experiment_id])}
    assert runs == {out.strip() for out, _ in answers}
    assert not (tmp_path / "mlflow" / "store" / "mlflow.new").exists()


def test_what_a_killed_creation_left_does_not_matter(tmp_path: Path) -> None:
    folder = tmp_path / "mlflow" / "store"
    folder.mkdir(parents=True)
    (folder / "mlflow.new").write_bytes(b"half a database")
    assert Ledger.open(Paths(tmp_path), LOCAL).experiment_id == "1"


def test_refusals(tmp_path: Path, ledger: Ledger) -> None:
    with pytest.raises(
        RequestError, match=r"^tracking.uri must be a running MLflow server, but http://127.0.0.1:9 does not answer"
    ):
        Ledger.open(Paths(tmp_path), TrackingSettings(uri="http://127.0.0.1:9"))
    with pytest.raises(RequestError, match=r"^tracking.uri must start with http://, https:// or sqlite:///, got databricks$"):
        Ledger.open(Paths(tmp_path), TrackingSettings(uri="databricks"))
    with pytest.raises(StorageError, match=r"a#b/mlflow/store must not have #, \? or % in its path: MLflow cannot open it"):
        Ledger.open(Paths(tmp_path / "a#b"), LOCAL)
    ledger.client.delete_experiment(ledger.experiment_id)
    with pytest.raises(RequestError, match=r"^tracking.experiment posttrain was deleted in MLflow\. Restore it there, or set"):
        Ledger.open(ledger.paths, LOCAL)


def test_what_the_store_refuses_is_told_once_and_mlflow_logs_no_traceback(
    ledger: Ledger, capfd: pytest.CaptureFixture[str]
) -> None:
    run_id = start(ledger)
    with closing(sqlite3.connect(ledger.paths.ledger / "mlflow.db")) as store:
        store.execute("DROP TABLE tags")
    with pytest.raises(StorageError) as told:
        ledger.finish_pipeline(run_id, metrics={}, tags={"posttrain.cached": "true"})
    assert "mlflow.db) is damaged: (sqlite3.OperationalError) no such table: tags. Lost: the history of runs" in str(told.value)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_waits_until_the_run_is_closed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    run_id = start(ledger)
    before = {one: signal.signal(one, signal.default_int_handler) for one in (signal.SIGINT, signal.SIGTERM)}
    log_batch = ledger.client.log_batch

    def interrupted(*args: object, **kwargs: object) -> None:
        signal.raise_signal(number)
        log_batch(*args, **kwargs)

    monkeypatch.setattr(ledger.client, "log_batch", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            ledger.fail_pipeline(run_id, "interrupted", status="KILLED")
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    run = ledger.client.get_run(run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["posttrain.error"] == "interrupted"


def test_a_disk_that_refuses_a_file_is_told_by_its_own_name(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "somewhere/report.md")

    monkeypatch.setattr(ledger.client, "log_artifact", full)
    with pytest.raises(StorageError) as told:
        ledger.log_file(start(ledger), Path("report.md"))
    assert str(told.value) == (
        "MLflow's store: the disk is full (somewhere/report.md). What was finished before is kept; make room (or make it "
        "writable), then run again"
    )


@pytest.fixture
def server(ledger: Ledger) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        server_command(port),
        env=server_environment(ledger.paths, port),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert any("startup complete" in line for line in process.stdout)
    yield f"http://127.0.0.1:{port}"
    os.killpg(process.pid, 15)
    process.stdout.read()
    process.wait()
    process.stdout.close()


@pytest.mark.slow
def test_the_same_ledger_through_a_server(ledger: Ledger, server: str, tmp_path: Path) -> None:
    local = start(ledger)
    remote = Ledger.open(Paths(tmp_path / "elsewhere"), TrackingSettings(uri=server))
    run_id = start(remote)
    stage = StageRun(remote, run_id)
    stage.log(0, {"loss": 1.0})
    stage.flush()
    assert remote.experiment_id == ledger.experiment_id
    assert {run.info.run_id for run in ledger.client.search_runs([ledger.experiment_id])} == {local, run_id}
    assert view_url(remote, view=PIPELINES).startswith(f"{server}/#/experiments/{ledger.experiment_id}/runs?workflowType=")
    assert view_url(remote, 6000, view=PIPELINES).startswith(f"{server}/#/"), "a server has a port of its own"
    write_views(remote)
    assert f"{VIEW_TAG}{PIPELINES}" in ledger.client.get_experiment(ledger.experiment_id).tags

    # an experiment that the server makes keeps its artifacts behind the server, so models travel
    remote = Ledger.open(Paths(tmp_path / "elsewhere"), TrackingSettings(uri=server, experiment="remote"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    asked = {"name": "posttrain-world", "folder": folder, "tags": {"posttrain.stage_key": KEY}, "metrics": {"eval/accuracy": 0.5}}
    model = register(remote, run_id=start(remote), **asked)
    assert Path(model.path) == tmp_path / "elsewhere" / ".posttrain" / "models" / "posttrain-world" / "1"
    assert (Path(model.path) / "model.safetensors").read_bytes() == b"weights"
    again = register(remote, run_id=start(remote), **asked)
    assert (again.version, again.is_new, again.path) == ("1", False, model.path)
    assert [file.name for file in Path(model.path).parent.iterdir()] == ["1"]


def test_the_description_of_a_pipeline_begins_with_what_came_out(ledger: Ledger) -> None:
    run_id = start(ledger)
    before = ledger.client.get_run(run_id).data.tags["mlflow.note.content"]
    ledger.finish_pipeline(run_id, metrics={}, verdict="**DPO helped**")
    assert ledger.client.get_run(run_id).data.tags["mlflow.note.content"] == f"**DPO helped**\n\n{before}"
