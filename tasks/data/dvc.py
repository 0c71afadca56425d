"""DVC: which version of a dataset there is, and making it when its sources have changed.

One process at a time runs DVC (it refuses a second one), and none does when nothing has changed: then `dvc.lock` and the
files' digests say so in milliseconds. A file that was edited by hand is never lost: the edit becomes a version of its own.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.errors import DataError, PosttrainError, RequestError, StorageError, did_you_mean
from tasks.data.dataset_stage import follow_code, write_stage_again
from tasks.data.dvc_files import WORLD, check_files, damaged, read_lock, read_stages, read_version
from tasks.data.dvc_memory import Memory
from tasks.data.stages import params_of
from tasks.data.swap import INCOMING, incoming, settle
from tasks.workspace.disk import cannot_write
from tasks.workspace.locks import exclusive, import_lock
from tasks.workspace.paths import Paths

_NOISE = (
    "Running stage",
    "> ",
    "Verifying",
    "ERROR: failed to reproduce",
    "Use `dvc",
    "Generating lock",
    "Updating lock",
    "Stage '",
    "'data/",
)
CONFIG = """\
['remote "local"']
    url = ../.dvc-remote
[core]
    remote = local
    analytics = false
    check_update = false
"""
"""Of DVC, in a project that has none yet: quiet, and with a remote beside the data (docs: dvc remote add)."""
_DISK = ("No space left", "Read-only file system", "Permission denied", "Disk quota", "Input/output error")


@dataclass(frozen=True)
class DatasetVersion:
    """A dataset as it lies on the disk, and the digest that names it.

    Attributes:
        name: of the dataset.
        folder: that holds `<role>.jsonl`.
        md5: one digest of all files, of their md5s in the order of their roles.
        files: md5 of each role's file.
        notes: what a user should be told, a line each; () as a rule.
    """

    name: str
    folder: Path
    md5: str
    files: dict[str, str]
    notes: tuple[str, ...] = ()


def bring_up_to_date(paths: Paths, name: str) -> DatasetVersion:
    """Make the dataset's files if their sources changed (`dvc repro`), and return the version that lies there now.

    An output that was edited by hand is kept: as the new version if its sources are as they were (`dvc commit`), else as a
    copy `<file>.edited-<md5>` beside the file that is made anew. Two processes may call this at the same time. An import of the
    dataset that died is completed, or taken away, first. A stage that an earlier version of posttrain wrote follows the modules
    that have moved since.

    Raises:
        RequestError: there is no such dataset, `params.yaml` lacks the section that the data depend on, or this is no checkout.
        DataError: a stage failed; the text holds what it said.
        StorageError: the disk refused.
    """
    with exclusive(paths, "dvc"):
        memory = Memory.load(paths)
        try:
            notes = _settled(paths, paths.data / name)
            stage, written = _stage_of(paths, name)
            notes += [*written, *_versioned_records(paths, stage, memory), *_made(paths, stage, memory)]
            lock = _locked(paths, stage)
            memory.left |= {out["path"]: out["md5"] for out in lock.get("outs", [])}
            version = _version(paths, stage, lock, tuple(notes))
            memory.versions[version.name] = version.md5
            return version
        finally:
            memory.save()


def datasets_of(paths: Paths) -> list[str]:
    """Return the names of the datasets there are, the default world first."""
    found = sorted(file.parent.name for file in paths.data.glob("*/dvc.yaml"))
    return ([WORLD] if read_stages(paths, paths.root / "dvc.yaml").get(WORLD) else []) + found


def settle_imports(paths: Paths) -> tuple[str, ...]:
    """Complete or take away what imports left that died, one line each; an import that is at work is left alone.

    Raises:
        DataError: what one left is damaged.
        StorageError: the disk refused.
    """
    notes: list[str] = []
    for left in sorted(paths.data.glob(f"*/{INCOMING}")):
        with exclusive(paths, import_lock(left.parent.name), wait=False) as is_dead:
            pass
        if is_dead:
            with exclusive(paths, "dvc"):
                notes += _settled(paths, left.parent)
    return tuple(notes)


def _settled(paths: Paths, folder: Path) -> list[str]:
    """Settle one dataset, unless its import is at work; the caller holds the lock "dvc", without which none exchanges files."""
    if not incoming(folder).exists():
        return []
    with exclusive(paths, import_lock(folder.name), wait=False) as is_dead:
        note = settle(folder) if is_dead else None
    return [note] if note else []


@dataclass(frozen=True)
class _Stage:
    """A stage as its dvc.yaml has it; paths count from the root."""

    name: str
    file: Path
    told: dict[str, Any]

    @property
    def key(self) -> str:
        return "world" if self.name == WORLD else "split"


def _made(paths: Paths, stage: _Stage, memory: Memory) -> tuple[str, ...]:
    """Bring one stage up to date; return the notes."""
    is_cut_short = stage.name in memory.making
    if is_cut_short:
        _set_damaged_lock_aside(paths, stage)
    lock = _locked(paths, stage)
    outs = [str(out) for out in stage.told["outs"]]
    locked = {out["path"]: out["md5"] for out in lock.get("outs", [])}
    now = {out: memory.md5(paths, out) for out in outs}
    if is_cut_short or _is_stale(paths, stage, lock, memory):
        edited = {
            out: md5
            for out, md5 in now.items()
            if md5 and (md5 != locked.get(out) or memory.accepted.get(out) == md5) and not is_cut_short
        }
        return _remade(paths, stage, memory, edited)
    if now == locked:
        return ()
    ensure_repository(paths)
    check_files(paths)
    other = {out: md5 for out, md5 in now.items() if md5 != locked[out]}
    edited = {out: md5 for out, md5 in other.items() if md5 and md5 != memory.left.get(out)}
    if fetched := [out for out in other if out not in edited]:
        # missing, or untouched since the last run while git moved dvc.lock to another commit: the files follow it
        try:
            run_dvc(paths, "checkout", "--force", *fetched)
        except PosttrainError:
            return _remade(paths, stage, memory, edited)
    if edited:
        run_dvc(paths, "commit", "--force", _target(paths, stage))
        memory.accepted |= edited
    return tuple(f"{out} was edited by hand; the edit is now version {md5[:8]} of it" for out, md5 in edited.items())


def _remade(paths: Paths, stage: _Stage, memory: Memory, edited: dict[str, str]) -> tuple[str, ...]:
    """Run the stage; copies of edited files stay where the stage made something else of them."""
    ensure_repository(paths)
    check_files(paths)
    copies = {out: edited_name(paths.root / out, md5) for out, md5 in edited.items()}
    try:
        for out, copy in copies.items():
            shutil.copy2(paths.root / out, copy)
    except OSError as error:
        raise cannot_write(error, paths.root) from None
    memory.making = [*memory.making, stage.name]
    memory.save()
    run_dvc(paths, "repro", _target(paths, stage))
    memory.making = [name for name in memory.making if name != stage.name]
    notes = []
    for out, copy in copies.items():
        memory.accepted.pop(out, None)
        if memory.md5(paths, out) == edited[out]:
            copy.unlink()
        else:
            shown = copy.relative_to(paths.root)
            notes.append(
                f"{out} was edited by hand, but what it is made from changed too: it was made anew, your edit is {shown}"
            )
    return tuple(notes)


def _is_stale(paths: Paths, stage: _Stage, lock: dict[str, Any], memory: Memory) -> bool:
    """Return whether the stage would give something else now: its command, settings, sources or list of outputs changed."""
    params = params_of(paths)
    for section in stage.told.get("params", []):
        if section not in params:
            raise RequestError(
                f"params.yaml has no section {section}, from which DVC sees whether data must be made anew. "
                f"Add it, with one setting at least: {section}: {{seed: 0}}"
            )
        if lock.get("params", {}).get("params.yaml", {}).get(section) != params[section]:
            return True
    locked = {dep["path"]: dep.get("md5") for dep in lock.get("deps", [])}
    is_stale = lock.get("cmd") != stage.told["cmd"] or locked != {dep: memory.md5(paths, dep) for dep in stage.told["deps"]}
    outs = {out["path"] for out in lock.get("outs", [])}
    if not is_stale and (missing := sorted(outs - set(stage.told["outs"]))):
        raise damaged(paths, stage.file, f"its stage {stage.key} gave {missing[0]} too, from the same sources")
    return is_stale or outs != set(stage.told["outs"])


def _stage_of(paths: Paths, name: str) -> tuple[_Stage, list[str]]:
    """Return the dataset's stage, with what to say where its dvc.yaml was lost, or names modules that have moved since."""
    file = paths.root / "dvc.yaml" if name == WORLD else paths.data / name / "dvc.yaml"
    notes = []
    if name != WORLD and not file.exists() and _has_records(file.parent):
        _fetch_records(paths, file.parent)
        write_stage_again(paths, name)
        notes = [f"{file.relative_to(paths.root)} was not there; it is written again, from the kinds of the records"]
    stage = _Stage(name, file, {})
    told = read_stages(paths, file).get(stage.key)
    if told is None:
        known = datasets_of(paths)
        raise RequestError(
            f"there is no dataset {name}{did_you_mean(name, known)}; datasets are {', '.join(known) or 'none'}. "
            f"Bring one in: make import FORMAT=<format> FILE=<file> NAME={name}"
        )
    if name != WORLD and (note := follow_code(paths, file, told)):
        notes.append(note)
        told = read_stages(paths, file)[stage.key]
    return _Stage(name, file, told), notes


