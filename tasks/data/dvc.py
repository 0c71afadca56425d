"""DVC: which version of a dataset there is, and making it when its sources have changed.

One process at a time runs DVC (it refuses a second one), and none does when nothing has changed: then `dvc.lock` and the
files' digests say so in milliseconds. A file that was edited by hand is never lost: the edit becomes a version of its own.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.errors import DataError, PosttrainError, RequestError, StorageError, did_you_mean
from tasks.data.dataset_stage import follow_code, write_stage_again
from tasks.data.dvc_files import LABELS, RECORDS, WORLD, check_files, lost, read_stages, read_version, version_file
from tasks.data.dvc_memory import Memory
from tasks.data.dvc_stage import Stage, digest_of_files, is_stale
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
        files: md5 of each role's file. Stages that take the dataset are keyed by them.
        notes: what a user should be told, a line each; () as a rule.
        labels: md5 of what people said of responses to its questions (`labels.jsonl`); "" where nobody did. It is part of `md5`,
            and of the key of no stage but those that read labels.
    """

    name: str
    folder: Path
    md5: str
    files: dict[str, str]
    notes: tuple[str, ...] = ()
    labels: str = ""

    @property
    def md5s(self) -> dict[str, str]:
        """Return the md5 of each role's file, and that of people's labels where there are some."""
        return with_labels(self.files, self.labels)


def with_labels(files: Mapping[str, str], labels: str) -> dict[str, str]:
    """Return md5s by name with that of people's labels, "" for none."""
    return {**files, **({"labels": labels} if labels else {})}


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
        return bring_while_locked(paths, name)


def bring_while_locked(paths: Paths, name: str) -> DatasetVersion:
    """Do what `bring_up_to_date` does, for a caller who holds the lock "dvc" already."""
    memory = Memory.load(paths)
    try:
        notes = _settled(paths, paths.data / name)
        stage, written = _stage_of(paths, name)
        notes += [*written, *_versioned_records(paths, stage, memory), *_versioned_labels(paths, stage, memory)]
        notes += _made(paths, stage, memory)
        lock = stage.locked(paths)
        memory.left |= {out["path"]: out["md5"] for out in lock.get("outs", [])}
        version = _version(paths, stage, lock, memory, tuple(notes))
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


def _made(paths: Paths, stage: Stage, memory: Memory) -> tuple[str, ...]:
    """Bring one stage up to date; return the notes."""
    is_cut_short = stage.name in memory.making
    if is_cut_short:
        _set_damaged_lock_aside(paths, stage)
    lock = stage.locked(paths)
    outs = [str(out) for out in stage.told["outs"]]
    locked = {out["path"]: out["md5"] for out in lock.get("outs", [])}
    now = {out: memory.md5(paths, out) for out in outs}
    if is_cut_short or is_stale(paths, stage, lock, memory):
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
        run_dvc(paths, "commit", "--force", stage.target(paths))
        memory.accepted |= edited
    return tuple(f"{out} was edited by hand; the edit is now version {md5[:8]} of it" for out, md5 in edited.items())


def _remade(paths: Paths, stage: Stage, memory: Memory, edited: dict[str, str]) -> tuple[str, ...]:
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
    run_dvc(paths, "repro", stage.target(paths))
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


def _stage_of(paths: Paths, name: str) -> tuple[Stage, list[str]]:
    """Return the dataset's stage, with what to say where its dvc.yaml was lost, or names modules that have moved since."""
    file = paths.root / "dvc.yaml" if name == WORLD else paths.data / name / "dvc.yaml"
    notes = []
    if name != WORLD and not file.exists() and _has_records(file.parent):
        _fetch(paths, file.with_name(RECORDS))
        write_stage_again(paths, name)
        notes = [f"{file.relative_to(paths.root)} was not there; it is written again, from the kinds of the records"]
    stage = Stage(name, file, {})
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
    return Stage(name, file, told), notes


def _has_records(folder: Path) -> bool:
    return (folder / RECORDS).exists() or version_file(folder / RECORDS).exists()


def _versioned_records(paths: Paths, stage: Stage, memory: Memory) -> list[str]:
    """Bring an imported dataset's records and their `.dvc` file together; return what to say."""
    if stage.name == WORLD:
        return []
    return _versioned(paths, paths.data / stage.name / RECORDS, memory, changed="was edited by hand; the edit is now")


def _versioned_labels(paths: Paths, stage: Stage, memory: Memory) -> list[str]:
    """Bring the labels of people and their `.dvc` file together, where there are any; return what to say."""
    file = paths.data / stage.name / LABELS
    if not file.exists() and not version_file(file).exists():
        memory.left.pop(str(file.relative_to(paths.root)), None)
        return []
    # a kill between the two steps of adding labels looks as an edit does
    return _versioned(paths, file, memory, changed="was changed, by hand or by adding labels that was cut off; it is now")


def _versioned(paths: Paths, file: Path, memory: Memory, *, changed: str) -> list[str]:
    """Bring a file that DVC tracks by itself and its `.dvc` file together; return what to say.

    A file that nobody touched since the last run follows a `.dvc` file that git moved; a hand edit becomes the version.
    """
    shown = str(file.relative_to(paths.root))
    version = read_version(paths, version_file(file))
    _fetch(paths, file)
    now, notes = memory.md5(paths, shown), []
    if now != version:
        ensure_repository(paths)
        check_files(paths)
        if version is not None and now == memory.left.get(shown):
            _fetch(paths, file, force=True)
        else:
            run_dvc(paths, "add", shown)
            what = changed if version is not None else "had no .dvc file; it is now"
            notes.append(f"{shown} {what} version {str(now)[:8]} of it")
    memory.left[shown] = str(memory.md5(paths, shown))
    return notes


def _set_damaged_lock_aside(paths: Paths, stage: Stage) -> None:
    """Make room for a new dvc.lock, where DVC was killed while it wrote the last one."""
    try:
        stage.locked(paths)
    except DataError:
        lock = stage.file.with_name("dvc.lock")
        lock.replace(lock.with_name("dvc.lock.damaged"))


def _roles(lock: dict[str, Any]) -> dict[str, str]:
    return {Path(out["path"]).stem: str(out["md5"]) for out in lock.get("outs", [])}


def _version(paths: Paths, stage: Stage, lock: dict[str, Any], memory: Memory, notes: tuple[str, ...]) -> DatasetVersion:
    files, folder = dict(sorted(_roles(lock).items())), paths.data / stage.name
    labels = memory.md5(paths, str((folder / LABELS).relative_to(paths.root))) or ""
    md5 = digest_of_files(with_labels(files, labels))
    return DatasetVersion(name=stage.name, folder=folder, md5=md5, files=files, notes=notes, labels=labels)


def _fetch(paths: Paths, file: Path, *, force: bool = False) -> None:
    """Get a file that DVC tracks by itself from its cache or remote, where only its .dvc file is there (a fresh clone).

    Args:
        paths: of the repository.
        file: a dataset's records, or people's labels.
        force: also where another one is there; it stays if the right one cannot be had.

    Raises:
        DataError: it is nowhere.
    """
    if file.exists() and not force:
        return
    if not version_file(file).exists():
        raise lost(paths, file)
    ensure_repository(paths)
    check_files(paths)
    try:
        run_dvc(paths, "pull", *(["--force"] if force else []), str(file.relative_to(paths.root)))
    except PosttrainError as error:
        raise lost(paths, file, said=" ".join(str(error).split())) from None


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
