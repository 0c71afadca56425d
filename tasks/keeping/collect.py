"""What a backup takes: everything that cannot be made again, and what somebody still needs at once.

Runs, versions, aliases and history are read from a copy of MLflow's database as of one moment; the files that it names are only
added to while pipelines run, so they can be copied afterwards.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posttrain.keeping.manifest import ARTIFACTS, SECRETS, SETTINGS, is_inside, named_versions
from tasks.keeping.databases import reading
from tasks.keeping.exchange import STAGING
from tasks.tracking.model_files import has_digest
from tasks.tracking.registry import WEIGHTS_TAG
from tasks.workspace.artifacts import find
from tasks.workspace.paths import Paths

WEIGHTS = (".safetensors", ".pt", ".bin", ".gguf")
"""Endings of files that a stage is large by, and that training makes again."""
OURS = ("schedules", "labels")
"""Folders of `.posttrain/` that hold what people said."""
PROXIED = "mlflow-artifacts:/"
"""How MLflow's server names the folder of its artifacts to its clients."""
UNFINISHED = re.compile(r"^\..*\.(new|part)$|\.part-\d+$|^\.incoming$")
"""Names of what is still being written."""


@dataclass
class Collected:
    """What goes into a backup.

    Attributes:
        files: where each lies, by its path from the root.
        links: symbolic links by path, with what they hold.
        contents: counts by kind.
        left_out: what does not go in, a sentence each.
    """

    files: dict[str, Path] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    contents: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add_tree(self, paths: Paths, folder: Path) -> None:
        """Take every finished file below a folder of the repository."""
        for file in _walk(folder):
            path = str(file.relative_to(paths.root))
            if file.is_symlink():
                target = str(file.readlink())
                if is_inside(target):
                    self.links[path] = target
            elif file.is_file():
                self.files[path] = file


@dataclass(frozen=True)
class VersionFiles:
    """A version of a registered model, and where the copy of the ledger says that its files lie."""

    name: str
    version: str
    location: str
    weights: str

    @property
    def uri(self) -> str:
        """As MLflow writes it."""
        return f"models:/{self.name}/{self.version}"


def collect(paths: Paths, *, ledgers: Sequence[Path], prefects: Sequence[Path], labels: Iterable[str], is_all: bool) -> Collected:
    """Return what goes into a backup beside the databases.

    Args:
        paths: of the repository.
        ledgers: copies of MLflow's databases, the file here and a view of a PostgreSQL: pipelines may have written to both.
        prefects: those of Prefect's.
        labels: stores of labels that the settings name.
        is_all: also what can be made again at a cost: every version's files, every stage, every version of the data.
    """
    found = Collected()
    found.add_tree(paths, paths.reports)
    found.contents["reports"] = sum(path.endswith(".json") and "/latest" not in path for path in found.files)
    if (paths.root / SETTINGS).is_file():
        found.files[SETTINGS] = paths.root / SETTINGS
    named = named_versions(_texts(paths, prefects))
    stores = set(labels)
    for ledger in ledgers:
        stores |= _add_ledger(paths, found, ledger, named, is_all=is_all)
    _add_stages(paths, found, is_all=is_all)
    _add_datasets(paths, found, is_all=is_all)
    _add_labels(paths, found, sorted(filter(None, stores)))
    found.add_tree(paths, paths.labelling)
    if batches := len(list(paths.labelling.glob("[!.]*/[!.]*/batch.json"))):
        found.contents["batches"] = batches
    for name in OURS:
        found.add_tree(paths, paths.store / name)
    found.files |= {path: paths.root / path for path in SECRETS if (paths.root / path).is_file()}
    if prefects:
        found.contents["schedules"] = sum(len(deployments_in(prefect)) for prefect in prefects)
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """Yield files and links below a folder, but for what is being written."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if UNFINISHED.search(path.name) or path.name.startswith(STAGING):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path


def _texts(paths: Paths, prefects: Sequence[Path]) -> Iterator[str]:
    """Yield the texts that may name a version: reports, settings, and what schedules are given."""
    for file in (*sorted(paths.reports.rglob("*.json")), paths.root / SETTINGS):
        with suppress(OSError):
            yield file.read_text(encoding="utf-8", errors="replace")
    for prefect in prefects:
        yield from deployments_in(prefect)


def deployments_in(prefect: Path) -> list[str]:
    """Return the parameters of each deployment of a copy of Prefect's database."""
    with reading(prefect) as opened:
        columns = {row[1] for row in opened.execute("PRAGMA table_info(deployment)")}
        return [str(row[0]) for row in opened.execute("SELECT parameters FROM deployment")] if columns else []


