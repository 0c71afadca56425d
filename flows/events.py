"""Events of a dataset, as Prefect's server takes them and its automations wait for."""

from collections.abc import Mapping, Sequence
from typing import Any


def dataset_event(event: str, dataset: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event whose resource is `dataset.<name>`, as the server takes it."""
    from prefect.events import Event

    resource = {"prefect.resource.id": f"dataset.{dataset}", "prefect.resource.name": dataset}
    made: dict[str, Any] = Event(event=event, resource=resource, payload=dict(payload)).model_dump(mode="json")
    return made


def send_events(api: str, events: Sequence[Mapping[str, Any]]) -> None:
    """Send events to the server at an address.

    The address is given, since Prefect's own client takes the one that was in the environment when Prefect was imported, and
    starts a server of its own where there was none.

    Raises:
        httpx.HTTPError: the server does not answer, or refuses.
    """
    from flows.prefect_client import client_of  # Prefect's client takes seconds to import

    with client_of(api) as client:
        client.request("POST", "/events", json=list(events))
