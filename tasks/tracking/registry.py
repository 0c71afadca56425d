"""Registered models: every weight that outlives a run is a version of an MLflow model, loadable by plain transformers.

`models:/posttrain-world/3` is a Hugging Face folder with its files at the top: no pickle, no MLflow flavour around it.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.errors import ContractError, RequestError, StorageError, did_you_mean
from posttrain.promotion.moves import CHALLENGER
from posttrain.promotion.standing import Standing
from tasks.tracking.killed_runs import VERSION_TAG, discard, settle_model
from tasks.tracking.ledger import Ledger
from tasks.tracking.model_files import has_digest, model_digest, put_files
from tasks.tracking.store import plain_errors
from tasks.workspace.artifacts import file_digest
from tasks.workspace.locks import exclusive

WEIGHTS_TAG = "posttrain.weights_sha256"
STAGE_KEY_TAG = "posttrain.stage_key"
COMPARISON_TAG = "posttrain.comparison"
"""Of a registered model: the comparison whose verdict its description begins with."""
MODEL_TAG = "posttrain.model_uri"


@dataclass(frozen=True)
class RegisteredModel:
    """One version of a registered model, and where its files lie on this machine."""

    name: str
    version: str
    uri: str
    path: str
    is_new: bool
    standing: Standing | None = None
    """Whether it became challenger, and why; None where nobody was to say, as of a reward model, which always does."""


def moves_lock(name: str) -> str:
    """Return the name of the lock that is held while aliases of a registered model move."""
    return f"aliases-{name}"


@plain_errors
def register(
    ledger: Ledger,
    *,
    name: str,
    folder: Path,
    run_id: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float | None],
    stand: Callable[[str], Standing] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> RegisteredModel:
    """Register a Hugging Face folder as the newest version of `name`, alias `challenger` unless a better one has it.

    The same weights of the same stage key are one version, whoever asks: its `run_id` stays the pipeline that first made
    it, since that is where its lineage lies, and each later pipeline that arrives at it lists it among its models and in its
    tag `posttrain.model_uri`. The version's files are its own: a copy that shares blocks with the stage's artifact where the
    file system can, a plain copy elsewhere (docs/decisions/0016-stores.md). They are checked against the digest of what was
    asked for before anything points to them, and a version whose files are damaged is repaired from `folder`.

    Args:
        ledger: where.
        name: `posttrain-<dataset>`.
        folder: config.json and *.safetensors at its top.
        run_id: of the pipeline's parent run.
        tags: of the version; `posttrain.stage_key` tells which stage made the weights.
        metrics: of the pipeline; None is left out.
        stand: whether a version becomes challenger (tasks/promotion/standings.py); without one each does.
        say: is told one line where a version is repaired.

    Raises:
        ContractError: `folder` is not a model that transformers can load.
        StorageError: the store cannot be written, or the files of the artifact are not those that the stage wrote.
    """
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise ContractError(f"{folder} must hold config.json and *.safetensors to be registered. Delete it, then run again")
    tags = {**tags, WEIGHTS_TAG: weights_digest(folder)}
    found = _same_version(ledger, name=name, tags=tags, folder=folder, say=say)
    version, model_id = found or _new_version(ledger, name=name, folder=folder, run_id=run_id, tags=tags)
    _link_to_run(ledger, run_id=run_id, model_id=model_id, metrics=metrics)
    # what the challenger is may not change between the comparison and the move
    with exclusive(ledger.paths, moves_lock(name)):
        standing = stand(version) if stand else None
        if standing is None or standing.is_challenger:
            ledger.client.set_registered_model_alias(name, CHALLENGER, version)
    uri = f"models:/{name}/{version}"
    ledger.client.set_tag(run_id, MODEL_TAG, uri)
    source = Path(ledger.client.get_model_version_download_uri(name, version))
    path = source if source.is_absolute() else local_path(ledger, uri, say=say)  # what lies here was checked just now
    return RegisteredModel(name=name, version=version, uri=uri, path=str(path), is_new=found is None, standing=standing)


@plain_errors
def describe_model(ledger: Ledger, model: RegisteredModel, *, verdict: str, run_name: str) -> None:
    """Let a version's description, and its registered model's, begin with what came out.

    A version keeps its first description: its lineage is that of the pipeline which made it. The registered model has the last
    pipeline's verdict, until a comparison's stands there (tasks/tracking/comparison.py).

    Args:
        ledger: where.
        model: as `register` returned it.
        verdict: one plain sentence, since the list of versions shows a description raw and cut.
        run_name: of the pipeline.
    """
    client = ledger.client
    if not client.get_model_version(model.name, model.version).description:
        client.update_model_version(model.name, model.version, f"{verdict} Made by {run_name}.")
    if COMPARISON_TAG not in client.get_registered_model(model.name).tags:
        told = f"Version {model.version}, the alias `{CHALLENGER}`, is the model of the last pipeline, {run_name}."
        if model.standing:
            why = model.standing.why.partition("; ")[0]
            told = f"Version {model.version} is the model of the last pipeline, {run_name}; it {why}."
        client.update_registered_model(model.name, f"**{verdict}**\n\n{told}")


@plain_errors
def local_path(ledger: Ledger, uri: str, *, say: Callable[[str], None] = lambda line: None) -> Path:
    """Return a folder that `AutoModelForCausalLM.from_pretrained` loads, for `models:/name/3` or `models:/name@challenger`.

    The local store is read in place; from a server the files are fetched once, below `.posttrain/models/`. Either way they are
    compared with the digest that the version was registered with, and repaired where an equal stage, or the server, has them.

    Raises:
        RequestError: there is no such model, version or alias.
        StorageError: the registry knows the version but its files are gone or damaged, and nothing here can repair them.
    """
    name, number = name_and_version(ledger, uri)
    version = ledger.client.get_model_version(name, number)
    wanted = version.tags.get(WEIGHTS_TAG, "")
    source = Path(ledger.client.get_model_version_download_uri(name, number))
    if source.is_absolute():
        trouble = trouble_of(source, wanted)
        if trouble and not _repaired(ledger, version, source=source, say=say):
            raise _lost(version, uri=f"models:/{name}/{number}", trouble=trouble)
        return source
    target = ledger.paths.store / "models" / name / number
    if target.exists() and trouble_of(target, wanted):
        say(f"models:/{name}/{number}: the copy in {target} is damaged, so it is fetched again")
        shutil.rmtree(target)
    if not target.exists():
        _fetch(ledger, uri=f"models:/{name}/{number}", target=target)
        if trouble := trouble_of(target, wanted):
            shutil.rmtree(target)
            raise _lost(version, uri=f"models:/{name}/{number}", trouble=trouble)
    return target


def trouble_of(folder: Path, wanted: str) -> str:
    """Return what is wrong with a version's files, "" where they are what was registered.

    Args:
        folder: of the version.
        wanted: the digest that it was registered with; "" for a version that somebody else registered, which has none.
    """
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        return f"{folder} lacks config.json or *.safetensors"
    if wanted and not has_digest(folder, wanted):
        return f"the files in {folder} are not those that were registered: their digest differs"
    return ""


def _repaired(ledger: Ledger, version: Any, *, source: Path, say: Callable[[str], None]) -> bool:
    """Put the files of an equal stage in the place of damaged ones, where a stage here has them."""
    wanted, key = version.tags.get(WEIGHTS_TAG, ""), version.tags.get(STAGE_KEY_TAG, "")
    if not (wanted and key):
        return False
    for facts in ledger.paths.stages.glob(f"*/{key}/stage.json"):
        for folder in (one.parent for one in facts.parent.glob("*/config.json")):
            if has_digest(folder, wanted):
                _repair(version, source=source, folder=folder, say=say)
                return True
    return False


def _repair(version: Any, *, source: Path, folder: Path, say: Callable[[str], None]) -> None:
    put_files(folder, source, wanted=version.tags[WEIGHTS_TAG])
    say(f"models:/{version.name}/{version.version}: its files were damaged or gone, and are repaired from {folder}")


def _lost(version: Any, *, uri: str, trouble: str) -> StorageError:
    method = version.tags.get("posttrain.method", "…")
    data = version.name.removeprefix("posttrain-").removesuffix("-reward")
    return StorageError(
        f"{uri} is lost: {trouble}, and no stage here has the same weights. Restore that folder from a backup, or make the "
        f"model again: make pipeline METHOD={method} DATA={data} (run {version.run_id} in MLflow has its settings). Other "
        "versions are not touched"
    )


def weights_digest(folder: Path) -> str:
    """Return the sha256 of a model folder's names and contents, from its stage's records where there are any."""
    listed: dict[str, str] = {}
    with suppress(OSError, ValueError, AttributeError):
        files = json.loads((folder.parent / "stage.json").read_text(encoding="utf-8")).get("files", {})
        listed = {Path(name).name: digest for name, digest in files.items() if Path(name).parent == Path(folder.name)}
    return model_digest(listed) if listed else digest_of_files(folder)


def digest_of_files(folder: Path) -> str:
    """Return the sha256 of a model folder's names and contents as they lie there now, but for the card."""
    return model_digest({file.name: file_digest(file) for file in folder.iterdir() if file.is_file()})


