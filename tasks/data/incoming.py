"""A dataset that is being imported, made whole in a small copy of the project before anything of the earlier one changes."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from posttrain.errors import DataError
from posttrain.records import KIND_OF_ROLE
from tasks.data import dvc
from tasks.data.dataset_code import packages_of
from tasks.data.dataset_stage import split_code, stage_text
from tasks.data.dvc_files import read_lock, read_version
from tasks.data.dvc_memory import Memory, md5_of
from tasks.data.swap import Swap, discard, exchange, incoming, is_decided, prepared, settle
from tasks.workspace.disk import cannot_write
from tasks.workspace.locks import exclusive, import_lock
from tasks.workspace.paths import Paths

CONFIG = """\
[core]
    no_scm = true
    analytics = false
    check_update = false
[cache]
    dir = "{cache}"
"""
"""Of DVC in the copy: it puts files into the cache of the project itself."""


@contextmanager
def importing(paths: Paths, name: str) -> Iterator[list[str]]:
    """Hold the dataset for one import, settle what an earlier one left, and give an empty folder to prepare in.

    Yields:
        Lines that a user should be told.

    Whatever the block raises, what it prepared is taken away and the earlier dataset is as it was; unless `put_in_place` had
    begun to exchange the files, which the next command then completes.
    """
    folder = paths.data / name
    with exclusive(paths, import_lock(name)):
        note = _settled(paths, folder)
        try:
            yield [note] if note else []
        except BaseException:
            if is_decided(folder):
                _settled(paths, folder)
            else:
                discard(folder)
            raise


def _settled(paths: Paths, folder: Path) -> str | None:
    if not incoming(folder).exists():
        return None
    with exclusive(paths, "dvc"):
        return settle(folder)


def put_in_place(paths: Paths, name: str, roles: Sequence[str]) -> list[str]:
    """Split and version the records that were written to the preparation, then exchange the datasets; return what to say.

    Raises:
        DataError: the records cannot be split, or DVC failed; nothing has changed.
        StorageError: the disk refused.
    """
    folder = paths.data / name
    try:
        _copy_project(paths, folder, roles)
        _version(paths, folder)
        _extend_gitignore(folder, roles)
        with exclusive(paths, "dvc"):
            swap = _plan(paths, folder)
            exchange(folder, swap)
    except OSError as error:
        raise cannot_write(error, folder) from None
    return [f"data/{name}/{was} was edited by hand; it is kept as data/{name}/{kept}" for was, kept in swap.keep.items()]


def _copy_project(paths: Paths, folder: Path, roles: Sequence[str]) -> None:
    """Put what the split needs beside the records: its code, `params.yaml`, and a DVC of its own with the project's cache."""
    dvc.ensure_repository(paths)
    told = dvc.run_dvc(paths, "cache", "dir").split("\n")
    cache = next((line.strip() for line in reversed(told) if line.strip()), str(paths.root / ".dvc" / "cache"))
    copy = incoming(folder)
    (copy / ".dvc").mkdir()
    shutil.copy(paths.root / ".dvc" / "config", copy / ".dvc" / "config")
    text = CONFIG.format(cache=os.path.relpath(cache, copy / ".dvc"))
    (copy / ".dvc" / "config.local").write_text(text, encoding="utf-8")
    code = split_code(paths)
    for file in ("params.yaml", *code, *packages_of(code)):
        if (paths.root / file).exists():
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(paths.root / file, copy / file)
    (prepared(folder) / "dvc.yaml").write_text(stage_text(paths, folder.name, roles), encoding="utf-8")


def _version(paths: Paths, folder: Path) -> None:
    """Let DVC take the records into its cache, and split them."""
    copy, name = Paths(incoming(folder)), folder.name
    try:
        dvc.run_dvc(copy, "add", f"data/{name}/records.jsonl")
        dvc.run_dvc(copy, "repro", f"data/{name}/dvc.yaml:split")
    except DataError as error:
        problem = (
            str(error).removeprefix("dvc repro did not finish: ").replace(str(copy.root.resolve()), str(paths.root.resolve()))
        )
        stands = f"; data/{name} is as it was before" if (folder / "records.jsonl").exists() else ""
        raise DataError(f"{name} was not imported{stands}: {problem}") from None


def _extend_gitignore(folder: Path, roles: Sequence[str]) -> None:
    """Keep the data out of git, as DVC does where it works with git; lines of the user's stay."""
    ignored = [f"/{file}.jsonl" for file in ("records", *roles)]
    try:
        before = (folder / ".gitignore").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        before = []
    lines = [*before, *(line for line in ignored if line not in before)]
    text = "".join(f"{line}\n" for line in lines)
    (prepared(folder) / ".gitignore").write_text(text, encoding="utf-8", errors="surrogateescape")


def _plan(paths: Paths, folder: Path) -> Swap:
    """Return what is put, what the new dataset does not have, and which of both was edited by hand and so is kept."""
    put = {path.name for path in prepared(folder).iterdir() if path.is_file()}
    known = _known_versions(paths, folder)
    memory = Memory.load(paths)
    keep, remove = {}, []
    for file in ("records.jsonl", *(f"{role}.jsonl" for role in KIND_OF_ROLE)):
        path = folder / file
        if not path.exists():
            continue
        md5 = md5_of(path)
        is_edit = md5 != known.get(file) or memory.accepted.get(f"data/{folder.name}/{file}") == md5
        if is_edit and not (file in put and md5 == md5_of(prepared(folder) / file)):
            keep[file] = dvc.edited_name(path, md5).name
        if file not in put:
            remove.append(file)
    remove += [file for file in ("dvc.lock", "records.jsonl.dvc") if file not in put]
    return Swap(keep=keep, remove=tuple(remove), put=tuple(sorted(put)))


def _known_versions(paths: Paths, folder: Path) -> dict[str, str]:
    """Return the md5 of each file that DVC has in its cache; none where the notes of it are damaged."""
    known = {}
    with suppress(DataError):
        if md5 := read_version(paths, folder / "records.jsonl.dvc"):
            known["records.jsonl"] = md5
    with suppress(DataError):
        outs = read_lock(paths, folder / "dvc.lock", "split").get("outs", [])
        known |= {Path(out["path"]).name: out["md5"] for out in outs}
    return known
