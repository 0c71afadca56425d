"""A stage's arguments on their way to another machine: paths become places below each machine's own root."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.workspace.paths import Paths


@dataclass(frozen=True)
class Seen:
    """What a stage's arguments name below the root, as node 0 sees it.

    Attributes:
        stages: finished stages, name and key.
        checkpoints: files to go on from and their bytes, by the folder.
        others: files and folders that are there, outside `.posttrain`.
    """

    stages: list[tuple[str, str]] = field(default_factory=list)
    checkpoints: dict[str, dict[str, int]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def note(self, paths: Paths, place: str) -> None:
        """Sort a path below the root in."""
        whole = paths.root / place
        if whole.is_relative_to(paths.stages):
            stage, key, *_ = whole.relative_to(paths.stages).parts
            if (stage, key) not in self.stages:
                self.stages.append((stage, key))
        elif whole.is_relative_to(paths.checkpoints):
            self.checkpoints[place] = sizes(whole)
        elif not whole.is_relative_to(paths.store) and whole.exists():
            self.others.append(place)


def sizes(folder: Path) -> dict[str, int]:
    """Return the checkpoints in a folder, and their bytes."""
    return {file.name: file.stat().st_size for file in sorted(folder.glob("*.pt"))}


def packed(arguments: Mapping[str, Any], paths: Paths) -> tuple[bytes, Seen]:
    """Return a stage's arguments for other folders, and what of them lies in this one."""
    import cloudpickle

    seen, root = Seen(), paths.root.resolve()
    paths = Paths(root)

    class Packer(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
        def persistent_id(self, value: Any) -> tuple[str, str] | None:
            """Send a path below the root as its place there."""
            if not isinstance(value, Path):
                return None
            if not (root / value).is_relative_to(root):
                return "elsewhere", str(value)
            place = str((root / value).relative_to(root))
            seen.note(paths, place)
            return "below", place

    file = io.BytesIO()
    Packer(file).dump(dict(arguments))
    return file.getvalue(), seen


def unpacked(told: bytes, root: Path) -> dict[str, Any]:
    """Return a stage's arguments in this folder."""

    class Unpacker(pickle.Unpickler):
        def persistent_load(self, told: tuple[str, str]) -> Path:
            """Return a path of this folder."""
            kind, text = told
            return root / text if kind == "below" else Path(text)

    arguments: dict[str, Any] = Unpacker(io.BytesIO(told)).load()
    return arguments
