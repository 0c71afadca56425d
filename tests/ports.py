"""Ports for servers that tests start."""

import socket
from random import SystemRandom

BELOW_EPHEMERAL = range(20_000, 32_000)
"""From 32,768 on a kernel gives ports to outgoing connections: one that was free would be another test's a moment later."""


def free_port() -> int:
    """Return a port that nobody listens on, and that no connection is given by itself."""
    for port in SystemRandom().sample(BELOW_EPHEMERAL, 50):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("none of fifty ports is free")
