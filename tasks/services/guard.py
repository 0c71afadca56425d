"""An app behind a guard: only programs and pages of its own address reach it, and with a password only those that know it.

A browser lets any page send requests to 127.0.0.1. Two headers that a page cannot forge tell where a request comes from:

- `Host` names the server that the browser believes it talks to. A foreign name there is DNS rebinding: a page whose own
  name was made to point to this machine, so that the browser takes our answers for its own.
- `Origin` names the page. Prefect's own check lets any page read what may be read without it, and does not look at web sockets;
  MLflow's leaves out /graphql, and lets in pages of every other port of this machine.

Programs send no `Origin`, and pass.
"""

import base64
import binascii
import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
NAMES = ("127.0.0.1", "localhost")
"""Of this machine, in the address of a page."""
FURTHER_NAMES = "POSTTRAIN_SERVER_NAMES"
"""In a server's environment: what `servers.names` says."""
LOGIN = "POSTTRAIN_SERVER_LOGIN"
"""In a server's environment: `user:password`. An environment is read by its own user alone; a command line by everybody."""
REFUSED = 403
UNKNOWN = 401
WITHOUT_LOGIN = ("/health",)
"""Paths that say nothing but that the server lives."""


def own_hosts(port: int, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return what `Host` may say to a server at this port.

    A further name stands for itself with the server's port, and alone: a proxy before the server has a port of its own.
    One that brings its port stands for exactly that.
    """
    own = [f"{name}:{port}" for name in NAMES]
    for name in names:
        own += [name] if ":" in name else [f"{name}:{port}", name]
    return tuple(own)


def own_origins(port: int, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return what `Origin` may say to a server at this port; a further name may be that of a proxy that speaks https."""
    own, further = own_hosts(port), own_hosts(port, names)[len(NAMES) :]
    return (*(f"http://{host}" for host in own), *(f"{kind}://{host}" for host in further for kind in ("http", "https")))


def why_foreign(scope: Scope, names: Sequence[str] = ()) -> str:
    """Return why a request is not for this server, or not from its own page; "" for one that may pass."""
    port = scope["server"][1]
    for header, allowed in (("host", own_hosts(port, names)), ("origin", own_origins(port, names))):
        values = _values(scope, header)
        is_absent_and_may_be = header == "origin" and not values
        if not is_absent_and_may_be and (len(values) != 1 or values[0].lower() not in allowed):
            return f"{header.capitalize()} must be {' or '.join(allowed)}, got {', '.join(values) or 'none'}"
    return ""


def is_known(scope: Scope, login: str) -> bool:
    """Tell whether a request brings `user:password` by HTTP's Basic scheme (RFC 7617), compared in constant time."""
    values = _values(scope, "authorization")
    kind, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if kind.lower() != "basic":
        return False
    try:
        given = base64.b64decode(token.strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(given, login.encode())


def _values(scope: Scope, header: str) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == header.encode()]


def guarded(app: App, *, names: Sequence[str] = (), login: str = "") -> App:
    """Return the app behind the guard: what may not pass is answered with 403 or 401 and does not reach it, web sockets included.

    Args:
        app: that answers.
        names: by which the server is called, beside those of this machine.
        login: `user:password` that each request must bring but one for the server's health; "": none is asked for.
    """

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        is_asked = scope["type"] in ("http", "websocket")
        foreign = why_foreign(scope, names) if is_asked else ""
        if foreign:
            await _refuse(scope, send, REFUSED, foreign)
        elif is_asked and login and scope["path"] not in WITHOUT_LOGIN and not is_known(scope, login):
            await _refuse(scope, send, UNKNOWN, "user and password are needed")
        else:
            await app(scope, receive, send)

    return guard


async def _refuse(scope: Scope, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why[:100]})  # before it is accepted: 403
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if status == UNKNOWN:  # then a browser asks its user
        headers.append((b"www-authenticate", b'Basic realm="posttrain", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{why}\n".encode()})


def further_names() -> tuple[str, ...]:
    """Return the names that this server's environment adds to those of this machine."""
    return split_names(os.environ.get(FURTHER_NAMES, ""))


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in a setting, as headers have them."""
    return tuple(name.strip().lower() for name in text.split(",") if name.strip())
