"""Whether anything of this repository is at work, so that its stores may be exchanged: services, pipelines, open files."""

import os
from contextlib import suppress

import psutil  # type: ignore[import-untyped, unused-ignore]

from posttrain.errors import RequestError
from posttrain.keeping.manifest import LEDGER, PREFECT
from tasks.services.notes import NAMES, running
from tasks.tracking.server import running_port
from tasks.workspace.paths import Paths
from tasks.workspace.presence import living


def require_idle(paths: Paths) -> None:
    """Refuse to exchange stores while somebody uses them.

    Raises:
        RequestError: a service, a page, a pipeline or another program is at work; it is named, with what ends it.
    """
    nothing = "Nothing was touched"
    if services := [name for name in NAMES if running(paths, name)]:
        raise RequestError(f"services run here ({', '.join(services)}), and they write. {nothing}. End them: make down")
    if port := running_port(paths):
        raise RequestError(
            f"MLflow's page is served at port {port} (make ui). {nothing}. End it with Ctrl-C where it was started"
        )
    if names := sorted(living(paths)):
        process = names[0].partition("-")[0]
        raise RequestError(f"process {process} runs a pipeline here, or another command. {nothing}. Wait until it has ended")
    if users := users_of_stores(paths):
        raise RequestError(f"{users[0]} has a database of this folder open. {nothing}. End it, then run again")


def users_of_stores(paths: Paths) -> list[str]:
    """Return the other processes that have MLflow's or Prefect's database open, as far as we may look into them."""
    ours = {str((paths.root / name).resolve()) for name in (LEDGER, PREFECT)}
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with suppress(psutil.Error, OSError):
            if any(opened.path in ours for opened in process.open_files()):
                command = "".join(one if one.isprintable() else " " for one in " ".join(process.cmdline()))
                found.append(f"process {process.pid} ({' '.join(command.split())[:80]})")
    return found
