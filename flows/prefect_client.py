"""A client of one server of Prefect, whatever the settings were when Prefect was imported."""

import os
from typing import Any


def client_of(api: str) -> Any:
    """Return a client of a server; the password is that of this process."""
    from prefect.client.orchestration import SyncPrefectClient

    return SyncPrefectClient(api=api, auth_string=os.environ.get("PREFECT_API_AUTH_STRING"))
