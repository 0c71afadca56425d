"""Registered models: every weight that outlives a run is a version of an MLflow model, loadable by plain transformers.

`models:/posttrain-world/3` is a Hugging Face folder with its files at the top: no pickle, no MLflow flavour around it.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.errors import ContractError, RequestError, StorageError, did_you_mean
from tasks.ledger_store import plain_errors
from tasks.tracking import Ledger

CHALLENGER = "challenger"
WEIGHTS_TAG = "posttrain.weights_sha256"
STAGE_KEY_TAG = "posttrain.stage_key"
MODEL_TAG = "posttrain.model_uri"


@dataclass(frozen=True)
class RegisteredModel:
    """One version of a registered model, and where its files lie on this machine."""

    name: str
    version: str
    uri: str
    path: str
    is_new: bool


@plain_errors
def register(
    ledger: Ledger,
    *,
    name: str,
    folder: Path,
    run_id: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float | None],
) -> RegisteredModel:
    """Register a Hugging Face folder as the newest version of `name`, alias `challenger`.

    The same weights of the same stage key are one version, whoever asks: its `run_id` stays the pipeline that first made
    it, since that is where its lineage lies, and each later pipeline that arrives at it lists it among its models and in its
    tag `posttrain.model_uri`. In the local store the files are hard links to the stage's artifact (a copy across disks), so
    a version costs no space, and the artifact can be deleted without harm.

    Args:
        ledger: where.
        name: `posttrain-<dataset>`.
        folder: config.json and *.safetensors at its top.
        run_id: of the pipeline's parent run.
        tags: of the version; `posttrain.stage_key` tells which stage made the weights.
        metrics: of the pipeline; None is left out.

    Raises:
        ContractError: `folder` is not a model that transformers can load.
        StorageError: the store cannot be written.
    """
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise ContractError(f"{folder} must hold config.json and *.safetensors to be registered. Delete it, then run again")
    tags = {**tags, WEIGHTS_TAG: weights_digest(folder)}
    found = _same_version(ledger, name=name, tags=tags)
    version, model_id = found or _new_version(ledger, name=name, folder=folder, run_id=run_id, tags=tags)
    _link_to_run(ledger, run_id=run_id, model_id=model_id, metrics=metrics)
    ledger.client.set_registered_model_alias(name, CHALLENGER, version)
    uri = f"models:/{name}/{version}"
    ledger.client.set_tag(run_id, MODEL_TAG, uri)
    path = local_path(ledger, uri)
    return RegisteredModel(name=name, version=version, uri=uri, path=str(path), is_new=found is None)


@plain_errors
def local_path(ledger: Ledger, uri: str) -> Path:
    """Return a folder that `AutoModelForCausalLM.from_pretrained` loads, for `models:/name/3` or `models:/name@challenger`.

    The local store is read in place; from a server the files are fetched once, below `.posttrain/models/`.

    Raises:
        RequestError: there is no such model, version or alias.
        StorageError: the registry knows the version but its files are gone.
    """
    name, version = _name_and_version(ledger, uri)
    source = Path(ledger.client.get_model_version_download_uri(name, version))
    if source.is_absolute():
        if not (source / "config.json").is_file():
            raise StorageError(f"{uri} lies in {source}, which has no config.json. Restore it, or run the pipeline again")
        return source
    target = ledger.places.store / "models" / name / version
    if not target.exists():
        _fetch(ledger, uri=f"models:/{name}/{version}", target=target)
    return target


def weights_digest(folder: Path) -> str:
    """Return the sha256 of a model folder's names and contents, from its stage's records where there are any."""
    facts = folder.parent / "stage.json"
    if facts.is_file():
        files = json.loads(facts.read_text()).get("files", {})
        listed = {Path(name).name: digest for name, digest in files.items() if Path(name).parent == Path(folder.name)}
    else:
        listed = {}
    if not listed:
        listed = {file.name: _sha256(file) for file in folder.iterdir() if file.is_file()}
    return hashlib.sha256(json.dumps(sorted(listed.items())).encode()).hexdigest()


def _same_version(ledger: Ledger, *, name: str, tags: Mapping[str, str]) -> tuple[str, str] | None:
    """Find (version, model id) of these weights of this stage key whose files are still there."""
    condition = f"name = '{name}' and tags.`{WEIGHTS_TAG}` = '{tags[WEIGHTS_TAG]}'"
    for version in ledger.client.search_model_versions(condition):
        source = Path(ledger.client.get_model_version_download_uri(name, version.version))
        is_whole = not source.is_absolute() or ((source / "config.json").is_file() and any(source.glob("*.safetensors")))
        if version.tags.get(STAGE_KEY_TAG) == tags.get(STAGE_KEY_TAG) and is_whole:
            return str(version.version), str(version.source).removeprefix("models:/")
    return None


def _new_version(ledger: Ledger, *, name: str, folder: Path, run_id: str, tags: Mapping[str, str]) -> tuple[str, str]:
    from mlflow.exceptions import MlflowException

    client = ledger.client
    model = client.create_logged_model(ledger.experiment_id, name=name, source_run_id=run_id, tags=dict(tags))
    if ledger.is_local:
        shutil.copytree(folder, model.artifact_location, copy_function=_link_or_copy, dirs_exist_ok=True)
    else:
        client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"models:/{model.model_id}"
    with ledger.as_default_store():  # mlflow 3.17 looks `source` up there, whatever the client
        version = client.create_model_version(name, source, run_id=run_id, tags=dict(tags), model_id=model.model_id)
    client.set_logged_model_tags(
        model.model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": version.version}])}
    )
    return str(version.version), str(model.model_id)


def _link_to_run(ledger: Ledger, *, run_id: str, model_id: str, metrics: Mapping[str, float | None]) -> None:
    """Show the model on the run's page, and the run's metrics on the model's."""
    from mlflow.entities import LoggedModelOutput

    ledger.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    defined = {name: value for name, value in metrics.items() if value is not None}
    ledger.log_metrics(run_id, defined, model_id=model_id)


def _name_and_version(ledger: Ledger, uri: str) -> tuple[str, str]:
    from mlflow.exceptions import MlflowException

    parts = re.fullmatch(r"models:/([^/@]+)(?:/(\d+)|@([A-Za-z0-9_.-]+))", uri)
    if parts is None:
        raise RequestError(f"a model is written models:/name/version or models:/name@alias, got {uri}")
    name, number, alias = parts.groups()
    try:
        found: Any = (
            ledger.client.get_model_version(name, number) if number else ledger.client.get_model_version_by_alias(name, alias)
        )
    except MlflowException:
        known = [model.name for model in ledger.client.search_registered_models()]
        if name not in known:
            raise RequestError(f"there is no model {name}{did_you_mean(name, known)}") from None
        versions = sorted(int(version.version) for version in ledger.client.search_model_versions(f"name = '{name}'"))
        aliases = sorted(ledger.client.get_registered_model(name).aliases)
        raise RequestError(
            f"there is no {uri}; {name} has the versions {', '.join(map(str, versions))} and the aliases {', '.join(aliases)}"
        ) from None
    return name, str(found.version)


def _fetch(ledger: Ledger, *, uri: str, target: Path) -> None:
    from mlflow.artifacts import download_artifacts

    unfinished = target.with_name(f"{target.name}.{os.getpid()}.new")
    unfinished.mkdir(parents=True)
    with ledger.as_default_store():
        download_artifacts(artifact_uri=uri, dst_path=str(unfinished))
    try:
        unfinished.rename(target)
    except OSError:  # another process was quicker
        if not target.exists():
            raise
        shutil.rmtree(unfinished)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
