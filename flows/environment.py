"""The environment that our libraries read when they are imported: quiet, offline by default, inside the repository."""

import os
from pathlib import Path

from tasks.places import Places

QUIET = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
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
SERVER = "http://127.0.0.1:4200"


def prefect_home(places: Places) -> Path:
    """Return the folder of Prefect's database, results and server."""
    return places.store / "prefect"


def prepare(places: Places, *, is_offline: bool) -> None:
    """Set what is not set yet; called before Prefect, MLflow or transformers are imported.

    Args:
        places: of the repository.
        is_offline: the default base and data: then no library may ask the hub for anything.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if is_offline:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    home = prefect_home(places).resolve()
    os.environ.setdefault("PREFECT_HOME", str(home))
    os.environ.setdefault("PREFECT_LOCAL_STORAGE_PATH", str(home / "results"))
    if "PREFECT_API_URL" not in os.environ and server_pid(places) is not None:
        os.environ["PREFECT_API_URL"] = f"{SERVER}/api"


def server_pid(places: Places) -> int | None:
    """Return the process of the Prefect server that `make up` started here, while it lives."""
    try:
        pid = int((prefect_home(places) / "server.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid
