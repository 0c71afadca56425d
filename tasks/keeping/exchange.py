"""Restored files take the place of those that lie here as a whole, or not at all, whenever the process dies.

Everything is staged beside its place, in `<folder>/.restore-<process>/new`, while nothing of what lies there changes. Then the
plan of the exchange is renamed into place: this is the moment that decides. Before it, whatever comes next takes the staging
away; after it, whatever comes next completes the exchange. Each step is a rename on one disk: it needs no room, and may be
repeated. What stood there lies in `.restore-<process>/old` until all is done.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from posttrain.errors import RequestError, StorageError
from posttrain.keeping.manifest import ARTIFACTS, LEDGER, PLACES
from tasks.keeping.databases import BESIDE
from tasks.workspace.disk import sync, write_whole
from tasks.workspace.interrupts import uninterrupted
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process

LOCK = "keeping"
"""Held by each backup, restore and clean from its beginning to its end."""
DRAFT, PLAN, DONE, CLEANING = "restore.draft", "restore.json", "restore.done", "clean.at-work"
"""Notes in `.posttrain/keeping/`: a restore is staged; is decided; is carried out; old things are removed."""
UNFINISHED = ".restore.*.new"
"""Notes that were being written."""
STAGING = ".restore-"
FOLDERS = ("mlflow/store", "reports", "data", "labelling", ".posttrain", ".dvc/cache", "")
"""Folders in which names are exchanged, from the root; the last is the root itself, for stores of labels."""
Say = Callable[[str], None]


@dataclass
class Unit:
    """What changes in one folder; names are paths below it.

    Attributes:
        folder: from the repository's root.
        aside: names that stand there and are put aside.
        put: names that take their place.
        add: names that are put only where nothing stands: they are called after their content.
    """

    folder: str
    aside: list[str] = field(default_factory=list)
    put: list[str] = field(default_factory=list)
    add: list[str] = field(default_factory=list)


def notes_folder(paths: Paths) -> Path:
    """Return where a restore and a clean leave word of what they do."""
    return paths.store / "keeping"


def scratch(paths: Paths) -> Path:
    """Return a folder for what a restore needs only while it runs."""
    return notes_folder(paths) / "scratch"


def place_of(path: str) -> tuple[str, str, bool]:
    """Return the folder in which a file's restoring changes a name, that name, and whether it is only added.

    `reports/compare/x/index.html` changes `compare` in `reports`; a stage or an object of DVC's cache is added. Of `labelling`
    single batches are exchanged, so that those which the backup does not have stay.
    """
    folder = next((place.rstrip("/") for place in PLACES if path.startswith(place)), "")
    rest = path.removeprefix(f"{folder}/") if folder else path
    parts = rest.split("/")
    if folder == ".posttrain" and parts[0] == "stages":
        return folder, "/".join(parts[:3]), True
    if folder == "labelling":
        return folder, "/".join(parts[:2]), False
    if folder == ".dvc/cache":
        return folder, rest, True
    if folder == ".posttrain" and parts[0] in ("prefect", "judge", "services"):
        return folder, rest, False
    return folder, parts[0] if folder else rest, False


class Exchange:
    """An exchange that is being prepared; `decide` carries it out."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._name = f"{STAGING}{Process.current().name}"
        self._units: dict[str, Unit] = {}
        notes_folder(paths).mkdir(parents=True, exist_ok=True)
        write_whole(notes_folder(paths) / DRAFT, json.dumps({"staging": self._name}).encode())

    def stage(self, path: str) -> Path:
        """Return where a restored file is written until the exchange; its folder is made.

        Raises:
            RequestError: its place lies on another disk than the folder around it, so that nothing could be renamed there.
        """
        folder, name, is_added = place_of(path)
        unit = self._units.setdefault(folder, Unit(folder))
        names = unit.add if is_added else unit.put
        staged = self._paths.root / folder / self._name / "new" / (path.removeprefix(f"{folder}/") if folder else path)
        staged.parent.mkdir(parents=True, exist_ok=True)
        if name not in names:
            names.append(name)
            self._require_one_disk(self._paths.root / folder, name)
        return staged

    def _require_one_disk(self, folder: Path, name: str) -> None:
        here = (folder / self._name).stat().st_dev
        standing = folder / name
        while standing != folder:
            standing = standing.parent
            if standing.is_dir() and standing.stat().st_dev != here:
                raise RequestError(
                    f"{standing} lies on another disk than {folder}, so nothing can be exchanged in it at once. Restore into a "
                    "folder on one disk, or put that link aside"
                )

    def staged(self, path: str) -> Path | None:
        """Return the staged file of a path, None where there is none."""
        folder, _, _ = place_of(path)
        file = self._paths.root / folder / self._name / "new" / (path.removeprefix(f"{folder}/") if folder else path)
        return file if file.is_file() else None

    def standing(self) -> list[str]:
        """Return what stands here that would be put aside, as paths from the root."""
        self._plan_aside()
        return [str(Path(unit.folder, name)) for unit in self._units.values() for name in unit.aside]

    def _plan_aside(self) -> None:
        for unit in self._units.values():
            folder = self._paths.root / unit.folder
            if unit.folder == "reports":  # they speak of the ledger, which goes as a whole
                found = [path.name for path in folder.iterdir() if not path.name.startswith(STAGING)]
            else:
                beside = [
                    f"{name}{end}" for name in unit.put for end in (BESIDE if unit.folder not in ("data", "labelling") else ("",))
                ]
                if LEDGER in (f"{unit.folder}/{name}" for name in unit.put):
                    beside = list(dict.fromkeys([*beside, Path(ARTIFACTS).name]))  # of the runs that go, though none may come
                found = [name for name in beside if os.path.lexists(folder / name)]
            unit.aside = sorted(found)

    def decide(self) -> None:
        """Put the staged files in place.

        Raises:
            OSError: the plan could not be written; nothing has changed.
            StorageError: the plan is written, but a file could not be moved; the next command completes it.
        """
        self._plan_aside()
        for unit in self._units.values():
            _sync_tree(self._paths.root / unit.folder / self._name)
        folder = notes_folder(self._paths)
        plan = {"staging": self._name, "units": [asdict(unit) for unit in self._units.values()]}
        write_whole(folder / DRAFT, json.dumps(plan).encode())
        with uninterrupted():
            (folder / DRAFT).replace(folder / PLAN)
            sync(folder)
            _complete(self._paths, plan)

    def give_up(self) -> None:
        """Take the staging away, unless it was decided."""
        folder = notes_folder(self._paths)
        if not (folder / PLAN).exists():
            _discard(self._paths)
            (folder / DRAFT).unlink(missing_ok=True)


