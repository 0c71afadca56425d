"""A new version of a dataset is told to Prefect's server, as an event that triggers wait for: `dataset.updated`.

Versions are found by whatever brings a dataset up to date (`make data`, an import, a pipeline, a retraining), which notes them;
they are told at the end of a command, where a server runs. Where none does, the next command that has one tells them.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from flows.children import RESULT
from flows.events import dataset_event, send_events
from posttrain.schedules.rules import DATA, EVENTS
from tasks.data.announced import mark_announced, unannounced
from tasks.services.notes import PREFECT, running
from tasks.workspace.paths import Paths

Say = Callable[[str], None]


def announce_versions(paths: Paths, say: Say, *, named: str = "") -> list[str]:
    """Tell Prefect's server of versions that were found and nobody was told of; return the datasets' names.

    What goes wrong is told in a line: the command itself did what it was asked for, and the next one tries again.

    Args:
        paths: of the repository.
        say: prints a note.
        named: the address of a server that the user's environment named before the command set its own, "" for none.
    """
    versions = unannounced(paths)
    server = running(paths, PREFECT)
    api = f"{server.site}/api" if server else named
    if not versions or not api:
        return []
    try:
        send_events(api, [dataset_event(EVENTS[DATA], name, {"md5": md5}) for name, md5 in versions.items()])
        mark_announced(paths, versions)
    except Exception as error:
        told = f"a new version of {', '.join(versions)}"
        say(f"note: Prefect's server was not told of {told} ({type(error).__name__}); the next command tells it")
        return []
    return list(versions)


@contextmanager
def announcing(paths: Paths, say: Say) -> Iterator[None]:
    """Tell at the end of a command, however it ends, which new versions of datasets it found."""
    named = named_server()
    try:
        yield
    finally:
        announce_versions(paths, say, named=named)


def named_server(environment: Mapping[str, str] = os.environ) -> str:
    """Return the address of Prefect's server that a user's environment names, "" for none.

    Ask before a command starts a server of its own, which sets that name too; a comparison's pipelines inherit it from theirs.
    """
    return "" if RESULT in environment else environment.get("PREFECT_API_URL", "")