# --- the ledger -------------------------------------------------------------------------------------------------------


def _add_ledger(paths: Paths, found: Collected, ledger: Path, named: set[tuple[str, str]], *, is_all: bool) -> set[str]:
    """Take the artifacts of runs and the files of versions that are needed; return the stores of labels that runs name."""
    with reading(ledger) as opened:
        row = opened.execute("SELECT artifact_location FROM experiments ORDER BY experiment_id LIMIT 1").fetchone()
        runs = {str(run) for (run,) in opened.execute("SELECT run_uuid FROM runs")}
        stores = {str(value) for (value,) in opened.execute("SELECT DISTINCT value FROM params WHERE key = 'labels.file'")}
        aliased = {
            (str(name), str(number)) for name, number in opened.execute("SELECT name, version FROM registered_model_aliases")
        }
        versions = _versions(opened)
    base, needed, models = str(row[0]) if row else "", aliased | named, set[str]()
    for version in versions:
        if not is_all and (version.name, version.version) not in needed:
            found.left_out.append(f"{version.uri}: no alias and no report names it (ALL=1 takes it)")
            continue
        folder = local_folder(paths, version.location, base=base)
        if trouble := _trouble(folder, version.weights):
            found.left_out.append(f"{version.uri}: {trouble}")
        elif folder:
            models.add(folder.parent.name if folder.name == "artifacts" else folder.name)
    artifacts = paths.root / ARTIFACTS
    for file in _walk(artifacts):
        parts = file.relative_to(artifacts).parts
        # models/<id>/…; behind a server <experiment>/models/<id>/…
        top = parts[1:] if parts[0].isdecimal() else parts
        model = top[1] if top[0] == "models" and len(top) > 1 else ""
        # a run that began after the copy was made is not in it
        if (model and model not in models) or (re.fullmatch("[0-9a-f]{32}", parts[0]) and parts[0] not in runs):
            continue
        if file.is_file() and not file.is_symlink():
            found.files[str(file.relative_to(paths.root))] = file
    for kind, count in (("runs", len(runs)), ("versions", len(models))):
        found.contents[kind] = found.contents.get(kind, 0) + count
    return stores


def _versions(opened: Any) -> list[VersionFiles]:
    """Return every version that was not deleted."""
    places = {str(model): str(place) for model, place in opened.execute("SELECT model_id, artifact_location FROM logged_models")}
    tags = opened.execute("SELECT name, version, value FROM model_version_tags WHERE key = ?", (WEIGHTS_TAG,))
    weights = {(str(name), str(number)): str(value) for name, number, value in tags}
    told = opened.execute(
        "SELECT name, version, source, storage_location FROM model_versions WHERE current_stage <> 'Deleted_Internal' "
        "ORDER BY name, version"
    )
    return [
        VersionFiles(
            name=str(name),
            version=str(number),
            location=places.get(str(source).removeprefix("models:/"), str(place or source)),
            weights=weights.get((str(name), str(number)), ""),
        )
        for name, number, source, place in told
    ]


