"""Prefect's app behind our guard. uvicorn is started with this module."""

import asyncio
from datetime import timedelta
from functools import partial, wraps
from typing import Any

from tasks.services.guard import App, further_names, guarded
from tasks.services.loading import loading

LOOKS = timedelta(seconds=2)
"""How often an idle server looks into its queue of background work, which starts the services that look for schedules, late runs
and so on: they come round every 5 s and more, so that two seconds later change nothing. Docket's own is 250 ms for each of two
loops and 100 ms, in a thread, for the one that listens whether such a service is to be cancelled, which Prefect never asks for;
it has no setting for them. What an idle server costs: `python -m benchmarks.services`."""


@loading()
def create_app() -> App:
    """Return Prefect's app, guarded; the password is its own check, which its page and its web sockets know."""
    from prefect.server.api.server import create_app as prefects

    from flows.fresh_database import make_database

    look_less_often()
    make_database()
    return guarded(prefects(), names=further_names())


def look_less_often() -> None:
    """Let the worker of Prefect's background work wait for `LOOKS` between two looks."""
    from burner_redis.pubsub import PubSub
    from docket import Worker
    from prefect.server.api import background_workers

    looking = partial(Worker, minimum_check_interval=LOOKS, scheduling_resolution=LOOKS)
    background_workers.Worker = looking  # type: ignore[attr-defined, assignment]
    ask = PubSub.get_message

    @wraps(ask)
    async def get_message(self: Any, ignore_subscribe_messages: bool = False, timeout: float | None = 0.0) -> Any:
        """Look at once, and once more after the wait; the package's own wait keeps a thread busy."""
        if timeout is None:
            return await ask(self, ignore_subscribe_messages, None)
        if (found := await ask(self, ignore_subscribe_messages, 0.0)) is None and timeout > 0.0:
            await asyncio.sleep(max(timeout, LOOKS.total_seconds()))
            found = await ask(self, ignore_subscribe_messages, 0.0)
        return found

    PubSub.get_message = get_message