def _same_version(
    ledger: Ledger, *, name: str, tags: Mapping[str, str], folder: Path, say: Callable[[str], None]
) -> tuple[str, str] | None:
    """Find (version, model id) of these weights of this stage key, repaired from `folder` if its files are damaged."""
    condition = f"name = '{name}' and tags.`{WEIGHTS_TAG}` = '{tags[WEIGHTS_TAG]}'"
    for version in ledger.client.search_model_versions(condition):
        if version.tags.get(STAGE_KEY_TAG) != tags.get(STAGE_KEY_TAG):
            continue
        source = Path(ledger.client.get_model_version_download_uri(name, version.version))
        if source.is_absolute():
            if trouble_of(source, tags[WEIGHTS_TAG]):
                _repair(version, source=source, folder=folder, say=say)
        else:
            try:
                local_path(ledger, f"models:/{name}/{version.version}", say=say)
            except StorageError:  # the server's files are not ours to mend: a new version takes its place
                continue
        return str(version.version), str(version.source).removeprefix("models:/")
    return None


def _new_version(ledger: Ledger, *, name: str, folder: Path, run_id: str, tags: Mapping[str, str]) -> tuple[str, str]:
    """Log the model and make it a version; where that fails half-way, or is interrupted, nothing of it stays."""
    from mlflow.exceptions import MlflowException

    client = ledger.client
    model = client.create_logged_model(ledger.experiment_id, name=name, source_run_id=run_id, tags={**tags, VERSION_TAG: "none"})
    is_new_name = False
    try:
        if ledger.is_local:
            put_files(folder, Path(model.artifact_location), wanted=tags[WEIGHTS_TAG])
        else:
            client.log_model_artifacts(model.model_id, str(folder))
        try:
            client.create_registered_model(name)
            is_new_name = True
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"models:/{model.model_id}"
        with ledger.as_default_store():  # mlflow 3.17 looks `source` up there, whatever the client
            version = client.create_model_version(name, source, run_id=run_id, tags=dict(tags), model_id=model.model_id)
    except BaseException:
        with suppress(Exception):  # what the disk refuses now is swept by the next run (tasks/tracking/killed_runs.py)
            discard(ledger, model)
            if is_new_name:
                client.delete_registered_model(name)
        raise
    client.set_logged_model_tags(
        model.model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": version.version}])}
    )
    settle_model(ledger, model.model_id)
    return str(version.version), str(model.model_id)


def _link_to_run(ledger: Ledger, *, run_id: str, model_id: str, metrics: Mapping[str, float | None]) -> None:
    """Show the model on the run's page, and the run's metrics on the model's."""
    from mlflow.entities import LoggedModelOutput

    outputs = ledger.client.get_run(run_id).outputs
    if model_id not in {output.model_id for output in (outputs.model_outputs if outputs else ())}:
        ledger.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    defined = {name: value for name, value in metrics.items() if value is not None}
    ledger.log_metrics(run_id, defined, model_id=model_id)


def name_and_version(ledger: Ledger, uri: str) -> tuple[str, str]:
    """Return the registered model and the version that `models:/name/3` or `models:/name@alias` is.

    Raises:
        RequestError: there is no such model, version or alias.
    """
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
