"""The worker of `make up`: Prefect's own, whose imports meanwhile take as long as the start of Prefect's server.

    python -m flows.worker HEALTH OPTION...

HEALTH is the address at which Prefect's server answers once it is up; the options are those of `prefect worker start`.
"""

import sys
import time
from collections.abc import Sequence
from importlib import import_module

from tasks.services.loading import loading
from tasks.services.processes import LONGEST_START, trouble_at

LOADED = ("prefect.cli.worker", "prefect.workers.process", "prefect.runner")
"""What the command imports by itself, only later."""


def main(words: Sequence[str]) -> int:
    """Become the worker; returns 1 where the server does not come up, after a sentence for the log."""
    health, *options = words
    with loading():
        for module in LOADED:
            import_module(module)
    deadline = time.monotonic() + LONGEST_START
    while trouble := trouble_at(health):
        if time.monotonic() > deadline:
            print(f"Prefect's server does not answer at {health}: {trouble}", file=sys.stderr)
            return 1
        time.sleep(0.1)

    from prefect.cli import app

    sys.argv = ["prefect", "worker", "start", *options]  # its entry point reads them there
    app()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
