"""A backup: databases as of one moment, the files that go with them, and the manifest last."""

import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from posttrain.errors import RequestError, StorageError
from posttrain.keeping.manifest import DUMPS, JUDGE, LEDGER, MLFLOW_DUMP, PREFECT, PREFECT_DUMP, Manifest, Stored
from tasks.keeping.collect import Collected, collect
from tasks.keeping.databases import copy_database
from tasks.keeping.exchange import LOCK
from tasks.keeping.packing import ARCHIVE, Packed, free_bytes, packing
from tasks.keeping.postgres import dump_postgres, require_pg
from tasks.services.postgres import Address
from tasks.workspace.databases import Database
from tasks.workspace.disk import storage_errors
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths

OF_DATA = ("data/", ".posttrain/dvc.json", ".dvc/")
"""What DVC changes: copied while none runs."""


@dataclass(frozen=True)
class Wanted:
    """What a backup is to hold.

    Attributes:
        databases: SQLite files by their path from the root; one that is not there is passed over.
        postgres: databases in a PostgreSQL, by the path of their dump, each with its password.
        labels: stores of labels that the settings name.
        elsewhere: what is kept by others, a sentence each.
        is_all: also what can be made again at a cost.
    """

    databases: Mapping[str, Database]
    postgres: Mapping[str, tuple[Address, str]]
    labels: Sequence[str] = ()
    elsewhere: Sequence[str] = ()
    is_all: bool = False


def make_backup(paths: Paths, target: Path, wanted: Wanted, *, say: Callable[[str], None] = lambda line: None) -> Manifest:
    """Write a backup, also while a pipeline runs, and return its manifest.

    Args:
        paths: of the repository.
        target: a folder that is not there yet or is empty, or a file that ends in `.tar.zst`.
        wanted: what it is to hold.
        say: prints a note.

    Raises:
        RequestError: the place cannot be used, another backup, restore or clean is at work, or pg_dump is missing.
        StorageError: a database is damaged, or the disk refuses; then nothing of the backup stays.
    """
    for address, _ in wanted.postgres.values():
        require_pg("pg_dump", address)
    _refuse_inside(paths, target)
    with exclusive(paths, LOCK, wait=False) as is_held:
        if not is_held:
            raise RequestError(
                "another backup, restore or clean of this folder is at work. Wait until it is done, then run again"
            )
        with storage_errors("the backup", target.parent), packing(target) as packed:
            copies, seen = _copy_databases(wanted, packed)
            found = collect(
                paths,
                ledgers=[seen[path] for path in (LEDGER, MLFLOW_DUMP) if path in seen],
                prefects=[seen[path] for path in (PREFECT, PREFECT_DUMP) if path in seen],
                labels=wanted.labels,
                is_all=wanted.is_all,
            )
            found.left_out += wanted.elsewhere
            if not copies and not found.files:
                raise RequestError(f"there is nothing to back up in {paths.root}: no pipeline has run here")
            if not target.name.endswith(ARCHIVE):
                _require_room(packed.scratch, found.files.values())
            files = {path: packed.add(path, file) for path, file in copies.items()}
            files |= _copy_files(paths, found, packed)
            manifest = _manifest(paths, found, files, is_all=wanted.is_all)
            packed.close(manifest)
    for line in found.left_out:
        say(f"not in it: {line}")
    return manifest


def _refuse_inside(paths: Paths, target: Path) -> None:
    """Refuse to write a backup into what it copies, or into what `make clean` removes."""
    for folder in (paths.store, paths.ledger, paths.reports, paths.data, paths.root / ".dvc"):
        if target.resolve().is_relative_to(folder.resolve()):
            raise RequestError(f"TO must lie outside {folder}, which the backup copies, got {target}")


def _copy_databases(wanted: Wanted, packed: Packed) -> tuple[dict[str, Path], dict[str, Path]]:
    """Copy each database as of one moment; return the copies by their path in the backup, and what can be looked into of each."""
    copies, seen = dict[str, Path](), dict[str, Path]()
    for path, database in wanted.databases.items():
        if database.file.exists():
            copies[path] = seen[path] = packed.scratch / Path(path).name
            copy_database(database, copies[path])
    for path, (address, password) in wanted.postgres.items():
        copies[path] = packed.scratch / Path(path).name
        view = copies[path].with_suffix(".view")
        if dump_postgres(path, address, password, copies[path], view):
            seen[path] = view
    return copies, seen


def _require_room(folder: Path, files: Iterable[Path]) -> None:
    needed = 0
    for file in files:
        with suppress(OSError):
            needed += file.stat().st_size
    if (free := free_bytes(folder)) < needed:
        raise StorageError(
            f"{folder.parent.parent}: {free // 2**20:,} MB are free, and the backup needs {needed // 2**20 + 1:,} MB. Make room, "
            "or name another place; nothing of the backup stays"
        )


def _copy_files(paths: Paths, found: Collected, packed: Packed) -> dict[str, Stored]:
    """Copy the files; those of the data while DVC is at rest."""
    of_data = [path for path in found.files if path.startswith(OF_DATA)]
    others = [path for path in found.files if not path.startswith(OF_DATA)]
    stored: dict[str, Stored] = {}
    with ExitStack() as held:
        if of_data:
            held.enter_context(exclusive(paths, "dvc"))
        stored |= _copied(found, of_data, packed)
    return stored | _copied(found, others, packed)


def _copied(found: Collected, paths: Iterable[str], packed: Packed) -> dict[str, Stored]:
    stored = {}
    for path in paths:
        try:
            stored[path] = packed.add(path, found.files[path])
        except FileNotFoundError:  # a run's file that was taken away since it was listed
            found.left_out.append(f"{path}: it was removed while the backup was made")
    return stored


def _manifest(paths: Paths, found: Collected, files: Mapping[str, Stored], *, is_all: bool) -> Manifest:
    return Manifest(
        made=datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
        version=version("posttrain"),
        host=socket.gethostname(),
        root=str(paths.root.resolve()),
        is_all=is_all,
        files=files,
        links=found.links,
        contents=found.contents,
        left_out=tuple(found.left_out),
    )


def databases_of(ledger: Database, prefect: Database, judge: Database) -> dict[str, Database]:
    """Return our SQLite files by their paths in a backup."""
    return {LEDGER: ledger, PREFECT: prefect, JUDGE: judge}


def dumps_of(mlflow: Address | None, prefect: Address | None, password: str) -> dict[str, tuple[Address, str]]:
    """Return the databases in a PostgreSQL by the paths of their dumps."""
    return {path: (address, password) for path, address in zip(DUMPS, (mlflow, prefect), strict=True) if address}
