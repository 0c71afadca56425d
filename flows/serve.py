"""One service in the foreground, for a container or a supervisor: `python -m flows.serve mlflow servers.host=0.0.0.0 …`.

It is what `make up` starts in the background (flows/services.py), with the same settings, checks and guard.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from posttrain.errors import PosttrainError, RequestError, did_you_mean
from tasks.services.notes import MLFLOW, NAMES, WORKER
from tasks.services.webhook_key import key_environment
from tasks.workspace.paths import Paths


def serve(paths: Paths, name: str, words: Sequence[str]) -> None:
    """Become a service.

    Args:
        paths: of the repository.
        name: "prefect", "mlflow" or "worker"; the worker serves the server that PREFECT_API_URL names, else the one here.
        words: settings.

    Raises:
        RequestError: a word, a setting or a password is wrong.
        StorageError: a database cannot be used.
    """
    from flows.__main__ import configuration
    from flows.disk import check_disk
    from flows.environment import prepare

    if name not in NAMES:
        raise RequestError(f"there is no service {name}{did_you_mean(name, NAMES)}; services are {', '.join(NAMES)}")
    config = configuration(paths, words)
    check_disk(paths)
    prepare(paths, is_tiny=False, password=config.servers.password)
    from flows.service_plans import check_stores, make_ledger, plan_of

    api = os.environ.get("PREFECT_API_URL", "") if name == WORKER else ""
    plan = plan_of(name, paths, config.servers, api=api)
    check_stores(paths, config.servers, [name])
    if name == MLFLOW:
        make_ledger(paths, config.servers, config.tracking)
    key = key_environment(paths) if name == MLFLOW else {}
    os.execvpe(plan.command[0], list(plan.command), {**plan.environment, **key})


def main(words: Sequence[str]) -> int:
    """Run one service and return the exit code where it cannot start."""
    try:
        if not words:
            raise RequestError(f"say which service: python -m flows.serve {'|'.join(NAMES)} [servers.…=…]")
        serve(Paths(Path.cwd()), words[0], words[1:])
    except PosttrainError as error:
        print(f"{type(error).__name__.removesuffix('Error').lower()}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