def _has_records(folder: Path) -> bool:
    return (folder / "records.jsonl").exists() or (folder / "records.jsonl.dvc").exists()


def _versioned_records(paths: Paths, stage: _Stage, memory: Memory) -> list[str]:
    """Bring an imported dataset's records and their `.dvc` file together; return what to say.

    Records that nobody touched since the last run follow a `.dvc` file that git moved; a hand edit becomes the version.
    """
    if stage.name == WORLD:
        return []
    folder = paths.data / stage.name
    records = str((folder / "records.jsonl").relative_to(paths.root))
    version = read_version(paths, folder / "records.jsonl.dvc")
    _fetch_records(paths, folder)
    now, notes = memory.md5(paths, records), []
    if now != version:
        ensure_repository(paths)
        check_files(paths)
        if version is not None and now == memory.left.get(records):
            _fetch_records(paths, folder, force=True)
        else:
            run_dvc(paths, "add", records)
            what = "was edited by hand; the edit is now" if version is not None else "had no .dvc file; it is now"
            notes.append(f"{records} {what} version {str(now)[:8]} of it")
    memory.left[records] = str(memory.md5(paths, records))
    return notes


def _set_damaged_lock_aside(paths: Paths, stage: _Stage) -> None:
    """Make room for a new dvc.lock, where DVC was killed while it wrote the last one."""
    try:
        _locked(paths, stage)
    except DataError:
        lock = stage.file.with_name("dvc.lock")
        lock.replace(lock.with_name("dvc.lock.damaged"))


