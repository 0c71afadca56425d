"""Prefect's app behind a guard: only pages of its own address reach it. uvicorn is started with this module.

A browser lets any page send requests to 127.0.0.1. Two headers that a page cannot forge tell where a request comes from:

- `Host` names the server that the browser believes it talks to. A foreign name there is DNS rebinding: a page whose own
  name was made to point to this machine, so that the browser takes our answers for its own.
- `Origin` names the page. Prefect's own check lets any page read what may be read without it, and does not look at web sockets.

Programs send no `Origin`, and pass.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
NAMES = ("127.0.0.1", "localhost")
"""Of this machine, in the address of a page."""
REFUSED = 403


def own_hosts(port: int) -> tuple[str, ...]:
    """Return what `Host` may say to a server at this port."""
    return tuple(f"{name}:{port}" for name in NAMES)


def own_origins(port: int) -> tuple[str, ...]:
    """Return what `Origin` may say to a server at this port."""
    return tuple(f"http://{host}" for host in own_hosts(port))


def why_foreign(scope: Scope) -> str:
    """Return why a request is not for this server, or not from its own page; "" for one that may pass."""
    port = scope["server"][1]
    for header, allowed in (("host", own_hosts(port)), ("origin", own_origins(port))):
        values = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == header.encode()]
        is_absent_and_may_be = header == "origin" and not values
        if not is_absent_and_may_be and (len(values) != 1 or values[0] not in allowed):
            return f"{header.capitalize()} must be {' or '.join(allowed)}, got {', '.join(values) or 'none'}"
    return ""


def guarded(app: App) -> App:
    """Return the app behind the guard: foreign requests, web sockets included, are answered with 403 and do not reach it."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        foreign = why_foreign(scope) if scope["type"] in ("http", "websocket") else ""
        if not foreign:
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": foreign[:100]})  # before it is accepted: 403
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": REFUSED, "headers": headers})
            await send({"type": "http.response.body", "body": f"{foreign}\n".encode()})

    return guard


def create_app() -> App:
    """Return Prefect's app, guarded."""
    from prefect.server.api.server import create_app as prefects

    return guarded(prefects())
