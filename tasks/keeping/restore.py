"""A restore: the whole backup is staged and checked before anything of what lies here changes; then all is exchanged at once."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from posttrain.errors import DataError, RequestError, StorageError
from posttrain.keeping.manifest import (
    ARTIFACTS,
    DUMPS,
    LEDGER,
    MLFLOW_DUMP,
    PREFECT,
    PREFECT_DUMP,
    SECRETS,
    SETTINGS,
    Manifest,
    Stored,
    differences,
    is_of_a_backup,
)
from tasks.keeping.backup import Wanted
from tasks.keeping.databases import close_runs, move_schedules, reading, require_sound
from tasks.keeping.exchange import LOCK, Exchange, scratch
from tasks.keeping.idle import require_idle
from tasks.keeping.packing import Source, copy_stream, create, free_bytes
from tasks.keeping.postgres import champions_of, require_alone, require_pg, restore_postgres, worth_of
from tasks.workspace.disk import storage_errors
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths

SPARE = 64 * 2**20
"""Bytes that stay free beside what is restored."""
Say = Callable[[str], None]


def restore_backup(paths: Paths, source: Path, here: Wanted, *, is_forced: bool, say: Say) -> Manifest:
    """Put a backup in the place of what lies here, and return its manifest.

    Args:
        paths: of the repository, which may be a fresh checkout.
        source: the backup, a folder or a file.
        here: the databases of this repository, as its settings name them.
        is_forced: also over what lies here.
        say: prints a note.

    Raises:
        RequestError: there is no backup, somebody is at work here, or something would be replaced and `is_forced` is not said.
        DataError: the backup is cut off, damaged or of a newer version; nothing was touched.
        StorageError: the disk refuses, or a database in the backup cannot be used; nothing was touched, unless the sentence says
            that the next command completes it.
    """
    opened = Source(source)
    with ExitStack() as held:
        for lock, who in ((LOCK, "another backup, restore or clean"), ("services", "make up or make down"), ("dvc", "DVC")):
            if not held.enter_context(exclusive(paths, lock, wait=False)):
                raise RequestError(f"{who} is at work in this folder. Wait until it is done, then run again")
        require_idle(paths)
        if opened.manifest:
            _require_room(paths, opened.manifest.size)
        exchange = Exchange(paths)
        try:
            with storage_errors("the restore", paths.root):
                manifest = _stage(paths, opened, exchange)
                _check_and_adapt(paths, exchange, manifest, here, shown=str(source))
                _require_addresses(manifest, here)
                _refuse_to_replace(paths, exchange, manifest, here, source=source, is_forced=is_forced)
                _restore_dumps(paths, manifest, here)
                require_idle(paths)  # somebody may have begun meanwhile
                exchange.decide()
        finally:
            exchange.give_up()
    for line in _remarks(paths, manifest, here):
        say(line)
    return manifest


def _require_room(paths: Paths, size: int) -> None:
    if (free := free_bytes(paths.root)) < size + SPARE:
        raise StorageError(
            f"{paths.root}: {free // 2**20:,} MB are free, and {(size + SPARE) // 2**20 + 1:,} MB are needed: what lies here "
            "stays until all is restored. Nothing was touched. Make room, then run again"
        )


def _stage(paths: Paths, opened: Source, exchange: Exchange) -> Manifest:
    """Write every file of the backup beside its place, and hold all of them against the manifest."""
    found: dict[str, Stored] = {}
    for path, stream, size in opened.files():
        if not is_of_a_backup(path) or path in found:
            raise DataError(f"{opened.path} holds {path[:80]!r}, which no backup of ours does. Nothing was touched")
        if path in (*DUMPS, SETTINGS):
            target = scratch(paths) / Path(path).name
            target.parent.mkdir(parents=True, exist_ok=True)
        else:
            target = exchange.stage(path)
        with create(target, path) as written:
            found[path] = copy_stream(stream, written, size)
    if opened.manifest is None:
        raise DataError(f"{opened.path} is cut off, or no backup: it has no manifest. Nothing was touched")
    differences(opened.manifest, found, shown=str(opened.path))
    for path, link in opened.manifest.links.items():
        exchange.stage(path).symlink_to(link)
    return opened.manifest


def _check_and_adapt(paths: Paths, exchange: Exchange, manifest: Manifest, here: Wanted, *, shown: str) -> None:
    """See that the staged databases can be used here, and let them speak of this folder and this moment."""
    for path, database in here.databases.items():
        if staged := exchange.staged(path):
            require_sound(staged, database, shown=shown)
    if ledger := exchange.staged(LEDGER):
        close_runs(ledger, now_ms=int(time.time() * 1000))
    if prefect := exchange.staged(PREFECT):
        move_schedules(prefect, before=manifest.root, now=str(paths.root.resolve()))


def _refuse_to_replace(
    paths: Paths, exchange: Exchange, manifest: Manifest, here: Wanted, *, source: Path, is_forced: bool
) -> None:
    standing = [told for path in exchange.standing() if (told := _worth(paths, exchange, path))]
    standing += [told for path in _dumps_in(manifest) if (told := worth_of(path, *here.postgres[path]))]
    if standing and not is_forced:
        raise RequestError(
            f"restore would replace what lies here: {', '.join(standing)}. Nothing was touched. Back it up first "
            f"(make backup TO=…), then: make restore FROM={source} FORCE=1"
        )


def _worth(paths: Paths, exchange: Exchange, path: str) -> str:
    """Return what somebody would miss who lost this, "" where it is nothing: an empty ledger, a dataset without its data."""
    file = paths.root / path
    if path == LEDGER:
        runs = _count(file, "runs", "registered_models")
        return f"{path} ({runs:,} runs and models)" if runs else ""
    if path == PREFECT:
        runs = _count(file, "flow_run", "deployment")
        return f"{path} ({runs:,} runs and schedules)" if runs else ""
    if path.startswith("data/"):
        return path if any(file.glob("*.jsonl")) else ""
    staged = exchange.staged(path)
    if staged and file.is_file() and staged.read_bytes() == file.read_bytes():
        return ""
    # a key of secrets goes with the ledger that holds them
    is_told = not path.startswith((ARTIFACTS, *SECRETS, ".posttrain/dvc.json", f"{LEDGER}-", f"{PREFECT}-"))
    return path if is_told else ""


def _count(file: Path, *tables: str) -> int:
    """Return the rows of some tables; a file that cannot be read counts as one, since nobody knows what it holds."""
    try:
        with reading(file) as opened:
            known = {row[0] for row in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return sum(int(opened.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in tables if table in known)
    except Exception:  # SQLite tells damage by several kinds of errors
        return 1


def _dumps_in(manifest: Manifest) -> list[str]:
    return [path for path in DUMPS if path in manifest.files]


def _require_addresses(manifest: Manifest, here: Wanted) -> None:
    """See that there is a place for each dump, and what puts it there.

    Raises:
        RequestError: the settings name no PostgreSQL for a dump, others use it, or pg_restore is not installed.
    """
    for path in _dumps_in(manifest):
        if path not in here.postgres:
            store = Path(path).stem
            raise RequestError(
                f"the backup holds a dump of {store}'s PostgreSQL, and servers.{store}_database names none to put it into. "
                f'Nothing was touched. Name one: SET="servers.{store}_database=postgresql+…"'
            )
        require_pg("pg_restore", here.postgres[path][0])
        require_alone(*here.postgres[path])


def _restore_dumps(paths: Paths, manifest: Manifest, here: Wanted) -> None:
    """Put dumps into the PostgreSQLs that the settings name, each in one transaction."""
    now, moment = str(paths.root.resolve()), int(time.time() * 1000)
    for path in _dumps_in(manifest):
        file = scratch(paths) / Path(path).name
        require_alone(*here.postgres[path])  # somebody may have come meanwhile
        restore_postgres(path, *here.postgres[path], file, before=manifest.root, now=now, now_ms=moment)


def _remarks(paths: Paths, manifest: Manifest, here: Wanted) -> Sequence[str]:
    """Return what somebody should know who restored this."""
    lines = [f"not in it: {line}" for line in manifest.left_out]
    for path, dump, what in ((LEDGER, MLFLOW_DUMP, "ledger is"), (PREFECT, PREFECT_DUMP, "schedules are")):
        if path in manifest.files and dump not in manifest.files and dump in here.postgres:
            address = here.postgres[dump][0]
            lines.append(
                f"note: the backup's {what} in a SQLite file, and {address.setting} names a PostgreSQL, which is not touched. "
                "Leave that setting empty to use the file"
            )
    settings = manifest.files.get(SETTINGS)
    if settings and settings != stored_of(paths.root / SETTINGS):
        lines.append(f"note: {SETTINGS} here differs from that of the backup, and is not touched; the backup holds its own")
    return lines


def stored_of(file: Path) -> Stored | None:
    """Return a file's length and digest, None where there is none."""
    try:
        with file.open("rb") as stream, Path(os.devnull).open("wb") as nowhere:
            return copy_stream(stream, nowhere, os.fstat(stream.fileno()).st_size)
    except OSError:
        return None


def champions_in(paths: Paths, manifest: Manifest, here: Wanted) -> Mapping[str, str]:
    """Return the version that each registered model's champion is, read from MLflow's restored database itself."""
    if MLFLOW_DUMP in manifest.files and (found := champions_of(*here.postgres[MLFLOW_DUMP])):
        return found
    with suppress(Exception), reading(paths.root / LEDGER) as opened:
        told = opened.execute("SELECT name, version FROM registered_model_aliases WHERE alias = 'champion' ORDER BY name")
        return {str(name): str(number) for name, number in told}
    return {}


def as_record(manifest: Manifest) -> dict[str, object]:
    """Return what a script may want of a backup, without its files."""
    told = json.loads(manifest.as_text())
    return {name: value for name, value in told.items() if name not in ("files", "links")} | {"bytes": manifest.size}
