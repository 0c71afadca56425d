"""Several machines compute a pipeline's stages together: node 0 has the pipeline, the others compute what it asks for.

Node 0 keeps a store of torch's at `launch.rdzv_endpoint`, which the others look into:

    first               code, libraries and settings of node 0; there before anything else
    hello/<node>        the same of another node
    launch/<n>          the stage that is computed as number n, and where the agents meet for it
    ready/<n>/<node>    "" where that node can compute it, else why not
    failed/<n>/<node>   the error of that node's processes
    end                 "" when the pipeline is done, else why it ended early
    bye/<node>          that node has read the end

Whoever reaches the endpoint can have the nodes run code, as under torchrun: it belongs into a network of their own.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from posttrain.errors import ContractError, RequestError

LOOK = 0.2
"""Seconds between two looks into the store."""
ANSWER = 30.0
"""Seconds after which a store that does not answer counts as gone."""
FAREWELL = 10.0
"""Seconds that nodes wait for each other's last word, after an error and at the end."""


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Return host and port of `launch.rdzv_endpoint`.

    Raises:
        RequestError: it is not of the form host:port.
    """
    host, _, port = endpoint.rpartition(":")
    is_name = bool(host) and not set(host) & set("/:[]@ ")
    if not is_name or not port.isdecimal() or not 1024 <= int(port) <= 65535:
        raise RequestError(
            "launch.rdzv_endpoint must be host:port of node 0, with a port between 1024 and 65535, such as node-0:29500, got "
            f"{endpoint!r}"
        )
    return host, int(port)


class Board:
    """The store that the nodes look into.

    Args:
        endpoint: host:port.
        is_first: keep the store; else reach the one that is there.
        seconds: that the first node is waited for.

    Raises:
        RequestError: the port cannot be had, or nobody answers there.
    """

    def __init__(self, endpoint: str, *, is_first: bool, seconds: float) -> None:
        self.endpoint = endpoint
        host, port = split_endpoint(endpoint)
        if not is_first:
            self._await(host, port, seconds)
        from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch declares it elsewhere

        patience = timedelta(seconds=ANSWER)
        try:
            self._store = TCPStore(host, port, is_master=is_first, timeout=patience, wait_for_workers=False)
        except RuntimeError as error:
            what = "node 0 cannot listen there" if is_first else "what answers there is no node 0"
            first = str(error).strip().partition("\n")[0]
            raise RequestError(f"launch.rdzv_endpoint={endpoint}: {what}: {first[:200]}") from None

    @staticmethod
    def _await(host: str, port: int, seconds: float) -> None:
        """Wait until somebody listens: torch's own waiting would not hear Ctrl-C."""
        until = time.monotonic() + seconds
        while True:
            try:
                socket.create_connection((host, port), timeout=ANSWER).close()
                return
            except OSError as error:
                if time.monotonic() > until:
                    raise RequestError(
                        f"launch.rdzv_endpoint={host}:{port}: node 0 did not come within launch.join_seconds ({seconds:g}): "
                        f"{error.strerror or error}. Start the same command there, with launch.node_rank=0"
                    ) from None
            time.sleep(LOOK)

    def put(self, name: str, value: str | bytes) -> None:
        """Write a value.

        Raises:
            ContractError: node 0 is gone.
        """
        with self._there():
            self._store.set(name, value)  # type: ignore[arg-type]  # bytes are taken as they are

    def has(self, name: str) -> bool:
        """Return whether a value is there.

        Raises:
            ContractError: node 0 is gone.
        """
        with self._there():
            return bool(self._store.check([name]))

    def get(self, name: str) -> bytes:
        """Return a value that is there.

        Raises:
            ContractError: node 0 is gone.
        """
        with self._there():
            return bytes(self._store.get(name))

    def wait(self, names: list[str], seconds: float) -> list[str]:
        """Wait until all values are there, or the time is over; return those that are missing."""
        until = time.monotonic() + seconds
        while missing := [name for name in names if not self.has(name)]:
            if time.monotonic() > until:
                break
            time.sleep(LOOK)
        return missing

    @contextmanager
    def _there(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            first = str(error).strip().partition("\n")[0]
            raise ContractError(f"launch.rdzv_endpoint={self.endpoint}: node 0 does not answer any more: {first[:200]}") from None
