"""The environment that our libraries read when they are imported: quiet, offline by default, inside the repository."""

import ctypes
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.workspace.paths import Paths

QUIET = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",  # of a hub that does not answer we tell in one sentence, not in one a retry
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_MODEL_CATALOG_URI": "",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin make a shared machine ten times slower: docs/decisions/0003-world.md
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)."""
_KEPT = 2**30


@dataclass(frozen=True)
class LastingServer:
    """The Prefect server of `make up`: its process, when that started (an id alone may be somebody else's by now), its page."""

    pid: int
    started: float
    site: str


def prefect_home(paths: Paths) -> Path:
    """Return the folder of Prefect's database, results and server."""
    return paths.store / "prefect"


def prepare(paths: Paths, *, is_tiny: bool) -> None:
    """Set what is not set yet; called before Prefect, MLflow or transformers are imported.

    Args:
        paths: of the repository.
        is_tiny: the tiny base: then no library may ask the hub for anything, and one thread is enough for operations so small.
    """
    keep_freed_memory()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if is_tiny:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # docs/decisions/0003-world.md
    home = prefect_home(paths).resolve()
    os.environ.setdefault("PREFECT_HOME", str(home))
    os.environ.setdefault("PREFECT_LOCAL_STORAGE_PATH", str(home / "results"))
    if "PREFECT_API_URL" not in os.environ and (server := lasting_server(paths)):
        os.environ["PREFECT_API_URL"] = f"{server.site}/api"


def keep_freed_memory() -> bool:
    """Let the C library keep up to 1 GiB that was freed, and return whether it does; on Linux with glibc only.

    A training step frees and asks for the same tensors again. By itself glibc hands back what is beyond 64 MB and gets it page by
    page, zeroed: about a tenth of an update of the default PPO (`python -m benchmarks.ppo_parts`).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, _KEPT) == 1 for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))


def lasting_server(paths: Paths) -> LastingServer | None:
    """Return the Prefect server that `make up` started here, while it lives."""
    try:
        server = LastingServer(**json.loads(_note(paths).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    import psutil  # type: ignore[import-untyped, unused-ignore]

    try:
        process = psutil.Process(server.pid)
        is_it = abs(process.create_time() - server.started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return server if is_it else None


def remember(paths: Paths, server: LastingServer) -> None:
    """Note the lasting server for the commands to come."""
    _note(paths).write_text(json.dumps(asdict(server)), encoding="utf-8")


def forget(paths: Paths) -> None:
    """Take the note away."""
    with suppress(OSError):
        _note(paths).unlink()


def _note(paths: Paths) -> Path:
    return prefect_home(paths) / "lasting-server.json"
