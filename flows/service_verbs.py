"""What `make up`, `make down` and `make status` say and how they end."""

import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from flows.retrain_notices import address_of, prepare_notices
from flows.services import down, status, up
from flows.unit import unit
from posttrain.errors import ContractError, RequestError
from posttrain.printable import printable
from posttrain.settings.config import Config
from tasks.schedules.turns import datasets_wanted
from tasks.services.notes import PREFECT, running
from tasks.workspace.paths import Paths

Say = Callable[[str], None]


def start_services(paths: Paths, config: Config, say: Say) -> None:
    """Start what does not run, and print a line for each service.

    Args:
        paths: of the repository.
        config: its sections `servers` and `tracking`.
        say: prints a note.
    """
    address_of(config.retraining)  # what cannot be called is told before anything starts
    for line in up(paths, config, say):
        print(printable(line))
    if config.servers.mlflow_database and not config.tracking.uri:
        address = f"http://127.0.0.1:{config.servers.mlflow_port}"
        say(f"note: pipelines still write to mlflow/store; to have them write to this server: tracking.uri={address}")
    service = running(paths, PREFECT)
    named = os.environ.get("PREFECT_API_URL")
    if service and named and named != f"{service.site}/api":
        say(f"note: PREFECT_API_URL is {named}, so commands of this shell use that server; unset it to use the one here")
    prepare_notices(paths, config, say)
    if datasets_wanted(paths):  # a retraining that was killed leaves what others asked for
        from flows.schedule_runs import start_wanted

        for name in start_wanted(paths, say):
            say(f"note: run {name} starts, which was wanted while another retraining ran")
    print("pipelines use them from now on; make status shows them, make down ends them")


def print_unit(paths: Paths, asked: str, settings: Sequence[str]) -> bool:
    """Print a unit of systemd where it is asked for; returns whether it was.

    Args:
        paths: of the repository.
        asked: what UNIT says.
        settings: of `make up`, which the unit passes on.

    Raises:
        RequestError: UNIT is neither 1 nor 0.
    """
    if asked not in ("", "0", "1"):
        raise RequestError(f"UNIT must be 1 (print a unit of systemd) or 0, got {asked}")
    if asked == "1":
        print(unit(paths.root.resolve(), sys.executable, settings), end="")
    return asked == "1"


def stop_services(paths: Paths, prepare: Callable[[], None], say: Say) -> None:
    """Stop the services, also where the password is gone that marks their runs."""
    try:
        prepare()
    except RequestError as error:
        say(f"note: {error}")
    for line in down(paths, say):
        print(printable(line))


def show_services(paths: Paths) -> None:
    """Print how each service is.

    Raises:
        ContractError: one that was started is not well.
    """
    lines = status(paths)
    for line in lines:
        print(printable(line.as_text(datetime.now(UTC))))
    if unwell := [line.name for line in lines if line.is_down]:
        raise ContractError(f"not well, though started: {', '.join(unwell)}. To start what is down: make up")
