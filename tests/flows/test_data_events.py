"""A new version of a dataset is told once, to a server that lasts."""

from types import SimpleNamespace

import pytest

from flows import data_events as subject
from flows import prefect_client
from flows.children import RESULT
from flows.data_events import announce_versions, announcing, named_server
from tasks.data.announced import unannounced
from tasks.data.dvc_memory import Memory
from tasks.workspace.paths import Paths
from tests.flows.fake_prefect import FakeClient, lent


@pytest.fixture
def house(tmp_path, monkeypatch):
    client, asked = FakeClient(), []
    monkeypatch.setattr(prefect_client, "client_of", lambda api: asked.append(api) or lent(client))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    paths = Paths(tmp_path)
    paths.store.mkdir()
    memory = Memory.load(paths)
    memory.versions["mine"] = "md5-1"
    memory.save()
    return SimpleNamespace(paths=paths, client=client, asked=asked)


def test_without_a_server_it_stays_news(house):
    assert announce_versions(house.paths, print) == [] and unannounced(house.paths) == {"mine": "md5-1"}


def test_it_is_told_once(house):
    assert announce_versions(house.paths, print, named="http://x/api") == ["mine"]
    ((method, address, told),) = house.client.events
    (event,) = told["json"]
    assert (method, address, event["event"]) == ("POST", "/events", "dataset.updated")
    assert event["resource"]["prefect.resource.id"] == "dataset.mine" and event["payload"] == {"md5": "md5-1"}
    assert announce_versions(house.paths, print, named="http://x/api") == [] and len(house.client.events) == 1


def test_the_server_of_make_up_goes_before_one_that_is_named(house, monkeypatch):
    monkeypatch.setattr(subject, "running", lambda paths, name: SimpleNamespace(site="http://here"))
    announce_versions(house.paths, print, named="http://x/api")
    assert house.asked == ["http://here/api"]


def test_a_server_that_refuses_is_told_in_a_line_and_asked_again(house, monkeypatch):
    def refuse(*given, **told):
        raise OSError("gone")

    said = []
    monkeypatch.setattr(house.client, "request", refuse)
    assert announce_versions(house.paths, said.append, named="http://x/api") == []
    assert said == ["note: Prefect's server was not told of a new version of mine (OSError); the next command tells it"]
    assert unannounced(house.paths) == {"mine": "md5-1"}


def test_a_server_that_a_command_starts_for_itself_is_not_told(house, monkeypatch):
    with announcing(house.paths, print):
        monkeypatch.setenv("PREFECT_API_URL", "http://of.this.command/api")
    assert house.asked == []
    with announcing(house.paths, print):
        pass
    assert house.asked == ["http://of.this.command/api"], "one that was there before the command is"


def test_the_server_of_a_comparison_is_none_of_its_pipelines(monkeypatch):
    assert named_server({"PREFECT_API_URL": "http://x/api"}) == "http://x/api" and named_server({}) == ""
    assert named_server({"PREFECT_API_URL": "http://x/api", RESULT: "file"}) == ""


def test_it_is_told_after_a_failure_too(house, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://x/api")
    with pytest.raises(ZeroDivisionError), announcing(house.paths, print):
        1 / 0  # noqa: B018
    assert house.asked == ["http://x/api"]
