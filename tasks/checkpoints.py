"""Checkpoints of a training run that may be interrupted: whole or absent, the newest and the best kept."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

BEST = "best.pt"


class Checkpoints:
    """Checkpoints of one stage key below a folder of its own.

    Attributes:
        folder: where they lie; the stage's key is part of its path, so that other settings, data or code never meet them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, state: Mapping[str, Any], *, is_best: bool) -> None:
        """Write the state after `step`, and then remove older ones; the best one so far stays as well."""
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
        """Return the newest state that can be read, or None."""
        for path in reversed(self._steps()):
            with suppress(OSError, RuntimeError, EOFError, UnpicklingError, KeyError):
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return state
        return None

    def best(self) -> Path | None:
        """Return the best checkpoint's file, or None."""
        path = self.folder / BEST
        return path if path.is_file() else None

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))
