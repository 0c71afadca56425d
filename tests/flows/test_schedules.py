"""How Prefect's server keeps a schedule: its deployment, its automation, and whose it is."""

import os
from dataclasses import replace
from uuid import UUID

import httpx
import pytest

from flows import schedules as subject
from flows.schedules import all_kept, automations_of, connected, delete, kept_of, named, of_checkout, run_again, save, set_paused
from posttrain.errors import RequestError
from posttrain.settings.config import merge
from tasks.workspace.paths import Paths
from tests.flows.fake_prefect import FakeClient, nightly

CONFIG = merge({}, [])
ON_DATA = nightly(name="on-data", on="data", cron="")


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


@pytest.fixture
def client():
    return FakeClient()


def deployment_of(client):
    return next(told for kind, _, told in (one for one in client.asked if len(one) == 3) if kind == "deployment")


def test_a_schedule_is_a_deployment_in_its_checkout(client, paths):
    key = save(client, paths, nightly(zone="Europe/Berlin"), CONFIG)
    told = deployment_of(client)
    (times,) = told["schedules"]
    assert (times.schedule.cron, times.schedule.timezone, times.active) == ("0 3 * * *", "Europe/Berlin", True)
    assert (told["work_pool_name"], told["entrypoint"], told["paused"]) == ("posttrain", "flows/scheduled.py:retraining", False)
    assert told["parameters"]["words"] == ["method=dpo", "data.name=mine"] and told["parameters"]["cause"] == "schedule"
    root = str(paths.root.resolve())
    assert told["pull_steps"] == [{"prefect.deployments.steps.set_working_directory": {"directory": root}}]
    assert told["job_variables"] == {"working_dir": root, "env": {"PYTHONPATH": root}}
    kept = kept_of(client, key)
    assert kept.schedule == nightly(zone="Europe/Berlin") and not kept.is_paused and kept.root == root
    assert client.automations == []


def test_the_entrypoints_are_flows_that_there_are():
    from flows import scheduled

    for verb, flow in subject.FLOWS.items():
        assert getattr(scheduled, flow).name == flow, verb
    assert subject.FILE == "flows/scheduled.py"


def test_a_base_of_the_hub_takes_the_hub_and_all_cores(paths, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    told = subject.environment_of(
        CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"base": "org/base"})}), paths
    )
    assert told["HF_HUB_OFFLINE"] == "0" and told["OMP_NUM_THREADS"] == "7", "what the user's own shell says goes first"


def test_a_trigger_is_an_automation_of_its_deployment(client, paths):
    key = save(client, paths, ON_DATA, CONFIG)
    assert deployment_of(client)["schedules"] == []
    (automation,) = (one[1] for one in client.asked if one[0] == "automation")
    assert automation.trigger.expect == {"dataset.updated"}
    assert automation.trigger.match.model_dump() == {"prefect.resource.id": "dataset.mine"}
    (action,) = automation.actions
    assert action.deployment_id == key and automation.owner_resource == f"prefect.deployment.{key}"
    assert action.parameters == {"cause": "data", "event": {"md5": "{{ event.payload.md5 }}"}}


def test_a_drift_hands_its_verdict_on():
    trigger = subject.trigger_of(nightly(on="drift", cron=""))
    assert trigger.expect == {"posttrain.drift"}
    assert trigger.parameters["event"]["verdict"] == "{{ event.payload.verdict }}"


def test_one_of_the_same_name_is_replaced(client, paths):
    save(client, paths, ON_DATA, CONFIG)
    save(client, paths, replace(ON_DATA, on="times", cron="0 4 * * *"), CONFIG)
    (kept,) = all_kept(client)
    assert kept.schedule.cron == "0 4 * * *" and client.automations == [], "nothing listens for it any more"


def test_one_of_the_same_name_that_runs_another_verb_is_deleted_first(client, paths):
    first = save(client, paths, nightly(), CONFIG)
    client.deployments[UUID(int=50)] = client.deployments.pop(first)
    client.deployments[UUID(int=50)].id = UUID(int=50)
    save(client, paths, nightly(verb="monitor", words=("file=x.txt",)), CONFIG)
    assert UUID(int=50) not in client.deployments and [one.schedule.verb for one in all_kept(client)] == ["monitor"]


def test_a_name_that_another_checkout_has_is_refused(client, paths, tmp_path):
    client.add(nightly(), root=tmp_path / "other")
    with pytest.raises(RequestError) as error:
        save(client, paths, nightly(), CONFIG)
    assert str(error.value) == f"a schedule nightly runs in {tmp_path / 'other'}; take another name: NAME=nightly-2"
    assert of_checkout(all_kept(client), paths) == []