def local_folder(paths: Paths, location: str, *, base: str) -> Path | None:
    """Return where an artifact's location in the ledger lies here, None where it is elsewhere.

    Args:
        paths: of the repository.
        location: as the ledger has it.
        base: of the local store, as it was when the ledger was opened last: a repository may have been moved since.
    """
    if base.startswith("/") and location.startswith(f"{base}/"):
        return paths.root / ARTIFACTS / location.removeprefix(f"{base}/")
    if location.startswith(PROXIED):
        return paths.root / ARTIFACTS / location.removeprefix(PROXIED).lstrip("/")
    return None


def _trouble(folder: Path | None, weights: str) -> str:
    """Return why a version's files do not go in, "" where they do."""
    if folder is None:
        return "its files lie on another store than mlflow/store, whose keeper backs them up"
    if not folder.is_dir():
        return "its files are gone"
    if weights and not has_digest(folder, weights):
        return "its files are not those that were registered: they are damaged (make doctor says what can be done)"
    return ""


# --- stages, data, labels ---------------------------------------------------------------------------------------------


def _add_stages(paths: Paths, found: Collected, *, is_all: bool) -> None:
    """Take what reports stand on: the finished stages that they name, but for those with weights, which training makes again."""
    if is_all:
        wanted = {(file.parent.parent.name, file.parent.name) for file in paths.stages.glob("*/*/stage.json")}
    else:
        wanted = {stage for file in paths.reports.glob("*.json") for stage in stages_of_report(file)}
    count = 0
    for stage, key in sorted(wanted):
        folder = paths.stages / stage / key
        if ".part-" in key or not folder.is_dir() or (not is_all and _has_weights(folder)):
            continue
        artifact, trouble = find(paths, stage, key)
        if artifact:
            found.add_tree(paths, folder)
            count += 1
        elif trouble:
            found.left_out.append(trouble.removesuffix(", so it is made again"))
    found.contents["stages"] = count


def stages_of_report(file: Path) -> list[tuple[str, str]]:
    """Return name and key of each stage that a pipeline's report names; none of a file that is no such report."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        told = json.loads(file.read_text(encoding="utf-8"))
        return [(str(stage["name"]), str(stage["key"])) for stage in told["stages"]]
    return []


def _has_weights(folder: Path) -> bool:
    return any(file.suffix in WEIGHTS for file in folder.rglob("*"))


def _add_datasets(paths: Paths, found: Collected, *, is_all: bool) -> None:
    """Take the datasets that people brought, edited or labelled; the others are made again from the settings."""
    accepted: Sequence[str] = ()
    memory = paths.store / "dvc.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        accepted = list(json.loads(memory.read_text(encoding="utf-8"))["accepted"])
    count = 0
    for folder in sorted(path for path in paths.data.glob("*") if path.is_dir()):
        is_edited = any(path.startswith(f"data/{folder.name}/") for path in accepted) or any(folder.glob("*.edited-*"))
        if is_edited or any(
            (folder / name).exists() for file in ("records.jsonl", "labels.jsonl") for name in (file, f"{file}.dvc")
        ):
            found.add_tree(paths, folder)
            count += 1
    if memory.is_file():
        found.files[str(memory.relative_to(paths.root))] = memory
    if is_all:
        found.add_tree(paths, paths.root / ".dvc" / "cache")
    found.contents["datasets"] = count


def _add_labels(paths: Paths, found: Collected, stores: Sequence[str]) -> None:
    """Take the stores of labels that settings or runs name, with their lists of annotators."""
    root, count = paths.root.resolve(), 0
    for name in stores:
        file = (root / name).resolve()
        if not file.is_file():
            continue
        if not file.is_relative_to(root) or file.suffix != ".jsonl":
            found.left_out.append(
                f"labels in {name}: they lie outside the repository, or do not end in .jsonl; copy them yourself"
            )
            continue
        for one in (file, file.with_name(f"{file.name}.annotators.json")):
            if one.is_file():
                found.files.setdefault(str(one.relative_to(root)), one)
        count += 1
    found.contents["labels"] = count
