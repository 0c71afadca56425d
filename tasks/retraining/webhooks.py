"""MLflow's webhooks of the registry: a server calls an address when a version is made or an alias moves."""

from typing import Any

from tasks.tracking.ledger import Ledger

NAME = "posttrain-retraining"
EVENTS = ("model_version.created", "model_version_alias.created", "model_version_alias.deleted")
A_PAGE = 100


def put_webhook(ledger: Ledger, address: str, secret: str) -> str:
    """Make the webhook, or bring it up to date, and return its id. Made twice, it is there once.

    Only a server delivers: where we write the store ourselves, nobody would call.

    Args:
        ledger: on a server.
        address: that is called; MLflow takes https and public addresses, unless its own environment says otherwise.
        secret: that MLflow signs with; "": it does not. What it has of one cannot be read back, so it is written each time.

    Raises:
        MlflowException: the server refuses it.
    """
    there = next((one for one in _webhooks(ledger) if one.name == NAME), None)
    how: dict[str, Any] = {"url": address, "events": list(EVENTS), "secret": secret or None}
    if there is None:
        about = "Made by posttrain from retraining.webhook"
        return str(ledger.client.create_webhook(NAME, description=about, **how).webhook_id)
    if secret or there.url != address or {str(event) for event in there.events} != set(EVENTS):
        ledger.client.update_webhook(there.webhook_id, **how)
    return str(there.webhook_id)


def _webhooks(ledger: Ledger) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = ledger.client.list_webhooks(max_results=A_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
