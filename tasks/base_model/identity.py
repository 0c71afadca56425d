"""Which base a pipeline starts from, told without loading it: a cached run imports neither torch nor transformers."""

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path

from posttrain.settings.model import ModelSettings
from tasks.workspace.artifacts import file_digest

TINY = "tiny"
Files = tuple[tuple[str, int, int], ...]
"""Name, time in nanoseconds and size of each."""


def device_type() -> str:
    """Return `cuda` or `cpu`: what `models.load.device` will say, without importing torch where its build leaves no choice."""
    if version("torch").endswith("+cpu"):
        return "cpu"
    from models.load import device

    return device().type


def base_digest(model: ModelSettings, *, setting: str = "model.base") -> str:
    """Return what identifies the base: the digests of a local directory's files, or the commit that a hub id stands for."""
    folder = Path(model.source)
    if model.base == TINY:
        return TINY
    if not folder.is_dir():
        from models.load import hub_commit

        return f"{model.base}@{hub_commit(model.base, revision=model.revision, setting=setting)}"
    return _digest_of(folder.resolve(), files_of(folder))


def files_of(folder: Path) -> Files:
    """Return what tells a directory's files from others that replace them: names, times, sizes; () where there is none."""
    if not folder.is_dir():
        return ()
    found = ((file.name, file.stat()) for file in sorted(folder.iterdir()) if file.is_file())
    return tuple((name, status.st_mtime_ns, status.st_size) for name, status in found)


@cache
def _digest_of(folder: Path, files: Files) -> str:
    """Read the files once a process, for they may be large, and each stage of each pipeline of a comparison asks."""
    digests = {name: file_digest(folder / name) for name, _, _ in files}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor has instructions for products in bfloat16, by Linux's list of its flags; without torch."""
    try:
        flags = next((line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("flags")), "")
    except (OSError, UnicodeDecodeError):
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags.split())
