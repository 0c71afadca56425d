"""TRL's own virtual environment, below the git-ignored store, beside ours and untouched by it."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
STORE = ROOT / ".posttrain"
TRL = "1.12.0"
"""The last release with a PPO."""
SHARED = ("torch", "transformers", "accelerate")
"""What both sides have in the same version, so that the trainers differ and nothing below them does."""


def theirs() -> Path:
    """Return the Python that has TRL 1.12.0, made at the first call; torch by pip, whose configuration decides the build."""
    folder = STORE / "trl-1.12"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = {"trl": TRL, **{name: version(name).partition("+")[0] for name in SHARED}}
    ready = folder / "ready.json"
    if ready.is_file() and json.loads(ready.read_text()) == wanted:
        return python
    pins = {name: f"{name}=={number}" for name, number in wanted.items()}
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", pins.pop("torch"))
    _run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), *pins.values())
    ready.write_text(json.dumps(wanted))
    return python


def _run(*command: str) -> None:
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"TRL {TRL} could not be installed below .posttrain/: {' '.join(command)}")
