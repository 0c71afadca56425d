"""The registry on a real store, with a real (very small) model."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from posttrain.errors import ContractError, RequestError, StorageError
from posttrain.settings.config import Config
from posttrain.settings.evaluation import TrackingSettings
from tasks.rewards.sources.table import reward_source
from tasks.tracking import store as ledger_store
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import (
    COMPARISON_TAG,
    RegisteredModel,
    describe_model,
    local_path,
    register,
    weights_digest,
)
from tasks.workspace.paths import Paths

NAME = "posttrain-world"
KEY = {"posttrain.stage_key": "k" * 64}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def ledger(empty_store: Path, tmp_path: Path) -> Ledger:
    shutil.copytree(empty_store, tmp_path / "repo")
    return Ledger.open(Paths(tmp_path / "repo"), TrackingSettings())


def start(ledger: Ledger) -> str:
    facts = {"dataset": "world", "data_md5": "d", "git_commit": "g", "flow_run_id": "f", "pipeline_id": "p"}
    return ledger.start_pipeline(Config(), files_md5={}, **facts)


def model_folder(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def put(ledger: Ledger, folder: Path, run_id: str, tags: dict[str, str] = KEY, accuracy: float = 0.5) -> RegisteredModel:
    metrics = {"eval/accuracy": accuracy, "cost/labels": None}
    return register(ledger, name=NAME, folder=folder, run_id=run_id, tags=tags, metrics=metrics)


def test_a_new_version_is_the_challenger(ledger: Ledger, tmp_path: Path) -> None:
    run_id = start(ledger)
    model = put(ledger, model_folder(tmp_path / "model"), run_id)
    assert (model.name, model.version, model.uri, model.is_new) == (NAME, "1", "models:/posttrain-world/1", True)
    assert (Path(model.path) / "model.safetensors").read_bytes() == b"weights"
    version = ledger.client.get_model_version_by_alias(NAME, "challenger")
    assert (str(version.version), version.run_id) == ("1", run_id)
    assert version.tags["posttrain.stage_key"] == "k" * 64
    run = ledger.client.get_run(run_id)
    assert run.data.tags["posttrain.model_uri"] == "models:/posttrain-world/1"
    assert run.data.metrics == {"eval/accuracy": 0.5}
    assert len(run.outputs.model_outputs) == 1
    logged = ledger.client.get_logged_model(version.source.removeprefix("models:/"))
    assert [(metric.key, metric.value) for metric in logged.metrics] == [("eval/accuracy", 0.5)]
    assert (logged.status, logged.source_run_id) == ("READY", run_id)


def test_a_version_has_files_of_its_own_and_outlives_its_artifact(ledger: Ledger, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    model = put(ledger, folder, start(ledger))
    weights = Path(model.path) / "model.safetensors"
    assert not weights.samefile(folder / "model.safetensors"), "one damaged file would take both"
    os.truncate(folder / "model.safetensors", 3)
    assert local_path(ledger, model.uri) == weights.parent
    shutil.rmtree(folder)
    assert weights.read_bytes() == b"weights"


def test_the_same_weights_of_the_same_stage_are_one_version(ledger: Ledger, tmp_path: Path) -> None:
    first, second, third = start(ledger), start(ledger), start(ledger)
    one = put(ledger, model_folder(tmp_path / "a"), first)
    other = put(ledger, model_folder(tmp_path / "b", b"others"), second, {"posttrain.stage_key": "l" * 64})
    assert (one.version, other.version, other.is_new) == ("1", "2", True)
    again = put(ledger, model_folder(tmp_path / "c"), third)
    assert (again.version, again.is_new, again.path) == ("1", False, one.path)
    assert str(ledger.client.get_model_version_by_alias(NAME, "challenger").version) == "1"
    assert ledger.client.get_model_version(NAME, "1").run_id == first  # lineage stays with the run that made it
    run = ledger.client.get_run(third)
    assert run.data.tags["posttrain.model_uri"] == one.uri and len(run.outputs.model_outputs) == 1


def test_equal_weights_of_another_stage_key_are_another_version(ledger: Ledger, tmp_path: Path) -> None:
    folder, run_id = model_folder(tmp_path / "a"), start(ledger)
    assert put(ledger, folder, run_id).version == "1"
    assert put(ledger, folder, run_id, {"posttrain.stage_key": "l" * 64}).version == "2"


DAMAGES = {
    "cut": lambda folder: os.truncate(folder / "model.safetensors", 3),
    "changed": lambda folder: (folder / "model.safetensors").write_bytes(b"weighty"),
    "without weights": lambda folder: (folder / "model.safetensors").unlink(),
    "without a configuration": lambda folder: (folder / "config.json").unlink(),
    "with a file more": lambda folder: (folder / "adapter.safetensors").write_bytes(b"foreign"),
    "gone": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_registering_again_repairs_a_damaged_version(ledger: Ledger, tmp_path: Path, damage) -> None:
    folder, run_id, said = model_folder(tmp_path / "a"), start(ledger), []
    first = put(ledger, folder, run_id)
    damage(Path(first.path))
    again = register(ledger, name=NAME, folder=folder, run_id=run_id, tags=KEY, metrics={}, say=said.append)
    assert (again.version, again.is_new, again.path) == ("1", False, first.path)
    assert sorted((file.name, file.read_bytes()) for file in Path(first.path).iterdir()) == [
        ("config.json", b"{}"),
        ("model.safetensors", b"weights"),
    ]
    assert said == [f"models:/{NAME}/1: its files were damaged or gone, and are repaired from {folder}"]


def stage_of(ledger: Ledger, weights: bytes = b"weights") -> Path:
    """Make the artifact of the stage that KEY names, and return its model."""
    stage = ledger.paths.stages / "sft" / KEY["posttrain.stage_key"]
    folder = model_folder(stage / "model", weights)
    files = {f"model/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    (stage / "stage.json").write_text(json.dumps({"files": files}))
    return folder


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_every_use_repairs_a_version_from_an_equal_stage_or_tells_that_it_is_lost(ledger: Ledger, damage) -> None:
    said: list[str] = []
    folder = stage_of(ledger)
    model = put(ledger, folder, start(ledger))
    damage(Path(model.path))
    assert local_path(ledger, f"models:/{NAME}@challenger", say=said.append) == Path(model.path)
    assert (Path(model.path) / "model.safetensors").read_bytes() == b"weights"
    assert said == [f"models:/{NAME}/1: its files were damaged or gone, and are repaired from {folder}"]

    damage(Path(model.path))
    os.truncate(folder / "model.safetensors", 3)  # the stage is damaged as well
    with pytest.raises(StorageError) as told:
        local_path(ledger, model.uri)
    assert str(told.value).startswith(f"models:/{NAME}/1 is lost: ")
    assert "and no stage here has the same weights. Restore that folder from a backup, or make the model again: " in str(
        told.value
    )


def test_a_version_that_was_one_file_with_its_damaged_stage_is_repaired(ledger: Ledger) -> None:
    """As stores of before have them: the version is a hard link, and one truncation takes both."""
    folder = stage_of(ledger)
    model = put(ledger, folder, start(ledger))
    weights = Path(model.path) / "model.safetensors"
    weights.unlink()
    os.link(folder / "model.safetensors", weights)
    os.truncate(folder / "model.safetensors", 3)
    shutil.rmtree(folder.parent)
    folder = stage_of(ledger)  # made again
    assert put(ledger, folder, start(ledger)).version == "1"
    assert weights.read_bytes() == b"weights" and not weights.samefile(folder / "model.safetensors")


def test_a_stage_that_is_damaged_after_it_was_made_is_not_registered(ledger: Ledger) -> None:
    folder = stage_of(ledger)
    os.truncate(folder / "model.safetensors", 3)
    with pytest.raises(StorageError, match="has not the files that its stage wrote: their digest differs"):
        put(ledger, folder, start(ledger))
    nothing_stays(ledger)


def nothing_stays(ledger: Ledger) -> None:
    """Neither half a model, nor a name without a version, nor a file."""
    assert ledger.client.search_logged_models([ledger.experiment_id]) == []
    assert ledger.client.search_registered_models() == []
    assert not [path for path in (ledger.paths.ledger / "artifacts").rglob("*") if path.is_file()]


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "where",
    ["tasks.tracking.model_files.os.fsync", "tasks.tracking.model_files._copy", "mlflow.MlflowClient.create_registered_model"],
)
def test_a_full_disk_leaves_nothing_half_made(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder, run_id = model_folder(tmp_path / "a"), start(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        with pytest.raises(StorageError, match="the disk is full"):
            put(ledger, folder, run_id)
    nothing_stays(ledger)
    assert put(ledger, folder, run_id).version == "1"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_name_that_got_no_version_goes_again(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    folder, run_id = model_folder(tmp_path / "a"), start(ledger)
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.create_model_version", fails)
        with pytest.raises((StorageError, KeyboardInterrupt)):
            put(ledger, folder, run_id)
    nothing_stays(ledger)
    put(ledger, folder, run_id)
    other = model_folder(tmp_path / "b", b"others")
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.create_model_version", fails)
        with pytest.raises((StorageError, KeyboardInterrupt)):
            put(ledger, other, run_id)
    assert [model.name for model in ledger.client.search_registered_models()] == [NAME], "a name that has a version stays"
    assert len(ledger.client.search_logged_models([ledger.experiment_id])) == 1


def test_the_digest_comes_from_the_stages_records_or_the_files(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "stage" / "model")
    hashed = weights_digest(folder)
    digests = {
        "config.json": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",  # sha256 of {}
        "model.safetensors": hashlib.sha256(b"weights").hexdigest(),
    }
    files = {f"model/{name}": digest for name, digest in digests.items()} | {"samples.jsonl": "0" * 64}
    (tmp_path / "stage" / "stage.json").write_text(json.dumps({"files": files}))
    assert weights_digest(folder) == hashed
    (folder / "model.safetensors").write_bytes(b"others")
    (tmp_path / "stage" / "stage.json").write_text(json.dumps({"files": {}}))
    assert weights_digest(folder) != hashed


def test_refusals(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ContractError) as broken:
        put(ledger, tmp_path / "empty", start(ledger))
    assert str(broken.value) == (
        f"{tmp_path / 'empty'} must hold config.json and *.safetensors to be registered. Delete it, then run again"
    )
    model = put(ledger, model_folder(tmp_path / "model"), start(ledger))
    assert local_path(ledger, "models:/posttrain-world@challenger") == Path(model.path)
    for uri, message in {
        "posttrain-world": "a model is written models:/name/version or models:/name@alias, got posttrain-world",
        "models:/posttrain-word/1": "there is no model posttrain-word; did you mean posttrain-world?",
        "models:/posttrain-world/7": (
            "there is no models:/posttrain-world/7; posttrain-world has the versions 1 and the aliases challenger"
        ),
        "models:/posttrain-world@champion": (
            "there is no models:/posttrain-world@champion; posttrain-world has the versions 1 and the aliases challenger"
        ),
    }.items():
        with pytest.raises(RequestError) as refusal:
            local_path(ledger, uri)
        assert str(refusal.value) == message
    shutil.rmtree(model.path)
    with pytest.raises(StorageError) as gone:
        local_path(ledger, model.uri)
    run_id = ledger.client.get_model_version(NAME, "1").run_id
    assert str(gone.value) == (
        f"models:/posttrain-world/1 is lost: {model.path} lacks config.json or *.safetensors, and no stage here has the same "
        "weights. Restore that folder from a backup, or make the model again: make pipeline METHOD=… DATA=world "
        f"(run {run_id} in MLflow has its settings). Other versions are not touched"
    )


def test_the_default_store_of_mlflow_is_put_back(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all.db")
    put(ledger, model_folder(tmp_path / "model"), start(ledger))
    assert os.environ["MLFLOW_TRACKING_URI"] == mlflow.get_tracking_uri() == "sqlite:////nowhere/at/all.db"


PLAIN_TOOLS = """
import sys
from mlflow.artifacts import download_artifacts
from transformers import AutoModelForCausalLM
path = download_artifacts("models:/posttrain-world@challenger")
print(path)
print(AutoModelForCausalLM.from_pretrained(path).num_parameters())
"""


@pytest.mark.slow
def test_a_moved_registry_serves_plain_mlflow_and_transformers(ledger: Ledger, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1
    )
    made = LlamaForCausalLM(config)
    made.save_pretrained(tmp_path / "repo" / "artifact" / "model")
    put(ledger, tmp_path / "repo" / "artifact" / "model", start(ledger))
    moved = (tmp_path / "repo").rename(tmp_path / "moved away")
    reopened = Ledger.open(Paths(moved), TrackingSettings())
    expected = local_path(reopened, "models:/posttrain-world/1")
    assert expected.is_relative_to(moved)
    answer = subprocess.run(
        [sys.executable, "-c", PLAIN_TOOLS],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": ledger_store.store_uri(Paths(moved)), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    path, parameters = answer.stdout.split("\n")[:2]
    assert (Path(path), int(parameters)) == (expected, made.num_parameters())


def test_a_registered_reward_model_is_read_in_place_from_this_store(ledger, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = model_folder(tmp_path / "reward")
    (folder / "config.json").write_text('{"id2label": {"0": "LABEL_0"}}')
    model = put(ledger, folder, start(ledger))
    told = reward_source(f"model:models:/{NAME}@challenger", partial_credit=0.0, registered=lambda uri: local_path(ledger, uri))
    assert told.path == Path(model.path)
    with pytest.raises(RequestError, match="posttrain-world has the versions 1"):
        reward_source(f"model:models:/{NAME}/7", partial_credit=0.0, registered=lambda uri: local_path(ledger, uri))
    assert not (tmp_path / "mlflow.db").exists() and not (tmp_path / "mlruns").exists(), "no store of MLflow's own making"


def test_descriptions_begin_with_what_came_out(ledger: Ledger, tmp_path: Path) -> None:
    """A version keeps its first sentence, plain since its list shows it raw; the registered model has the last verdict."""
    model = put(ledger, model_folder(tmp_path / "model"), start(ledger))
    describe_model(ledger, model, verdict="DPO helped: +3.0 points [1.0, 5.0].", run_name="dpo on world, seed 0")
    again = put(ledger, model_folder(tmp_path / "again"), start(ledger))
    describe_model(ledger, again, verdict="Something else.", run_name="dpo on world, seed 0")
    version, registered = ledger.client.get_model_version(NAME, "1"), ledger.client.get_registered_model(NAME)
    assert version.description == "DPO helped: +3.0 points [1.0, 5.0]. Made by dpo on world, seed 0."
    assert registered.description == (
        "**Something else.**\n\nVersion 1, the alias `challenger`, is the model of the last pipeline, dpo on world, seed 0."
    )


def test_a_comparisons_verdict_stays_in_front_of_later_pipelines(ledger: Ledger, tmp_path: Path) -> None:
    model = put(ledger, model_folder(tmp_path / "model"), start(ledger))
    ledger.client.update_registered_model(NAME, "**ReFT is the best**")
    ledger.client.set_registered_model_tag(NAME, COMPARISON_TAG, "20261128-174500-3f2a")
    describe_model(ledger, model, verdict="DPO helped.", run_name="dpo on world, seed 0")
    assert ledger.client.get_registered_model(NAME).description == "**ReFT is the best**"
    assert ledger.client.get_model_version(NAME, "1").description == "DPO helped. Made by dpo on world, seed 0."
