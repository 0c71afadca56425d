"""The worker of `make up`: Prefect's own, whose imports meanwhile take as long as the start of Prefect's server.

    PREFECT_API_URL=... python -m flows.worker OPTION...

The options are those of `prefect worker start`.
"""

import os
import socket
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from urllib.parse import urlsplit

from tasks.services.loading import loading
from tasks.services.processes import LONGEST_ANSWER, LONGEST_START

LOADED = ("prefect.cli.worker", "prefect.workers.process", "prefect.runner")
"""What the command imports by itself, only later."""
PORTS = {"http": 80, "https": 443}


def main(words: Sequence[str]) -> int:
    """Become the worker; returns 1 where the server does not come up, after a sentence for the log."""
    address = urlsplit(os.environ["PREFECT_API_URL"])
    place = (address.hostname or "", address.port or PORTS.get(address.scheme, 80))
    with loading():
        for module in LOADED:
            import_module(module)
    deadline = time.monotonic() + LONGEST_START
    while trouble := _trouble_at(place):
        if time.monotonic() > deadline:
            where = f"{place[0]}:{place[1]}"
            print(f"nothing listens at {where}: {trouble}. Does Prefect's server run there (PREFECT_API_URL)?", file=sys.stderr)
            return 1
        time.sleep(0.1)

    from prefect.cli import app

    sys.argv = ["prefect", "worker", "start", *words]  # its entry point reads them there
    app()
    return 0


def _trouble_at(place: tuple[str, int]) -> str:
    """Return why nothing listens there, "" where something does: uvicorn does once the app has started.

    More is not asked: Prefect's client knows certificates and passwords, not we.
    """
    try:
        with socket.create_connection(place, LONGEST_ANSWER):
            return ""
    except OSError as error:
        return str(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