def test_without_a_work_pool(client, paths, monkeypatch):
    def missing(*given, **told):
        response = httpx.Response(404, request=httpx.Request("POST", "http://x"))
        raise httpx.HTTPStatusError("no pool", request=response.request, response=response)

    monkeypatch.setattr(client, "create_deployment", missing)
    with pytest.raises(RequestError) as error:
        save(client, paths, nightly(), CONFIG)
    assert str(error.value) == "there is no work pool posttrain: no worker has run yet. Start it: make up"


def test_pausing_and_resuming_hold_for_the_automation_too(client, paths):
    save(client, paths, ON_DATA, CONFIG)
    kept = named(client, paths, "on-data")
    set_paused(client, kept, True)
    assert named(client, paths, "on-data").is_paused and ("pause automation", UUID(int=77)) in client.asked
    set_paused(client, kept, False)
    assert not named(client, paths, "on-data").is_paused and ("resume automation", UUID(int=77)) in client.asked
    client.automations[0].owner_resource = "prefect.deployment.another"
    assert automations_of(client, kept) == [], "one that only speaks of it is somebody else's"


def test_deleting_takes_the_automation_along(client, paths):
    save(client, paths, ON_DATA, CONFIG)
    delete(client, named(client, paths, "on-data"))
    assert client.deployments == {} and client.automations == []


def test_an_unknown_name(client, paths):
    with pytest.raises(RequestError) as error:
        named(client, paths, "nightly")
    assert str(error.value) == "there is no schedule nightly; there is none yet"
    client.add(nightly(), root=paths.root.resolve())
    with pytest.raises(RequestError) as error:
        named(client, paths, "nightl")
    assert str(error.value) == "there is no schedule nightl; did you mean nightly?; schedules are nightly"


def test_a_deployment_that_is_none_of_ours(client, paths):
    key = client.add(nightly(), root=paths.root)
    client.deployments[key].parameters = {}
    assert all_kept(client) == [] and kept_of(client, key) is None and kept_of(client, UUID(int=8)) is None


def test_one_more_run(client, paths):
    key = client.add(nightly(), root=paths.root)
    assert run_again(client, str(key), {"cause": "data"}) == "again-1" and client.asked[-1] == ("run", key, {"cause": "data"})
    assert run_again(client, str(UUID(int=9)), {}) == "" and run_again(client, "no id", {}) == ""


# --- the server -------------------------------------------------------------------------------------------------------


def test_without_a_server(paths, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(RequestError) as error, connected(paths):
        pass
    said = "schedules need Prefect's server and a worker, and Prefect's server does not run. Start it: make up"
    assert str(error.value) == said


def test_with_a_server_that_does_not_answer(paths, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(RequestError) as error, connected(paths):
        pass
    assert str(error.value).startswith("schedules need Prefect's server, but http://127.0.0.1:9/api does not answer: ")
    assert str(error.value).endswith("See make status; Start it: make up")


def test_a_refusal_of_the_server_is_told_in_a_sentence(paths, monkeypatch):
    monkeypatch.setitem(os.environ, "PREFECT_API_URL", "http://127.0.0.1:4200/api")
    monkeypatch.setattr(subject, "trouble_at", lambda address: "")
    with pytest.raises(RequestError) as error, connected(paths):
        raise httpx.ReadTimeout("slow\nserver")
    assert str(error.value) == "Prefect's server at http://127.0.0.1:4200/api did not do it: slow server"


def test_a_schedule_on_a_pool_runs_where_its_worker_says(client, paths):
    key = save(client, paths, nightly(pool="gpu"), CONFIG)
    told = deployment_of(client)
    assert told["work_pool_name"] == "gpu" and told["job_variables"] == {}
    (step,) = told["pull_steps"]
    (folder,) = step["prefect.deployments.steps.set_working_directory"].values()
    assert folder == "{{ $POSTTRAIN_ROOT }}"
    assert told["path"] == str(paths.root.resolve()), "whose it is stays known"
    assert kept_of(client, key).schedule.pool == "gpu"


def test_prefect_reads_the_folder_of_a_run_from_its_workers_environment(monkeypatch):
    from prefect.utilities.templating import apply_values

    monkeypatch.setenv("POSTTRAIN_ROOT", "/posttrain")
    assert apply_values({"directory": subject._folder_of_runs(nightly(pool="gpu"), "/here")}, {}) == {"directory": "/posttrain"}
    assert subject._folder_of_runs(nightly(), "/here") == "/here"
