"""A stage of DVC's as its dvc.yaml and dvc.lock have it, and whether it would give something else now."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.errors import RequestError
from tasks.data.dvc_files import WORLD, damaged, read_lock
from tasks.data.dvc_memory import Memory
from tasks.data.stages import params_of
from tasks.workspace.paths import Paths


@dataclass(frozen=True)
class Stage:
    """A dataset's stage; paths count from the root.

    Attributes:
        name: of the dataset.
        file: its dvc.yaml.
        told: what that says of it.
    """

    name: str
    file: Path
    told: dict[str, Any]

    @property
    def key(self) -> str:
        """Its name in dvc.yaml."""
        return "world" if self.name == WORLD else "split"

    def target(self, paths: Paths) -> str:
        """Return what DVC's commands call it."""
        return f"{self.file.relative_to(paths.root)}:{self.key}"

    def locked(self, paths: Paths) -> dict[str, Any]:
        """Return what dvc.lock says of it, {} where it was never made.

        Raises:
            DataError: that file is damaged.
        """
        return read_lock(paths, self.file.with_name("dvc.lock"), self.key)


def is_stale(paths: Paths, stage: Stage, lock: dict[str, Any], memory: Memory) -> bool:
    """Return whether the stage would give something else now: its command, settings, sources or list of outputs changed.

    Raises:
        RequestError: params.yaml lacks a section that the stage depends on.
        DataError: dvc.yaml lacks an output that the stage gave from the same sources.
    """
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
    is_other = lock.get("cmd") != stage.told["cmd"] or locked != {dep: memory.md5(paths, dep) for dep in stage.told["deps"]}
    outs = {out["path"] for out in lock.get("outs", [])}
    if not is_other and (missing := sorted(outs - set(stage.told["outs"]))):
        raise damaged(paths, stage.file, f"its stage {stage.key} gave {missing[0]} too, from the same sources")
    return is_other or outs != set(stage.told["outs"])


def digest_of_files(files: Mapping[str, str]) -> str:
    """Return one digest of files, md5s by name, whatever their order; it names the version of a dataset."""
    lines = "".join(f"{name} {md5}\n" for name, md5 in sorted(files.items()))
    return hashlib.md5(lines.encode(), usedforsecurity=False).hexdigest()
