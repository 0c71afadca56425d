"""Prefect's app behind our guard. uvicorn is started with this module."""

from tasks.services.guard import App, further_names, guarded


def create_app() -> App:
    """Return Prefect's app, guarded; the password is its own check, which its page and its web sockets know."""
    from prefect.server.api.server import create_app as prefects

    return guarded(prefects(), names=further_names())