def _sync_tree(folder: Path) -> None:
    for path in (*sorted(folder.rglob("*")), folder):
        if not path.is_symlink():
            sync(path)


def settle(paths: Paths, say: Say) -> None:
    """Complete, or take away, what a restore left that was killed; wait for a clean that is at work.

    Raises:
        RequestError: a restore is at work.
        StorageError: the disk refuses, or the plan is damaged.
    """
    folder = notes_folder(paths)
    is_restoring = any((folder / name).exists() for name in (DRAFT, PLAN, DONE))
    if not (is_restoring or (folder / CLEANING).exists() or any(folder.glob(UNFINISHED))):
        return
    with exclusive(paths, LOCK, wait=False) as is_held:
        if is_held:
            _settle(paths, say)
            return
    if is_restoring:
        raise RequestError("a restore is under way in another process. Wait until it is done, then run again")
    if (folder / CLEANING).exists():
        say("waiting for make clean, which is at work")
        with exclusive(paths, LOCK):
            _settle(paths, say)


def _settle(paths: Paths, say: Say) -> None:
    folder = notes_folder(paths)
    (folder / CLEANING).unlink(missing_ok=True)
    if (folder / PLAN).exists():
        with uninterrupted():
            _complete(paths, _read(folder / PLAN))
        say("a restore was stopped while its files were put in place; now they all are")
        return
    is_known = (folder / DONE).exists()
    is_left = (folder / DRAFT).exists()
    if is_known or is_left or any(folder.glob(UNFINISHED)):
        _discard(paths)
        (folder / DRAFT).unlink(missing_ok=True)
        (folder / DONE).unlink(missing_ok=True)
    if is_left and not is_known:
        say("a restore was stopped before its end; everything is as it was before")


def _read(plan: Path) -> Mapping[str, object]:
    try:
        told = json.loads(plan.read_text(encoding="utf-8"))
        for unit in told["units"]:
            Unit(**unit)
        str(told["staging"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{plan} is damaged ({error}), so a restore that was stopped cannot be completed. What it put aside lies in folders "
            f"{STAGING}*/old, what it brings in {STAGING}*/new, below {', '.join(one or '.' for one in FOLDERS)}. Move them by "
            "hand, then remove the plan"
        ) from None
    return dict(told)


def _complete(paths: Paths, plan: Mapping[str, object]) -> None:
    """Do what is not done yet."""
    staging = str(plan["staging"])
    units: Sequence[Mapping[str, object]] = plan["units"]  # type: ignore[assignment]
    try:
        for told in units:
            unit = Unit(**told)  # type: ignore[arg-type]
            folder = paths.root / unit.folder
            new, old = folder / staging / "new", folder / staging / "old"
            _put_aside(folder, old, unit.aside)
            for name in unit.put:
                _move(new / name, folder / name)
            for name in unit.add:
                if not os.path.lexists(folder / name):
                    _move(new / name, folder / name)
            sync(folder)
        notes = notes_folder(paths)
        (notes / PLAN).replace(notes / DONE)
        sync(notes)
    except OSError as error:
        raise StorageError(
            f"the restored files are whole, but cannot be put in place: {error.filename}: {error.strerror or error}. Correct the "
            "permissions; the next command of any kind completes it"
        ) from None
    _discard(paths)
    (notes_folder(paths) / DONE).unlink(missing_ok=True)


def _put_aside(folder: Path, old: Path, names: Iterable[str]) -> None:
    """Move what stands in the way; once a name is among the old ones, what stands under it may be the new one already."""
    for name in names:
        if not os.path.lexists(old / name):
            _move(folder / name, old / name)


def _move(source: Path, target: Path) -> None:
    if os.path.lexists(source):
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)


def _discard(paths: Paths) -> None:
    """Remove every staging and what was put aside in it, and folders that only held those."""
    shutil.rmtree(scratch(paths), ignore_errors=True)
    for note in notes_folder(paths).glob(UNFINISHED):
        note.unlink(missing_ok=True)
    for folder in FOLDERS:
        for left in (paths.root / folder).glob(f"{STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)
    with suppress(OSError):
        (paths.root / ".dvc" / "cache").rmdir()
