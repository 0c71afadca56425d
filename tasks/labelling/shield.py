"""What stands before the labelling page: no foreign name, no foreign page, no large body, and headers that a browser obeys.

A browser lets any page send requests to this machine; `tasks/services/guard.py` says how `Host` and `Origin` tell them apart.
"""

from collections.abc import MutableMapping, Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse

from tasks.services.guard import NAMES, App, Receive, Scope, Send, own_origins

LARGEST_BODY = 16_384
"""Bytes of a request: an order of nine answers has 200."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Of each answer."""


def shielded(app: App, *, port: int, hosts: Sequence[str] = ()) -> App:
    """Return the app behind all of it.

    Args:
        app: that answers.
        port: that it is reached at.
        hosts: by which it is called, beside those of this machine, such as `label.example.org`; with a port or without one.
    """
    names = [name.lower() for name in hosts]
    trusted = [*NAMES, *(name.partition(":")[0] for name in names)]
    inner = _with_small_bodies(_from_own_pages(app, own_origins(port, names)))
    return _with_headers(TrustedHostMiddleware(inner, allowed_hosts=trusted, www_redirect=False))


def _from_own_pages(app: App, origins: Sequence[str]) -> App:
    """Refuse what a foreign page sends. A program sends no `Origin`; each browser does with a POST."""

    async def check(scope: Scope, receive: Receive, send: Send) -> None:
        origin = Headers(scope=scope).get("origin") if scope["type"] == "http" else None
        if origin is not None and origin.lower() not in origins:
            await _refuse(scope, receive, send, 403, f"Origin must be {' or '.join(origins)}.")
        else:
            await app(scope, receive, send)

    return check


def _with_small_bodies(app: App) -> App:
    """Refuse a large body before anything reads it, and hand on a small one in one piece."""

    async def check(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            part = await receive()
            if part["type"] == "http.disconnect":
                return
            body += part.get("body", b"")
            more = part.get("more_body", False)
            if len(body) > LARGEST_BODY:
                await _refuse(scope, receive, send, 413, f"A request may have {LARGEST_BODY} bytes.")
                return
        waiting: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> MutableMapping[str, Any]:
            return waiting.pop() if waiting else await receive()

        await app(scope, again, send)

    return check


def _with_headers(app: App) -> App:
    async def add(scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await app(scope, receive, with_headers)

    return add


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, why: str) -> None:
    await JSONResponse({"error": why}, status)(scope, receive, send)
