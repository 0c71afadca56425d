"""DVC: which version of a dataset there is, and making it when its sources have changed.

One process at a time runs DVC (it refuses a second one), and none does when nothing has changed: then `dvc.lock` and the
files' digests say so in milliseconds. A file that was edited by hand is never lost: the edit becomes a version of its own.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posttrain.errors import DataError, PosttrainError, RequestError, StorageError, did_you_mean
from tasks.data import cannot_write, params_of
from tasks.places import Places

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


def bring_up_to_date(places: Places, name: str) -> DatasetVersion:
    """Make the dataset's files if their sources changed (`dvc repro`), and return the version that lies there now.

    An output that was edited by hand is kept: as the new version if its sources are as they were (`dvc commit`), else as a
    copy `<file>.edited-<md5>` beside the file that is made anew. Two processes may call this at the same time.

    Raises:
        RequestError: there is no such dataset, or `params.yaml` lacks the section that the data depend on.
        DataError: a stage failed; the text holds what it said.
        StorageError: the disk refused.
    """
    stage = _stage_of(places, name)
    with exclusive(places, "dvc"):
        memory = _Memory.load(places)
        try:
            notes = _made(places, stage, memory)
            lock = _locked(stage)
            memory.left |= {out["path"]: out["md5"] for out in lock.get("outs", [])}
            return _version(places, stage, lock, notes)
        finally:
            memory.save()


def datasets_of(places: Places) -> list[str]:
    """Return the names of the datasets there are, the default world first."""
    found = sorted(file.parent.name for file in places.data.glob("*/dvc.yaml"))
    return (["world"] if _stages(places.root / "dvc.yaml").get("world") else []) + found


def add_file(places: Places, path: Path) -> None:
    """Put a file into DVC's cache and under its care (`dvc add`); the caller holds the lock "dvc"."""
    _ensure_repository(places)
    _dvc(places, "add", str(path.relative_to(places.root)))


def retire(places: Places, name: str, roles: tuple[str, ...]) -> None:
    """Take away the files of roles that a dataset no longer has; one that was edited by hand is renamed instead."""
    for role, md5 in _roles(_locked(_Stage(name, places.data / name / "dvc.yaml", {}))).items():
        path = places.data / name / f"{role}.jsonl"
        if role in roles or not path.exists():
            continue
        if _md5(path) == md5:
            path.unlink()
        else:
            path.rename(_edited_name(path, _md5(path)))


@contextmanager
def exclusive(places: Places, lock: str) -> Iterator[None]:
    """Hold `<store>/<lock>.lock`, waiting while another process does; the system releases it when a process dies."""
    try:
        places.store.mkdir(parents=True, exist_ok=True)
        handle = (places.store / f"{lock}.lock").open("w")
    except OSError as error:
        raise cannot_write(error, places.store) from None
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class _Stage:
    """A stage as its dvc.yaml has it; paths count from the root."""

    name: str
    file: Path
    told: dict[str, Any]

    @property
    def key(self) -> str:
        return "world" if self.name == "world" else "split"


