"""What is remembered of DVC's work between runs, so that a run in which nothing changed need not start it."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.workspace.disk import cannot_write, write_whole
from tasks.workspace.paths import Paths


@dataclass
class Memory:
    """What is remembered between runs, in `<store>/dvc.json`.

    Attributes:
        path: of that file.
        digests: md5 by path, with the size, time and inode that it holds for.
        accepted: md5 of each hand edit, by path.
        making: stages whose run did not end.
        left: md5 by path, as the last run left file and dvc.lock.
        versions: md5 of each dataset as it was found last, by name.
    """

    path: Path
    digests: dict[str, list[Any]] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)
    making: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, paths: Paths) -> "Memory":
        """Return what is remembered; nothing where the file is missing or damaged."""
        path = paths.store / "dvc.json"
        try:
            memory = cls(path, **json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls(path)
        is_whole = isinstance(memory.making, list) and all(
            isinstance(each, dict) for each in (memory.digests, memory.accepted, memory.left, memory.versions)
        )
        return memory if is_whole else cls(path)

    def save(self) -> None:
        """Write it, as a whole or not at all."""
        told = {name: getattr(self, name) for name in ("digests", "accepted", "making", "left", "versions")}
        try:
            write_whole(self.path, json.dumps(told).encode())
        except OSError as error:
            raise cannot_write(error, self.path) from None

    def md5(self, paths: Paths, path: str) -> str | None:
        """Return the md5 of a file, read again only if its size, time or inode changed; None where there is none."""
        try:
            found = (paths.root / path).stat()
        except OSError:
            return None
        mark = [found.st_size, found.st_mtime_ns, found.st_ino]
        known = self.digests.get(path)
        if known is None or known[:3] != mark:
            self.digests[path] = known = [*mark, md5_of(paths.root / path)]
        return str(known[3])


def md5_of(path: Path) -> str:
    """Return the md5 of a file's bytes, which is how DVC names them."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
