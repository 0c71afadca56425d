"""Prefect's app behind our guard. uvicorn is started with this module."""

from datetime import timedelta
from functools import partial

from tasks.services.guard import App, further_names, guarded

LOOKS = timedelta(seconds=1)
"""How often an idle server looks into its queue of background work, which starts the services that look for schedules, late runs
and so on: they come round every 5 s and more, so that a second later changes nothing. Docket's own is 250 ms for each of two
loops, about a quarter of what an idle server does, and Prefect has no setting for it."""


def create_app() -> App:
    """Return Prefect's app, guarded; the password is its own check, which its page and its web sockets know."""
    from prefect.server.api.server import create_app as prefects

    look_less_often()
    return guarded(prefects(), names=further_names())


def look_less_often() -> None:
    """Let the worker of Prefect's background work wait for `LOOKS` between two looks."""
    from docket import Worker
    from prefect.server.api import background_workers

    looking = partial(Worker, minimum_check_interval=LOOKS, scheduling_resolution=LOOKS)
    background_workers.Worker = looking  # type: ignore[attr-defined, assignment]
