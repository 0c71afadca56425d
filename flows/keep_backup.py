"""`make backup` and `make restore`: what cannot be made again, into a folder or a file, and back at once."""

import os
from collections.abc import Callable
from pathlib import Path

from flows.environment import prefect_home
from flows.prefect_database import prefect_database
from flows.service_plans import LOOPBACK, Databases
from posttrain.keeping.manifest import LEDGER, Manifest
from posttrain.printable import printable
from posttrain.settings.config import Config
from tasks.judges.cache import FILE as JUDGE_FILE
from tasks.judges.cache import VERSION as JUDGE_VERSION
from tasks.keeping.backup import Wanted, databases_of, dumps_of, make_backup
from tasks.keeping.restore import champions_in, restore_backup
from tasks.services.notes import PREFECT, running
from tasks.tracking.store import ledger_database
from tasks.workspace.databases import Database
from tasks.workspace.paths import Paths

Say = Callable[[str], None]
SHOWN = {
    "runs": ("run", "runs"),
    "versions": ("version with its files", "versions with their files"),
    "reports": ("report", "reports"),
    "stages": ("finished stage", "finished stages"),
    "datasets": ("dataset", "datasets"),
    "labels": ("store of labels", "stores of labels"),
    "batches": ("batch of labelling", "batches of labelling"),
    "schedules": ("schedule", "schedules"),
}
"""What a backup holds, in the order in which it is told; one of it, and several."""


def backup(paths: Paths, config: Config, say: Say, *, to: str, is_all: bool = False) -> Manifest:
    """Write a backup, also while a pipeline runs, say what is in it and what is not, and return its manifest.

    Args:
        paths: of the repository.
        config: names databases, the ledger and a store of labels.
        say: prints a note.
        to: a folder that is not there yet, or a file that ends in `.tar.zst`.
        is_all: also what can be made again at a cost.

    Raises:
        RequestError: the place cannot be used, or a store cannot be part of it, such as a PostgreSQL without pg_dump.
        StorageError: a database is damaged, or the disk refuses; nothing of the backup stays.
    """
    target = Path(to).expanduser()
    manifest = make_backup(paths, target, wanted(paths, config, is_all=is_all), say=say)
    print(printable(f"{_contents(manifest)}: {_size(manifest.size)} of files in {target}"))
    print(f"to put it back, here or in a fresh checkout: make restore FROM={target}")
    return manifest


def restore(paths: Paths, config: Config, say: Say, *, source: str, is_forced: bool = False) -> Manifest:
    """Put a backup in the place of what lies here, once all of it is known to be whole, and return its manifest.

    Args:
        paths: of the repository, which may be a fresh checkout.
        config: names databases.
        say: prints a note.
        source: the backup.
        is_forced: also over what lies here.

    Raises:
        RequestError, DataError: it cannot be restored here; nothing was touched.
        StorageError: the disk refuses; nothing was touched, or the next command completes it, as the sentence says.
    """
    here = wanted(paths, config)
    manifest = restore_backup(paths, Path(source).expanduser(), here, is_forced=is_forced, say=say)
    print(printable(f"restored, as of {manifest.made} on {manifest.host}: {_contents(manifest)}"))
    for name, number in champions_in(paths, manifest, here).items():
        print(printable(f"champion of {name.removeprefix('posttrain-')}: version {number}"))
    if manifest.contents.get("schedules"):
        print("schedules run again once the services do: make up")
    return manifest


def wanted(paths: Paths, config: Config, *, is_all: bool = False) -> Wanted:
    """Return which databases there are, where labels are, and what others keep.

    Raises:
        RequestError: an address of a PostgreSQL is wrong, or its password is not where it should be.
    """
    databases = Databases.of(config.servers)
    local = databases_of(
        ledger_database(paths.root / LEDGER),
        prefect_database(prefect_home(paths)),
        Database(
            file=paths.store / "judge" / JUDGE_FILE,
            what="the cache of the judge's answers",
            loses="the answers in it, which the judge is asked for again",
            keeps="finished labels, stages and models",
            version=JUDGE_VERSION,
        ),
    )
    return Wanted(
        databases=local,
        postgres=dumps_of(databases.mlflow, databases.prefect, databases.password),
        labels=[config.labels.file] if config.labels.file else [],
        elsewhere=elsewhere(paths, config),
        is_all=is_all,
    )


def elsewhere(paths: Paths, config: Config) -> list[str]:
    """Return which stores are on machines of others, a sentence each."""
    lines = []
    uri = config.tracking.uri
    if uri and not uri.startswith((f"http://{LOOPBACK[0]}", f"http://{LOOPBACK[1]}", "sqlite:")):
        lines.append(f"runs, versions and history of tracking.uri ({uri}): whoever keeps that server backs them up")
    if config.servers.artifacts:
        lines.append(
            f"files of runs and versions in servers.artifacts ({config.servers.artifacts}): that store has its own copies"
        )
    service, api = running(paths, PREFECT), os.environ.get("PREFECT_API_URL", "")
    if api and (service is None or api != f"{service.site}/api"):
        lines.append(f"schedules of PREFECT_API_URL ({api}): whoever keeps that server backs them up")
    return lines


def _contents(manifest: Manifest) -> str:
    found = {name: count for name in SHOWN if (count := manifest.contents.get(name, 0))}
    counted = [f"{count:,} {SHOWN[name][count > 1]}" for name, count in found.items()]
    return ", ".join(counted) or f"{len(manifest.files):,} files"


def _size(size: int) -> str:
    return f"{size / 2**20:,.1f} MB"
