"""Checkpoints of a training run that may be interrupted: whole or absent, the newest and the best kept."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from models.processes import is_first

BEST = "best.pt"


class Checkpoints:
    """Checkpoints of one stage key below a folder of its own.

    Attributes:
        folder: where they lie; the stage's key is part of its path, so that other settings, data or code never meet them.
    """

    def __init__(self, folder: Path, *, say: Callable[[str], None] | None = None) -> None:
        self.folder = folder
        self._say = say or (lambda line: print(line, file=sys.stderr, flush=True))

    def save(self, step: int, state: Mapping[str, Any], *, is_best: bool) -> None:
        """Write the state after `step`, and then remove older ones; the best one so far stays as well.

        Of several processes that train together the first one writes.
        """
        if not is_first():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:08d}.pt"
        unfinished = path.with_suffix(f".part-{os.getpid()}")
        try:
            with unfinished.open("wb") as file:
                torch.save(dict(state), file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        if is_best:
            copy = self.folder / f"{BEST}.part-{os.getpid()}"
            copy.unlink(missing_ok=True)
            os.link(path, copy)
            copy.replace(self.folder / BEST)
        for old in self._steps()[:-1]:
            old.unlink()

    def latest(self) -> dict[str, Any] | None:
        """Return the newest state that can be read, the best one's where no other can, or None; say which could not."""
        damaged: list[str] = []
        for path in [*reversed(self._steps()), *filter(None, [self.best()])]:
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except Exception:  # torch tells damage by errors of a dozen kinds
                state = None
            if isinstance(state, dict):
                self._tell(damaged, f"training goes on from {path.name}")
                return state
            damaged.append(path.name)
            # out of the way: as the newest by name it would push out those that are written from now on
            if is_first():
                path.replace(path.with_suffix(".damaged"))
        self._tell(damaged, "training starts from its beginning")
        return None

    def _tell(self, damaged: list[str], what: str) -> None:
        if damaged:
            self._say(
                f"{self.folder}: {', '.join(damaged)} cannot be read, so {what}. Only the steps since then are lost; "
                "what could not be read is kept beside it as .damaged until the stage is finished"
            )

    def best(self) -> Path | None:
        """Return the best checkpoint's file, or None."""
        path = self.folder / BEST
        return path if path.is_file() else None

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))