@dataclass
class _Memory:
    """What is remembered between runs, in `<store>/dvc.json`.

    Attributes:
        path: of that file.
        digests: md5 by path, with the size, time and inode that it holds for.
        accepted: md5 of each hand edit, by path.
        making: stages whose run did not end.
        left: md5 by path, as the last run left file and dvc.lock.
    """

    path: Path
    digests: dict[str, list[Any]] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)
    making: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, places: Places) -> "_Memory":
        path = places.store / "dvc.json"
        try:
            return cls(path, **json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls(path)

    def save(self) -> None:
        part = self.path.with_suffix(".part")
        try:
            told = {name: getattr(self, name) for name in ("digests", "accepted", "making", "left")}
            part.write_text(json.dumps(told), encoding="utf-8")
            part.replace(self.path)
        except OSError as error:
            raise cannot_write(error, self.path) from None

    def md5(self, places: Places, path: str) -> str | None:
        """Return the md5 of a file, read again only if its size, time or inode changed; None where there is none."""
        try:
            found = (places.root / path).stat()
        except OSError:
            return None
        mark = [found.st_size, found.st_mtime_ns, found.st_ino]
        known = self.digests.get(path)
        if known is None or known[:3] != mark:
            self.digests[path] = known = [*mark, _md5(places.root / path)]
        return str(known[3])


def _made(places: Places, stage: _Stage, memory: _Memory) -> tuple[str, ...]:
    """Bring one stage up to date; return the notes."""
    lock = _locked(stage)
    outs = [str(out) for out in stage.told["outs"]]
    locked = {out["path"]: out["md5"] for out in lock.get("outs", [])}
    now = {out: memory.md5(places, out) for out in outs}
    is_cut_short = stage.name in memory.making
    if is_cut_short or _is_stale(places, stage, lock, memory):
        edited = {
            out: md5
            for out, md5 in now.items()
            if md5 and (md5 != locked.get(out) or memory.accepted.get(out) == md5) and not is_cut_short
        }
        return _remade(places, stage, memory, edited)
    if now == locked:
        return ()
    _ensure_repository(places)
    other = {out: md5 for out, md5 in now.items() if md5 != locked[out]}
    edited = {out: md5 for out, md5 in other.items() if md5 and md5 != memory.left.get(out)}
    if fetched := [out for out in other if out not in edited]:
        # missing, or untouched since the last run while git moved dvc.lock to another commit: the files follow it
        try:
            _dvc(places, "checkout", "--force", *fetched)
        except PosttrainError:
            return _remade(places, stage, memory, edited)
    if edited:
        _dvc(places, "commit", "--force", _target(places, stage))
        memory.accepted |= edited
    return tuple(f"{out} was edited by hand; the edit is now version {md5[:8]} of it" for out, md5 in edited.items())


def _remade(places: Places, stage: _Stage, memory: _Memory, edited: dict[str, str]) -> tuple[str, ...]:
    """Run the stage; copies of edited files stay where the stage made something else of them."""
    _ensure_repository(places)
    _fetch_records(places, stage)
    copies = {out: _edited_name(places.root / out, md5) for out, md5 in edited.items()}
    try:
        for out, copy in copies.items():
            shutil.copy2(places.root / out, copy)
    except OSError as error:
        raise cannot_write(error, places.root) from None
    memory.making = [*memory.making, stage.name]
    memory.save()
    _dvc(places, "repro", _target(places, stage))
    memory.making = [name for name in memory.making if name != stage.name]
    notes = []
    for out, copy in copies.items():
        memory.accepted.pop(out, None)
        if memory.md5(places, out) == edited[out]:
            copy.unlink()
        else:
            shown = copy.relative_to(places.root)
            notes.append(
                f"{out} was edited by hand, but what it is made from changed too: it was made anew, your edit is {shown}"
            )
    return tuple(notes)


def _is_stale(places: Places, stage: _Stage, lock: dict[str, Any], memory: _Memory) -> bool:
    """Return whether the stage would give something else now: its command, settings, sources or list of outputs changed."""
    params = params_of(places)
    for section in stage.told.get("params", []):
        if section not in params:
            raise RequestError(
                f"params.yaml has no section {section}, from which DVC sees whether data must be made anew. "
                f"Add it, with one setting at least: {section}: {{seed: 0}}"
            )
        if lock.get("params", {}).get("params.yaml", {}).get(section) != params[section]:
            return True
    locked = {dep["path"]: dep.get("md5") for dep in lock.get("deps", [])}
    return (
        lock.get("cmd") != stage.told["cmd"]
        or {out["path"] for out in lock.get("outs", [])} != set(stage.told["outs"])
        or locked != {dep: memory.md5(places, dep) for dep in stage.told["deps"]}
    )


def _stage_of(places: Places, name: str) -> _Stage:
    file = places.root / "dvc.yaml" if name == "world" else places.data / name / "dvc.yaml"
    stage = _Stage(name, file, {})
    told = _stages(file).get(stage.key)
    if told is None:
        known = datasets_of(places)
        raise RequestError(
            f"there is no dataset {name}{did_you_mean(name, known)}; datasets are {', '.join(known) or 'none'}. "
            f"Bring one in: make import FORMAT=<format> FILE=<file> NAME={name}"
        )
    return _Stage(name, file, told)


def _stages(file: Path) -> dict[str, Any]:
    """Return the stages of a dvc.yaml or dvc.lock; {} where there is no such file."""
    import yaml  # type: ignore[import-untyped]

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return (yaml.load(file.read_text(encoding="utf-8"), Loader=loader) or {}).get("stages") or {}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{file} is not what DVC writes ({reason}). Restore it: git checkout {file}") from None


def _locked(stage: _Stage) -> dict[str, Any]:
    return dict(_stages(stage.file.with_name("dvc.lock")).get(stage.key) or {})


def _roles(lock: dict[str, Any]) -> dict[str, str]:
    return {Path(out["path"]).stem: str(out["md5"]) for out in lock.get("outs", [])}


def _version(places: Places, stage: _Stage, lock: dict[str, Any], notes: tuple[str, ...]) -> DatasetVersion:
    files = dict(sorted(_roles(lock).items()))
    digest = hashlib.md5("".join(f"{role} {md5}\n" for role, md5 in files.items()).encode(), usedforsecurity=False)
    return DatasetVersion(name=stage.name, folder=places.data / stage.name, md5=digest.hexdigest(), files=files, notes=notes)


def _target(places: Places, stage: _Stage) -> str:
    return f"{stage.file.relative_to(places.root)}:{stage.key}"


def _fetch_records(places: Places, stage: _Stage) -> None:
    """Get an imported dataset's records from DVC's cache or remote, where only their .dvc file is there (a fresh clone)."""
    records = places.data / stage.name / "records.jsonl"
    if stage.name == "world" or records.exists() or not records.with_name("records.jsonl.dvc").exists():
        return
    try:
        _dvc(places, "pull", str(records.relative_to(places.root)))
    except PosttrainError as error:
        raise DataError(
            f"{records.relative_to(places.root)} is not here, and DVC could not fetch it. Run dvc pull where its remote can be "
            f"reached, or import the data again: make import. DVC said: {error}"
        ) from None


def _edited_name(path: Path, md5: str) -> Path:
    return path.with_name(f"{path.name}.edited-{md5[:8]}")


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _ensure_repository(places: Places) -> None:
    """Make DVC's folder where it is missing, and let DVC work without git where there is no git."""
    has_git = any((folder / ".git").exists() for folder in (places.root.resolve(), *places.root.resolve().parents))
    if not (places.root / ".dvc" / "config").exists():
        manner = [] if (places.root / ".git").exists() else ["--subdir"] if has_git else ["--no-scm"]
        _dvc(places, "init", "--force", *manner)
        config = places.root / ".dvc" / "config"
        config.write_text(CONFIG + ("    no_scm = true\n" if "--no-scm" in manner else ""), encoding="utf-8")
        return
    local = places.root / ".dvc" / "config.local"
    told = [file.read_text() for file in (places.root / ".dvc" / "config", local) if file.exists()]
    if not has_git and not any("no_scm = true" in text.lower() for text in told):
        _dvc(places, "config", "--local", "core.no_scm", "true")
    if has_git and local.exists() and "no_scm = true" in local.read_text().lower():
        _dvc(places, "config", "--local", "--unset", "core.no_scm")


def _dvc(places: Places, *arguments: str) -> str:
    """Run DVC in the root, with this Python first in the path; return what it printed.

    Raises:
        StorageError: it failed, and says that the disk refused.
        DataError: it failed otherwise; the text holds its last lines, without its progress.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=places.root,
        env=environment,
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
