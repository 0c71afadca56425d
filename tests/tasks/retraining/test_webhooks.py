"""The webhook of the registry on a real store: made once, brought up to date, refused by MLflow's own rules."""

import pytest
from mlflow.exceptions import MlflowException

from tasks.retraining.webhooks import EVENTS, NAME, put_webhook
from tasks.tracking.ledger import Ledger

FIRST, SECOND = "https://8.8.8.8/hooks/1", "https://8.8.8.8/hooks/2"
"""Addresses that are numbers and public: MLflow looks a name up."""


def test_it_is_there_once_and_follows_the_setting(ledger: Ledger) -> None:
    made = put_webhook(ledger, FIRST, "hush")
    assert put_webhook(ledger, FIRST, "hush") == made and put_webhook(ledger, FIRST, "") == made
    (one,) = ledger.client.list_webhooks()
    assert (one.name, one.url, {str(event) for event in one.events}) == (NAME, FIRST, set(EVENTS))
    assert put_webhook(ledger, SECOND, "") == made
    (one,) = ledger.client.list_webhooks()
    assert one.url == SECOND
    ledger.client.create_webhook("somebody-elses", FIRST, ["model_version.created"])
    assert put_webhook(ledger, FIRST, "") == made and len(ledger.client.list_webhooks()) == 2


def test_mlflow_takes_no_address_of_a_private_network(ledger: Ledger) -> None:
    for address in ("http://8.8.8.8/hook", "https://127.0.0.1/hook"):
        with pytest.raises(MlflowException):
            put_webhook(ledger, address, "")
    assert list(ledger.client.list_webhooks()) == []
