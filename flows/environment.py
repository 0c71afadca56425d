"""The environment that our libraries read when they are imported: quiet, offline by default, inside the repository."""

import ctypes
import os
import sys
from pathlib import Path

from tasks.services.notes import PREFECT, Service, running
from tasks.services.passwords import login_of
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
KEPT, LARGE = 2**30, 2**25
"""Bytes: what is kept of freed memory at most; and a block that a real model gives back at once."""
_PRIMITIVES = 128
"""Compiled products that oneDNN keeps, a shape each. By itself it keeps 1,024, and a real model in bfloat16, whose batches all
have other lengths, grows by 0.14 GB with each of the first updates of PPO (docs/decisions/0030-profiles.md)."""


def prefect_home(paths: Paths) -> Path:
    """Return the folder of Prefect's database, results and server."""
    return paths.store / "prefect"


def prepare(paths: Paths, *, is_tiny: bool, password: str = "") -> None:
    """Set what is not set yet; called before Prefect, MLflow or transformers are imported.

    Args:
        paths: of the repository.
        is_tiny: the tiny base: then no library may ask the hub for anything, and one thread is enough for operations so small.
        password: where `user:password` of the servers is, as `servers.password` says; "": where the running server's note says.

    Raises:
        RequestError: a password is needed and is not where it should be.
    """
    quieten()
    keep_freed_memory(mapped_from=KEPT if is_tiny else LARGE)
    if is_tiny:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # docs/decisions/0003-world.md
    else:
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_PRIMITIVES))
    home = prefect_home(paths).resolve()
    os.environ.setdefault("PREFECT_HOME", str(home))
    os.environ.setdefault("PREFECT_LOCAL_STORAGE_PATH", str(home / "results"))
    server = running(paths, PREFECT)
    if "PREFECT_API_URL" not in os.environ and server:
        os.environ["PREFECT_API_URL"] = f"{server.site}/api"
    _introduce(server, password)


def quieten() -> None:
    """Set what keeps libraries quiet, where it is not set yet; before any of them is imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def _introduce(server: Service | None, password: str) -> None:
    """Let the clients of Prefect and MLflow in this process, and in those that it starts, know the password."""
    where = password or (server.password if server else "")
    if not where or "PREFECT_API_AUTH_STRING" in os.environ:
        return
    login = login_of(where, setting="servers.password" if password else "the password of make up")
    os.environ["PREFECT_API_AUTH_STRING"] = login
    user, _, secret = login.partition(":")
    os.environ.setdefault("MLFLOW_TRACKING_USERNAME", user)
    os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", secret)


def keep_freed_memory(*, mapped_from: int = KEPT) -> bool:
    """Let the C library keep up to 1 GiB that was freed, and return whether it does; on Linux with glibc only.

    A training step frees and asks for the same tensors again. By itself glibc hands back what is beyond 64 MB and gets it page by
    page, zeroed: about a tenth of an update of the default PPO (`python -m benchmarks.ppo_parts`).

    Args:
        mapped_from: bytes of a block from which it is mapped by itself and given back when it is freed. For a real model that is
            32 MiB: whole logits, of ever other sizes, would cut the heap to pieces, and it grew by gigabytes
            (docs/decisions/0030-profiles.md).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_TRIM_THRESHOLD, KEPT) == 1 and mallopt(_MMAP_THRESHOLD, mapped_from) == 1
