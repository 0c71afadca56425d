"""`make ui`: MLflow's page on this machine, opened on the view that says who won, at the port that it really has."""

import os
import subprocess
import sys
from collections.abc import Mapping

from posttrain.errors import RequestError
from posttrain.settings.evaluation import TrackingSettings
from tasks.services.notes import MLFLOW
from tasks.services.notes import running as service_running
from tasks.services.webhook_key import key_environment
from tasks.tracking.ledger import Ledger
from tasks.tracking.server import choose_port, remember_port, running_port, server_command, server_environment
from tasks.tracking.views import view_url, write_views
from tasks.workspace.paths import Paths

SHOWN_BY = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Variables that tell of a display, or name a browser."""


def show(paths: Paths, tracking: TrackingSettings, *, port: int | None, is_opened: bool) -> None:
    """Print the address of the prepared view, open it, and become the server that answers there, unless one does already.

    Args:
        paths: of the repository.
        tracking: where the ledger is.
        port: that was asked for; None: the usual one, or the next that is free.
        is_opened: a browser may be opened, where there are a terminal and a display.

    Raises:
        RequestError: the port is taken; or the ledger is a server's, which is not ours to start.
    """
    ledger = Ledger.open(paths, tracking)
    write_views(ledger)  # a store of an older version has none
    if tracking.uri:
        raise RequestError(f"tracking.uri is {tracking.uri}, whose server is not ours to start. Open {view_url(ledger)}")
    running = running_port(paths)
    if running and port in (None, running):
        address = view_url(ledger, running)
        how = "make down ends it" if service_running(paths, MLFLOW) else "Ctrl-C where it was started ends it"
        print(f"MLflow: {address}   (it was running already; {how})", flush=True)
        if is_opened:
            open_browser(address)
        return
    chosen = choose_port(port)
    address = view_url(ledger, chosen)
    print(f"MLflow: {address}   (in a few seconds; Ctrl-C ends it)", flush=True)
    remember_port(paths, chosen)
    if is_opened:
        open_browser(address)
    command = server_command(chosen)
    os.execvpe(command[0], command, {**server_environment(paths, chosen), **key_environment(paths)})


def open_browser(address: str) -> bool:
    """Have the browser opened once the page answers, by a process of its own; returns whether there is where to open it."""
    if not (sys.stdout.isatty() and has_display(os.environ, sys.platform)):
        return False
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-m", "tasks.tracking.browser", address]
    subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    return True


def has_display(environment: Mapping[str, str], platform: str) -> bool:
    """Return whether a browser has somewhere to appear: not in a terminal that came over the network."""
    if "SSH_CONNECTION" in environment and not environment.get("DISPLAY"):
        return bool(environment.get("BROWSER"))
    return platform in ("darwin", "win32") or any(environment.get(name) for name in SHOWN_BY)
