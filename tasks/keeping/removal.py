"""What retention lets go, as single removals in an order in which a kill at any moment harms nothing.

Nothing is remembered between two cleans: each finds anew what is old, and so goes on with what a killed one left. Therefore what
tells that something is old goes last: a pipeline's parent run after its stages' runs, its files and its report. A version is
marked as none before it is taken out of the registry, and its files go after that: what is left of it is swept as the rest of a
registration that failed (tasks/tracking/killed_runs.py). A stage leaves its place in one step.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from posttrain.keeping.retention import Pipeline, Retention
from tasks.keeping.exchange import notes_folder
from tasks.keeping.facts import Facts, RegisteredVersion, Run, report_files
from tasks.tracking.killed_runs import VERSION_TAG, discard
from tasks.tracking.ledger import Ledger
from tasks.tracking.store import artifacts_folder, plain_errors
from tasks.workspace.paths import Paths

PIPELINES, VERSIONS, STAGES = "pipelines", "versions", "stages"
CHECKPOINTS, COPIES, LOGS, PREFECT_RUNS = "checkpoints", "copies of versions", "logs", "Prefect's runs"
SAYS = {
    VERSIONS: "models that nothing names, with their files",
    PIPELINES: "their runs in MLflow with all files, and their reports",
    STAGES: "finished results that no pipeline which stays has",
    CHECKPOINTS: "of stages that were interrupted",
    COPIES: "fetched from MLflow's server, which has them",
    LOGS: "of services' starts before the last one, and of comparisons",
    PREFECT_RUNS: "of Prefect's server, but for the last of each schedule",
}
"""The kinds, in the order in which they are removed."""


@dataclass(frozen=True)
class Removal:
    """One thing that goes.

    Attributes:
        kind: one of `SAYS`.
        name: what it is called.
        size: in bytes, as far as known; blocks that two files share are counted for both.
        act: removes it; to be repeated after a kill.
    """

    kind: str
    name: str
    size: int
    act: Callable[[], None]


def removals(ledger: Ledger, facts: Facts, retention: Retention) -> Iterator[Removal]:
    """Yield what goes, in the order in which it may go."""
    gone = {one.run_id for one in retention.goes}
    for version in facts.versions:
        if version.is_ours and version.maker in gone and version.key not in retention.versions:
            yield _version(ledger, version)
    for one in retention.goes:
        yield _pipeline(ledger, one, facts.runs[one.run_id])
    if retention.horizon is not None:
        yield from _files(ledger.paths, retention, retention.horizon)


# --- in MLflow --------------------------------------------------------------------------------------------------------


def _version(ledger: Ledger, version: RegisteredVersion) -> Removal:
    folder = artifacts_folder(ledger.paths) / "models" / version.model_id
    size = size_of(folder) if ledger.is_local and version.model_id else 0
    return Removal(VERSIONS, "models:/{}/{}".format(*version.key), size, partial(_remove_version, ledger, version))


@plain_errors
def _remove_version(ledger: Ledger, version: RegisteredVersion) -> None:
    """Take a version out of the registry, and then its files and its logged model."""
    client, (name, number) = ledger.client, version.key
    if version.model_id:
        client.set_logged_model_tags(version.model_id, {VERSION_TAG: "none"})
    client.delete_model_version(name, number)
    if version.model_id:
        discard(ledger, client.get_logged_model(version.model_id))


def _pipeline(ledger: Ledger, pipeline: Pipeline, runs: tuple[Run, ...]) -> Removal:
    folders = [folder for run in runs if (folder := _local_artifacts(ledger, run))]
    size = sum(map(size_of, (*folders, *report_files(ledger.paths, pipeline.pipeline_id))))
    return Removal(PIPELINES, pipeline.pipeline_id, size, partial(_remove_pipeline, ledger, pipeline, runs))


def _remove_pipeline(ledger: Ledger, pipeline: Pipeline, runs: tuple[Run, ...]) -> None:
    """Remove a pipeline: its report, the runs of its stages, and last of all its own."""
    for file in report_files(ledger.paths, pipeline.pipeline_id):
        file.unlink(missing_ok=True)
    for run in runs:
        _remove_run(ledger, run)


@plain_errors
def _remove_run(ledger: Ledger, run: Run) -> None:
    """Remove the files of a run, then the run.

    `mlflow gc` does it in the other order, for every run that anybody deleted by hand, and fails where a file is gone already. A
    server keeps its runs as deleted: only its own machine can remove them from its database.
    """
    folder = _local_artifacts(ledger, run)
    if folder:
        put_away(ledger.paths, folder)
    if not ledger.is_local:
        ledger.client.delete_run(run.run_id)
        return
    store: Any = ledger.client._tracking_client.store
    store._hard_delete_run(run.run_id)


def _local_artifacts(ledger: Ledger, run: Run) -> Path | None:
    """Return the folder of a run in the local store, None where its files are elsewhere."""
    folder = Path(run.artifacts)
    artifacts = artifacts_folder(ledger.paths)
    if not (ledger.is_local and folder.is_absolute() and folder.is_relative_to(artifacts)):
        return None
    # <run>/artifacts: the folder above is the run's too
    return folder.parent if folder.parent.name == run.run_id else folder


# --- on the disk ------------------------------------------------------------------------------------------------------


def _files(paths: Paths, retention: Retention, horizon: float) -> Iterator[Removal]:
    """Yield what lies in `.posttrain/` that is older than the horizon and that nothing which stays needs."""
    for folder in sorted(paths.stages.glob("*/*")):
        key = (folder.parent.name, folder.name)
        if folder.is_dir() and ".part-" not in folder.name and key not in retention.stages and is_older(folder, horizon):
            yield Removal(STAGES, _shown(folder), size_of(folder), partial(_remove_stage, paths, folder))
    for folder in sorted(paths.checkpoints.glob("*/*")):
        key = (folder.parent.name, folder.name)
        if folder.is_dir() and key not in retention.stages and is_older(folder, horizon):
            yield Removal(CHECKPOINTS, _shown(folder), size_of(folder), partial(put_away, paths, folder))
    for folder in sorted((paths.store / "models").glob("*/*")):
        key = (folder.parent.name, folder.name)
        if folder.is_dir() and key not in retention.versions and is_older(folder, horizon):
            yield Removal(COPIES, "models:/{}/{}".format(*key), size_of(folder), partial(put_away, paths, folder))
    logs = [*(paths.store / "services").glob("*.log.1"), *(paths.store / "prefect").glob("*.log.1")]
    for log in (*sorted(logs), *sorted((paths.store / "compare").glob("*"))):
        if is_older(log, horizon):
            yield Removal(LOGS, log.name, size_of(log), partial(put_away, paths, log))


def _shown(folder: Path) -> str:
    """Return a stage's name and the beginning of its key."""
    return f"{folder.parent.name}/{folder.name[:12]}"