def _locked(paths: Paths, stage: _Stage) -> dict[str, Any]:
    return read_lock(paths, stage.file.with_name("dvc.lock"), stage.key)


def _roles(lock: dict[str, Any]) -> dict[str, str]:
    return {Path(out["path"]).stem: str(out["md5"]) for out in lock.get("outs", [])}


def _version(paths: Paths, stage: _Stage, lock: dict[str, Any], notes: tuple[str, ...]) -> DatasetVersion:
    files = dict(sorted(_roles(lock).items()))
    digest = hashlib.md5("".join(f"{role} {md5}\n" for role, md5 in files.items()).encode(), usedforsecurity=False)
    return DatasetVersion(name=stage.name, folder=paths.data / stage.name, md5=digest.hexdigest(), files=files, notes=notes)


def _target(paths: Paths, stage: _Stage) -> str:
    return f"{stage.file.relative_to(paths.root)}:{stage.key}"


def _fetch_records(paths: Paths, folder: Path, *, force: bool = False) -> None:
    """Get an imported dataset's records from DVC's cache or remote, where only their .dvc file is there (a fresh clone).

    Args:
        paths: of the repository.
        folder: of the dataset.
        force: also where other records are there; they stay if the right ones cannot be had.

    Raises:
        DataError: they are nowhere.
    """
    records = folder / "records.jsonl"
    if records.exists() and not force:
        return
    shown = records.relative_to(paths.root)
    again = f"or import the data again: make import FORMAT=… FILE=… NAME={folder.name}"
    if not records.with_name("records.jsonl.dvc").exists():
        raise DataError(
            f"{shown} is not here, nor {shown}.dvc, which names its version. Restore it (git checkout {shown}.dvc), {again}"
        )
    ensure_repository(paths)
    check_files(paths)
    try:
        run_dvc(paths, "pull", *(["--force"] if force else []), str(shown))
    except PosttrainError as error:
        raise DataError(
            f"{shown} is not here in the version that {shown}.dvc names, and neither DVC's cache nor its remote has it. Lost are "
            "these records; what was split from them is as it was. Run dvc push where the records are and dvc pull here, "
            f"{again}. DVC said: {' '.join(str(error).split())}"
        ) from None


