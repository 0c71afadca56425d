"""Events reach the server at the address that is given, whatever Prefect's own settings say."""

import httpx
import pytest

from flows.events import dataset_event, send_events
from tests.flows.hearing import hearing


def test_an_event_of_a_dataset():
    event = dataset_event("dataset.updated", "mine", {"md5": "1"})
    assert (event["event"], event["payload"]) == ("dataset.updated", {"md5": "1"})
    assert event["resource"] == {"prefect.resource.id": "dataset.mine", "prefect.resource.name": "mine"}


def test_it_goes_to_the_given_server_though_prefect_was_imported_without_one(monkeypatch):
    import prefect  # noqa: F401

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with hearing() as server:
        send_events(server.api, [dataset_event("dataset.updated", name, {}) for name in ("a", "b")])
    assert [one["resource"]["prefect.resource.name"] for one in server.events] == ["a", "b"]
    assert server.posted == ["/api/events"]


def test_a_server_that_is_gone():
    with hearing() as server:
        api = server.api
    with pytest.raises(httpx.ConnectError):
        send_events(api, [dataset_event("dataset.updated", "mine", {})])
