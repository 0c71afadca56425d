"""Who hears how a retraining ended: Prefect's events, its page, and an address that Prefect and MLflow call.

Nothing is sent from here to the address. Prefect's automations call it on our event, or when a run crashes, and an MLflow server
calls it when an alias moves. What is made here, once, is their configuration; making it again changes nothing.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from flows.events import dataset_event, send_events
from posttrain.errors import RequestError
from posttrain.printable import printable
from posttrain.settings.config import Config
from posttrain.settings.retraining import RetrainingSettings
from tasks.retraining.webhooks import put_webhook
from tasks.services.notes import PREFECT, running
from tasks.services.passwords import secret_of
from tasks.tracking.ledger import Ledger
from tasks.workspace.paths import Paths

Say = Callable[[str], None]
ENDED, FAILED = "posttrain.retrained", "posttrain.retraining.failed"
"""Events of Prefect; the resource is `dataset.<name>`, the payload has `outcome` and `says`."""
BLOCK = "posttrain-retraining"
ENDINGS, CRASHES = "posttrain: how retrainings end", "posttrain: retrainings that crash"
"""Names of the automations."""
FLOW = "retraining"
"""Of the flow that schedules start (flows/scheduled.py)."""


def tell(record: Mapping[str, Any], say: Say) -> None:
    """Send Prefect's server the event of an ended retraining, and put the verdict on the page of the flow run, if there is one.

    A server that does not answer is told in a line: the retraining itself is done.
    """
    try:
        put_artifact(record)
    except Exception as error:
        say(f"note: Prefect's server did not take the verdict as an artifact ({type(error).__name__})")
    if api := os.environ.get("PREFECT_API_URL"):
        _send_event(api, record, say)


def _send_event(api: str, record: Mapping[str, Any], say: Say) -> None:
    from httpx import HTTPError

    event = FAILED if record["error"] else ENDED
    kept = ("id", "outcome", "says", "cause", "champion", "challenger", "pipeline_id", "command")
    try:
        send_events(api, [dataset_event(event, record["dataset"]["name"], {field: record[field] for field in kept})])
    except HTTPError as error:
        say(f"note: Prefect's server did not take the event {event} ({type(error).__name__}), so no automation hears of it")


def put_artifact(record: Mapping[str, Any]) -> bool:
    """Put the verdict on the page of the flow run that this process is in; return whether there is one."""
    from prefect.context import FlowRunContext

    if FlowRunContext.get() is None:
        return False
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(as_markdown(record), key=artifact_key(record["dataset"]["name"]), description=record["says"])
    return True


def artifact_key(dataset: str) -> str:
    """Return a key as Prefect takes it: small letters, digits and hyphens; the same for each retraining of a dataset."""
    return f"retraining-{re.sub(r'[^a-z0-9-]+', '-', dataset.lower()).strip('-')}"


def as_markdown(record: Mapping[str, Any]) -> str:
    """Return a record as Markdown: the verdict, what called for it, the gate's figures, and where the rest is."""
    says = printable(str(record["says"]))
    lines = [f"**{says[:1].upper()}{says[1:].rstrip('.')}.**", "", f"Retrained since {record['changes']['says']}.", ""]
    rows = [
        ("started", f"{record['created']}, {record['cause']}"),
        ("champion before", record["champion_before"] or "none"),
        ("champion now", record["champion"] or "none"),
        ("challenger", record["challenger"] or "none"),
        ("report", f"reports/{record['pipeline_id']}.md" if record["pipeline_id"] else "none"),
        ("again", record["command"]),
    ]
    decision = record["decision"]
    if decision:
        rows += [(guard["name"], f"{'BROKEN: ' if guard['is_broken'] else ''}{guard['says']}") for guard in decision["guards"]]
    lines += ["| | |", "|---|---|", *(f"| {_cell(name)} | {_cell(text)} |" for name, text in rows)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")


# --- what is configured once ------------------------------------------------------------------------------------------


def address_of(settings: RetrainingSettings) -> tuple[str, str]:
    """Return the address that hears of retrainings, and the secret that proves who calls; "" for none.

    Raises:
        RequestError: what the settings name is not there, or is no address. No error repeats either.
    """
    address = secret_of(settings.webhook, setting="retraining.webhook", what="address")
    secret = secret_of(settings.webhook_secret, setting="retraining.webhook_secret", what="secret")
    if secret and not address:
        raise RequestError("retraining.webhook_secret needs retraining.webhook, which says where the address is that is called")
    if not address:
        return "", ""
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not (is_address and address.isascii() and address.isprintable() and " " not in address):
        raise RequestError(
            f"retraining.webhook is {settings.webhook}, which must hold an address, https://host/…, in its first line"
        )
    return address, secret


def prepare_notices(paths: Paths, config: Config, say: Say, *, has_server: bool = True) -> None:
    """Let Prefect's server, and the MLflow server that `tracking.uri` names, call the address of `retraining.webhook`.

    Args:
        paths: of the repository.
        config: its sections `retraining` and `tracking`.
        say: is told who cannot call it, in a line.
        has_server: a server of Prefect runs that outlives this command.

    Raises:
        RequestError: what the settings name is no address, or not there.
    """
    address, secret = address_of(config.retraining)
    if not address:
        return
    if has_server:
        try:
            with _prefect_of(paths):
                put_automations(address, secret)
        except Exception as error:  # a server that answers strangely: the command itself is not to fail of it
            say(f"note: Prefect's server will not call retraining.webhook: {_short(error, address, secret)}")
    else:
        say("note: nobody calls retraining.webhook, since Prefect's server ends with this command. For one that stays: make up")
    if not config.tracking.uri or config.tracking.uri.startswith("sqlite:"):
        return
    try:
        put_webhook(Ledger.open(paths, config.tracking), address, secret)
    except Exception as error:
        say(f"note: MLflow's server will not call retraining.webhook: {_short(error, address, secret)}")


def _short(error: Exception, *secrets: str) -> str:
    """Return an error in a line without what must not be told."""
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in filter(None, secrets):
        text = text.replace(secret, "…")
    return text[:300]


@contextmanager
def _prefect_of(paths: Paths) -> Iterator[None]:
    """Let Prefect's client speak to the server of this folder, where one runs; else to that of the environment."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    # named here even where the environment names it: Prefect read its settings when it was imported, perhaps before that
    server = running(paths, PREFECT)
    api = f"{server.site}/api" if server else os.environ.get("PREFECT_API_URL", "")
    with temporary_settings({PREFECT_API_URL: api} if api else {}):
        yield


def put_automations(address: str, secret: str) -> list[str]:
    """Make the block that knows the address and the automations that use it, or bring them up to date; return their names."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.client.orchestration import get_client

    # the address is kept among the block's secrets, which Prefect encrypts
    block = CustomWebhookNotificationBlock(
        name="posttrain",
        url="{{address}}",
        json_data={"text": "{{subject}}\n{{body}}"},
        headers={"Authorization": "Bearer {{secret}}"} if secret else None,
        secrets={"address": address, "secret": secret},
    )
    block_id = block.save(BLOCK, overwrite=True)
    with get_client(sync_client=True) as client:
        for automation in automations(block_id):
            there = client.read_automations_by_name(automation.name)
            if there:
                client.update_automation(there[0].id, automation)
            else:
                client.create_automation(automation)
    return [ENDINGS, CRASHES]


def automations(block_id: Any) -> list[Any]:
    """Return the two automations: on the event of an ended retraining, and on the crash of one that could send none."""
    from prefect.automations import AutomationCore, EventTrigger, Posture, SendNotification

    # `type` is named, since an update sends only what was given
    endings = EventTrigger(
        type="event", expect={ENDED, FAILED}, match={"prefect.resource.id": "dataset.*"}, posture=Posture.Reactive, threshold=1
    )
    crashes = EventTrigger(
        type="event",
        expect={"prefect.flow-run.Crashed"},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": FLOW},
        posture=Posture.Reactive,
        threshold=1,
    )
    told = SendNotification(
        type="send-notification",
        block_document_id=block_id,
        subject="posttrain, {{ event.resource.name }}",
        body="{{ event.payload.says }}",
    )
    crashed = SendNotification(
        type="send-notification",
        block_document_id=block_id,
        subject="posttrain, {{ flow_run.name }}",
        body="crashed: {{ flow_run.state.message }}",
    )
    described = "Made by posttrain from retraining.webhook (docs/retraining.md); make up brings it up to date."
    return [
        AutomationCore(name=ENDINGS, description=described, trigger=endings, actions=[told]),
        AutomationCore(name=CRASHES, description=described, trigger=crashes, actions=[crashed]),
    ]