def edited_name(path: Path, md5: str) -> Path:
    """Return the name under which a hand edit of a file is kept."""
    return path.with_name(f"{path.name}.edited-{md5[:8]}")


def ensure_repository(paths: Paths) -> None:
    """Make DVC's folder where it is missing, and let DVC work without git where there is no git."""
    has_git = any((folder / ".git").exists() for folder in (paths.root.resolve(), *paths.root.resolve().parents))
    if not (paths.root / ".dvc" / "config").exists():
        manner = [] if (paths.root / ".git").exists() else ["--subdir"] if has_git else ["--no-scm"]
        run_dvc(paths, "init", "--force", *manner)
        config = paths.root / ".dvc" / "config"
        config.write_text(CONFIG + ("    no_scm = true\n" if "--no-scm" in manner else ""), encoding="utf-8")
        return
    local = paths.root / ".dvc" / "config.local"
    told = [file.read_text() for file in (paths.root / ".dvc" / "config", local) if file.exists()]
    if not has_git and not any("no_scm = true" in text.lower() for text in told):
        run_dvc(paths, "config", "--local", "core.no_scm", "true")
    if has_git and local.exists() and "no_scm = true" in local.read_text().lower():
        run_dvc(paths, "config", "--local", "--unset", "core.no_scm")


def run_dvc(paths: Paths, *arguments: str) -> str:
    """Run DVC in the root, with this Python first in the path; return what it printed.

    Raises:
        StorageError: it failed, and says that the disk refused.
        DataError: it failed otherwise; the text holds its last lines, without its progress.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "NO_COLOR": "1"}
    if paths.root.name == INCOMING:  # what DVC remembers of a passing copy of the project goes with it
        environment["DVC_SITE_CACHE_DIR"] = str(paths.root / ".dvc" / "site")
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=paths.root,
        env=environment,
        close_fds=False,  # only the locks of `exclusive` can be inherited
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return done.stdout
    said = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    telling = [line for line in said if not line.startswith(_NOISE)] or said or [f"exit code {done.returncode}"]
    problem = "\n".join(telling[-6:]).removeprefix("ERROR: ")
    kind = StorageError if any(sign in done.stdout for sign in _DISK) else DataError
    raise kind(f"dvc {arguments[0]} did not finish: {problem}")
