"""Who hears of a retraining: what is configured and never told, what is sent, and what stands on the page of a flow run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from flows import retrain_notices as subject
from flows.retrain_notices import CRASHES, ENDINGS, address_of, artifact_key, as_markdown, automations, prepare_notices
from posttrain.errors import RequestError
from posttrain.settings.config import merge
from posttrain.settings.retraining import RetrainingSettings
from tasks.workspace.paths import Paths
from tests.flows.hearing import hearing

HOOK = "https://chat.example.org/hooks/t0p-s3cret"


def record(**other: Any) -> dict[str, Any]:
    decision = {
        "guards": [
            {"name": "finished", "is_broken": False, "says": "no change"},
            {"name": "length", "is_broken": True, "says": "2.10 times | those of version 3"},
        ]
    }
    return {
        "id": "20261129-030000-ab12",
        "created": "2026-11-29T03:00:00+00:00",
        "cause": "schedule nightly",
        "dataset": {"name": "mine", "md5": "1" * 32},
        "outcome": "kept",
        "says": "kept: version 5 is not promoted over version 3: accuracy -5.0 points; version 3 still serves",
        "changes": {"says": "data (questions) changed after version 3"},
        "champion_before": "3",
        "champion": "3",
        "challenger": "5",
        "pipeline_id": "p5",
        "command": "make retrain METHOD=dpo DATA=mine",
        "decision": decision,
        "error": None,
    } | other


def test_the_address_is_where_the_setting_says_and_never_in_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOOK", HOOK)
    (tmp_path / "secret").write_text("hush\nmore\n")
    settings = RetrainingSettings(webhook="env:HOOK", webhook_secret=f"file:{tmp_path / 'secret'}")
    assert address_of(settings) == (HOOK, "hush") and address_of(RetrainingSettings()) == ("", "")

    def refusal(**how: str) -> str:
        with pytest.raises(RequestError) as told:
            address_of(RetrainingSettings(**how))
        assert "t0p-s3cret" not in str(told.value)
        return str(told.value)

    assert refusal(webhook=HOOK) == (
        "retraining.webhook must say where the address is, env:NAME or file:PATH, and never be the address; it starts with "
        "neither"
    )
    assert refusal(webhook_secret="env:HOOK") == (
        "retraining.webhook_secret needs retraining.webhook, which says where the address is that is called"
    )
    for wrong in ("t0p-s3cret", "ftp://host/t0p-s3cret", "https:///t0p-s3cret", "https://host:x/t0p-s3cret", f"{HOOK} and more"):
        monkeypatch.setenv("HOOK", wrong)
        assert refusal(webhook="env:HOOK") == (
            "retraining.webhook is env:HOOK, which must hold an address, https://host/…, in its first line"
        )


def test_what_is_configured_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOOK", HOOK)
    made: list[Any] = []
    monkeypatch.setattr(subject, "put_automations", lambda address, secret: made.append((address, secret)))
    monkeypatch.setattr(subject, "put_webhook", lambda ledger, address, secret: made.append((ledger, address)))
    monkeypatch.setattr(subject.Ledger, "open", classmethod(lambda cls, paths, tracking: tracking.uri))

    def prepared(*words: str, **how: bool) -> list[str]:
        said: list[str] = []
        made.clear()
        prepare_notices(Paths(tmp_path), merge({}, words), said.append, **how)
        return said

    assert prepared() == [] and made == []
    assert prepared("retraining.webhook=env:HOOK") == [] and made == [(HOOK, "")]
    server = ("retraining.webhook=env:HOOK", "tracking.uri=http://mlflow:5000")
    assert prepared(*server) == [] and made == [(HOOK, ""), ("http://mlflow:5000", HOOK)]
    assert prepared(*server, has_server=False) == [
        "note: nobody calls retraining.webhook, since Prefect's server ends with this command. For one that stays: make up"
    ]
    assert made == [("http://mlflow:5000", HOOK)]


def test_a_server_that_refuses_is_told_without_the_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOOK", HOOK)

    def refuses(*_: Any) -> None:
        raise ValueError(f"Invalid webhook URL\n {HOOK!r}: not public")

    monkeypatch.setattr(subject, "put_automations", refuses)
    monkeypatch.setattr(subject, "put_webhook", refuses)
    monkeypatch.setattr(subject.Ledger, "open", classmethod(lambda cls, paths, tracking: tracking.uri))
    said: list[str] = []
    words = ["retraining.webhook=env:HOOK", "tracking.uri=http://mlflow:5000"]
    prepare_notices(Paths(tmp_path), merge({}, words), said.append)
    assert said == [
        f"note: {who}'s server will not call retraining.webhook: Invalid webhook URL '…': not public"
        for who in ("Prefect", "MLflow")
    ]


def test_the_automations_wait_for_our_events_and_for_crashes() -> None:
    block = UUID(int=7)
    endings, crashes = (one.model_dump(mode="json", exclude_unset=True) for one in automations(block))
    assert (endings["name"], crashes["name"]) == (ENDINGS, CRASHES)
    assert set(endings["trigger"]["expect"]) == {"posttrain.retrained", "posttrain.retraining.failed"}
    assert endings["trigger"]["match"] == {"prefect.resource.id": "dataset.*"}
    assert crashes["trigger"]["expect"] == ["prefect.flow-run.Crashed"]
    assert crashes["trigger"]["match_related"] == {"prefect.resource.role": "flow", "prefect.resource.name": "retraining"}
    # an update sends only what was given, and the server must know of what kind it is
    assert endings["trigger"]["type"] == "event" and endings["actions"][0]["type"] == "send-notification"
    assert endings["actions"][0]["body"] == "{{ event.payload.says }}" and endings["actions"][0]["block_document_id"] == str(
        block
    )


def test_automations_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    there: dict[str, UUID] = {}
    told: list[Any] = []

    class Client:
        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *_: Any) -> None:
            pass

        def read_automations_by_name(self, name: str) -> list[Any]:
            return [SimpleNamespace(id=there[name])] if name in there else []

        def create_automation(self, automation: Any) -> None:
            there[automation.name] = UUID(int=len(there) + 1)

        def update_automation(self, automation_id: UUID, automation: Any) -> None:
            told.append((automation_id, automation.name))

    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    saved: list[Any] = []

    def save(block: Any, name: str, overwrite: bool) -> UUID:
        saved.append((name, overwrite, block._build_request_args("it ended", "posttrain, mine"), block.url))
        return UUID(int=9)

    monkeypatch.setattr(CustomWebhookNotificationBlock, "save", save)
    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda sync_client: Client())
    for secret in ("hush", ""):
        assert subject.put_automations(HOOK, secret) == [ENDINGS, CRASHES]
    assert set(there) == {ENDINGS, CRASHES} and told == [(UUID(int=1), ENDINGS), (UUID(int=2), CRASHES)]
    name, is_overwritten, request, kept = saved[0]
    assert (name, is_overwritten, kept) == ("posttrain-retraining", True, "{{address}}"), "the address is among the secrets only"
    assert (request["url"], request["json"]) == (HOOK, {"text": "posttrain, mine\nit ended"})
    assert request["headers"] == {"Authorization": "Bearer hush"} and not saved[1][2]["headers"]


def test_the_verdict_as_markdown() -> None:
    text = as_markdown(record())
    assert text.startswith(
        "**Kept: version 5 is not promoted over version 3: accuracy -5.0 points; version 3 still serves.**\n\n"
        "Retrained since data (questions) changed after version 3.\n"
    )
    assert "| length | BROKEN: 2.10 times \\| those of version 3 |\n" in text and "| finished | no change |\n" in text
    assert "| report | reports/p5.md |" in text and "| champion before | 3 |" in text
    bare = as_markdown(record(decision=None, champion_before="", champion="", challenger="", pipeline_id=""))
    assert "| champion now | none |\n| challenger | none |\n| report | none |" in bare


@pytest.mark.parametrize(
    ("dataset", "key"), [("mine", "retraining-mine"), ("My_data.v2", "retraining-my-data-v2"), ("a--b-", "retraining-a--b")]
)
def test_the_key_of_an_artifact_is_one_that_prefect_takes(dataset: str, key: str) -> None:
    assert artifact_key(dataset) == key


def test_without_a_flow_run_and_without_a_server_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    said: list[str] = []
    subject.tell(record(), said.append)
    assert said == [] and subject.put_artifact(record()) is False


def test_the_events_of_an_end_and_of_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with hearing() as server:
        monkeypatch.setenv("PREFECT_API_URL", server.api)
        subject.tell(record(), said.append)
        subject.tell(record(error={"kind": "ContractError", "says": "x"}, outcome="failed"), said.append)
    ended, failed = server.events
    assert said == [] and (ended["event"], failed["event"]) == ("posttrain.retrained", "posttrain.retraining.failed")
    assert ended["resource"]["prefect.resource.id"] == "dataset.mine"
    assert ended["payload"]["says"] == record()["says"] and ended["payload"]["champion"] == "3"
