"""The way to a judge's server: one deadline for all of a request, a limit of bytes, no redirects, a key for one host.

The `openai` client does the talking. It runs in an event loop of its own, because only there one deadline ends whatever a
request waits for: a name, a connection, a header or the next byte. A timeout of sockets starts anew with each byte.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from tasks.judges.replies import ForeignReplyError

LONGEST_BODY = 8 * 2**20
"""Bytes of an answer, at most; a chat completion has some tens of thousands, the longest lists of models a million."""
OPENAI = "api.openai.com"
"""OpenAI's host; those of its regions end in it."""
NEEDED = frozenset(
    {
        "host",
        "accept",
        "accept-encoding",
        "connection",
        "content-type",
        "content-length",
        "user-agent",
        "x-stainless-raw-response",
    }
)
"""Headers that any server gets; by the last one the client knows that a body is read here. It adds more to them from the
environment: OpenAI's organization and project, and whatever OPENAI_CUSTOM_HEADERS holds."""


class StatusError(Exception):
    """The server answered with another status than 200."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status, self.headers, self.body = status, headers, body


class NoAnswerError(Exception):
    """No answer came; the text says why."""


def is_openais(scheme: str, host: str) -> bool:
    """Return whether an address is OpenAI's own, over TLS."""
    return scheme == "https" and (host == OPENAI or host.endswith(f".{OPENAI}"))


class Wire:
    """Sends requests to one address, from any thread; nothing is sent before the first request."""

    def __init__(self, *, base_url: str, timeout: float) -> None:
        """Prepare the client.

        Args:
            base_url: empty: what the `openai` client takes, which is OPENAI_BASE_URL or OpenAI's own.
            timeout: seconds for all of a request.

        Raises:
            Exception: of many types, where the address is none.
        """
        import openai

        self.key = ""
        self._timeout = timeout
        self._client = openai.AsyncOpenAI(
            api_key="none",
            base_url=base_url or None,
            timeout=None,
            max_retries=0,
            default_headers={"Accept-Encoding": "identity"},
            http_client=openai.DefaultAsyncHttpxClient(
                timeout=None,
                follow_redirects=False,
                event_hooks={"request": [self._prepare], "response": [self._inspect]},
            ),
        )
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Where requests go."""
        return str(self._client.base_url).rstrip("/")

    @property
    def is_openais(self) -> bool:
        """Whether that is OpenAI's own server."""
        return is_openais(self._client.base_url.scheme, self._client.base_url.host)

    def complete(self, payload: Mapping[str, Any]) -> bytes:
        """Return the body of a chat completion.

        Raises:
            StatusError: the status is not 200.
            NoAnswerError: the connection failed, or the time is over.
            ForeignReplyError: the body is too long, or compressed.
        """
        return self._ask(lambda: self._client.chat.completions.with_streaming_response.create(**payload))

    def models(self) -> bytes:
        """Return the body of the list of models; raises as `complete`."""
        return self._ask(self._client.models.with_streaming_response.list)

    def close(self) -> None:
        """Let go of the connections, and of requests that somebody no longer waits for."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        if thread is threading.current_thread():  # the garbage collector, in the middle of a request: it cannot wait for itself
            loop.call_soon(loop.stop)
            return
        asyncio.run_coroutine_threadsafe(self._finish(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    async def _finish(self) -> None:
        unfinished = asyncio.all_tasks() - {asyncio.current_task()}
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        await self._client.close()

    def _ask(self, request: Callable[[], Any]) -> bytes:
        import openai

        async def body() -> bytes:
            async with request() as answer:
                return await _body_of(answer.http_response)

        try:
            return self._run(asyncio.wait_for(body(), self._timeout))
        except TimeoutError:
            raise NoAnswerError(f"no whole answer within {self._timeout:g} s (judge.timeout)") from None
        except openai.APIConnectionError as error:
            raise NoAnswerError(f"connection failed: {error.__cause__ or error}") from None
        except openai.APIError as error:
            raise ForeignReplyError(str(error)) from None

    def _run(self, work: Coroutine[Any, Any, bytes]) -> bytes:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="judge-wire", daemon=True)
                self._thread.start()
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    async def _prepare(self, request: Any) -> None:
        """Give each server the key that is meant for it; one that is not OpenAI's gets no header beyond what it needs."""
        if not is_openais(request.url.scheme, request.url.host):
            for name in [name for name in request.headers if name.lower() not in NEEDED]:
                del request.headers[name]
        request.headers["Authorization"] = f"Bearer {self.key or 'none'}"

    async def _inspect(self, response: Any) -> None:
        """End here what is no plain 200, since the client would read an error's body without any limit."""
        if response.status_code != 200:
            raise StatusError(response.status_code, dict(response.headers), await _body_of(response))


async def _body_of(response: Any) -> bytes:
    """Return the bytes as they come: a compressed body of 8 MiB may hold gigabytes, and none was asked for."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise ForeignReplyError(f"the body is compressed ({encoding[:20]}); the request asks for one that is not (identity)")
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > LONGEST_BODY:
                break
    except Exception as error:  # of the client's transport, which wraps none of them here
        raise NoAnswerError(f"connection failed: {str(error) or type(error).__name__}") from None
    if len(body) > LONGEST_BODY:
        raise ForeignReplyError(f"the body is longer than {LONGEST_BODY:,} bytes, which is the limit")
    return bytes(body)