def _remove_stage(paths: Paths, folder: Path) -> None:
    """Remove a finished stage, unless a process makes or reads it under its lock."""
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        put_away(paths, folder)


def trash(paths: Paths) -> Path:
    """Return where things lie between their place and nowhere."""
    return notes_folder(paths) / "trash"


def put_away(paths: Paths, path: Path) -> None:
    """Take a file or a folder out of its place in one step, and then remove it; it may be gone already."""
    if not os.path.lexists(path):
        return
    trash(paths).mkdir(parents=True, exist_ok=True)
    passing = trash(paths) / f"{os.getpid()}-{path.name}"
    try:
        path.rename(passing)
    except OSError as error:
        if error.errno != errno.EXDEV:  # on another disk: what tells that it is whole goes first
            raise
        (path / "stage.json").unlink(missing_ok=True)
        passing = path
    remove(passing)


def remove(path: Path) -> None:
    """Remove a file or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def empty_trash(paths: Paths) -> None:
    """Remove what a killed clean had taken out of its place."""
    for left in trash(paths).glob("*"):
        remove(left)
    with suppress(OSError):
        trash(paths).rmdir()


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; 0 for what is not there."""
    files = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for file in files:
        with suppress(OSError):
            total += file.lstat().st_size if not file.is_dir() else 0
    return total


def is_older(path: Path, horizon: float) -> bool:
    """Return whether a path, and the newest name in it, was last changed before a moment; False for what is gone."""
    changed = []
    for one in (path, *(path.iterdir() if path.is_dir() else ())):
        with suppress(OSError):
            changed.append(one.lstat().st_mtime)
    return bool(changed) and max(changed) < horizon
