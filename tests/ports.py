"""Ports for servers that tests start."""

import socket
from random import SystemRandom

BELOW_EPHEMERAL = range(20_000, 32_000)
"""From 32,768 on a kernel gives ports to outgoing connections: one that was free would be another test's a moment later."""


_given: set[int] = set()
"""Ports that this process was given: one that is given twice would be two servers' of one test."""


def free_port() -> int:
    """Return a port that nobody listens on, that no connection is given by itself, and that was not returned before."""
    others = [port for port in BELOW_EPHEMERAL if port not in _given]
    for port in SystemRandom().sample(others, min(50, len(others))):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise AssertionError("none of fifty ports is free")
