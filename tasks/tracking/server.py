"""MLflow's own server, which shows the local store."""

import os
import sys

from tasks.tracking.store import artifacts_folder, store_uri
from tasks.workspace.paths import Paths

UI_PORT = 5000


def server_command(paths: Paths, port: int = UI_PORT) -> list[str]:
    """Return the command that serves the UI of the local store on this machine only; run it with `server_environment`."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store_uri(paths)]
    command += ["--artifacts-destination", str(artifacts_folder(paths))]
    own = [f"{name}:{port}" for name in ("127.0.0.1", "localhost")]  # MLflow's own list takes any name that starts with "10."
    command += ["--allowed-hosts", ",".join(own), "--cors-allowed-origins", ",".join(f"http://{name}" for name in own)]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def server_environment() -> dict[str, str]:
    """Return the environment of the server: one worker without job runners takes 0.5 GB of memory, the default 2.6 GB.

    Nothing in it turns off the check of hosts and origins, which keeps foreign pages from the store.
    """
    opening = ("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "MLFLOW_GUNICORN_OPTS")
    kept = {name: value for name, value in os.environ.items() if name not in opening}
    return {**kept, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
