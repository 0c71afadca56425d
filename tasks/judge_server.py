"""A server that speaks OpenAI's chat completions, asked with patience: pauses, retries, a rate limit, and one clear sentence.

The `openai` client does the talking with its own retries off, so that how often and how long is waited is said here alone.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from posttrain.errors import RequestError
from posttrain.judges import Position
from posttrain.sections import JudgeSettings

FIRST_PAUSE = 0.5
"""Seconds before the second attempt; each pause is twice the one before, give or take a half."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts, at most, unless the server itself asks for more."""
LONGEST_ASKED_FOR = 600.0
"""Seconds that a server may ask to wait; beyond it a person had better know."""
OPTIONAL = ("logprobs", "max_tokens", "temperature")
"""Parameters that a server may refuse, naming them; one can ask without."""


class RefusedError(Exception):
    """The server takes no such parameter; the same question may be asked without it."""

    def __init__(self, parameter: str) -> None:
        super().__init__(parameter)
        self.parameter = parameter


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    Attributes:
        text: of the first choice.
        positions: the likeliest tokens at its beginning; empty where the server told no log-probabilities.
        prompt_tokens: as the server counts them; 0 where it does not.
        completion_tokens: likewise.
    """

    text: str
    positions: tuple[Position, ...]
    prompt_tokens: int
    completion_tokens: int


def reply_of(told: Any) -> Reply:
    """Return what the body of a chat completion says.

    Raises:
        ValueError: it is no chat completion.
    """
    try:
        choice = told["choices"][0]
        text = choice["message"]["content"]
        if text is not None and not isinstance(text, str):
            raise TypeError
        content = (choice.get("logprobs") or {}).get("content") or []
        positions = tuple(
            Position(one["token"], {top["token"]: float(top["logprob"]) for top in reversed([one, *one.get("top_logprobs", [])])})
            for one in content
        )
        usage = told.get("usage") or {}
        counts = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        raise ValueError("the reply is no chat completion") from None
    return Reply(text or "", positions, *counts)


class Pace:
    """Lets no more than so many requests a minute pass, evenly spaced, whatever thread they come from."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> float:
        """Return the seconds to wait before the next request, which is then taken for granted."""
        with self._lock:
            now = self._clock()
            start = max(now, self._next)
            self._next = start + self._gap
            return start - now


class Server:
    """One server, asked as its settings say; what it cannot answer ends in one error."""

    def __init__(self, settings: JudgeSettings, *, rest: Callable[[float], None] | None = None) -> None:
        """Prepare the client; nothing is asked yet.

        Args:
            settings: of the judge.
            rest: waits so many seconds (tests look at them instead).

        Raises:
            RequestError: there is no key for OpenAI's own address.
        """
        import openai

        self._key = os.environ.get(settings.key_variable, "")
        if not self._key and not settings.base_url and not os.environ.get("OPENAI_BASE_URL"):
            raise RequestError(
                f"judge.key_variable={settings.key_variable}: there is no such environment variable, and OpenAI's own server "
                "wants a key. Export it, or name another server: judge.base_url=http://…/v1"
            )
        self._settings = settings
        self._stopped = threading.Event()
        self._rest = rest or self._wait
        self._pace = Pace(settings.requests_per_minute)
        self._random = random.Random()
        try:
            self._client = openai.OpenAI(
                api_key=self._key or "none",
                base_url=settings.base_url or None,
                timeout=settings.timeout,
                max_retries=0,
            )
        except Exception as error:  # what a client says of an address is of many types
            raise RequestError(f"judge.base_url={settings.base_url}: {self._safe(error)}. Give http://host:port/v1") from None

    @property
    def address(self) -> str:
        """Where requests go."""
        return str(self._client.base_url).rstrip("/")

    def _wait(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def stop(self) -> None:
        """Let every thread that waits give up."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def complete(self, payload: Mapping[str, Any]) -> Reply:
        """Return the server's answer to a chat completion.

        Args:
            payload: messages and how to sample, as the client takes them.

        Raises:
            RefusedError: the server takes one of the optional parameters not at all.
            RequestError: it refuses the question, the key or the model, or does not answer however often it is asked.
        """
        import openai

        trouble = ""
        for attempt in range(self._settings.retries + 1):
            if self._stopped.is_set():
                raise RequestError("another question to the judge ended the run")
            self._rest(self._pace.wait())
            asked_for = 0.0
            try:
                raw = self._client.chat.completions.with_raw_response.create(model=self._settings.model, **payload)
                return reply_of(raw.http_response.json())
            except openai.APIStatusError as error:
                if not _may_pass(error):
                    raise self._final(error, payload) from None
                asked_for = _asked_for(error.response.headers)
                trouble = f"{error.status_code} {self._safe(_told(error))}"
            except openai.APITimeoutError:
                trouble = f"no answer within {self._settings.timeout:g} s (judge.timeout)"
            except openai.APIConnectionError as error:
                trouble = f"connection failed: {self._safe(error.__cause__ or error)}"
            except (ValueError, openai.APIError) as error:
                trouble = f"no chat completion in its answer ({self._safe(error)})"
            if attempt < self._settings.retries:
                self._rest(self._pause(attempt, asked_for, trouble))
        raise RequestError(
            f"judge.base_url={self.address}: the judge {self._settings.model} did not answer, asked {self._settings.retries + 1} "
            f"times (judge.retries={self._settings.retries}); the last time: {trouble}. What it has answered is kept, and the "
            "same command asks only for the rest: see whether the server runs, and say it again"
        )

    def _pause(self, attempt: int, asked_for: float, trouble: str) -> float:
        if asked_for > LONGEST_ASKED_FOR:
            raise RequestError(
                f"judge.base_url={self.address}: the server asks to wait {asked_for:.0f} s ({trouble}). What it has answered is "
                "kept: say the same command again then"
            )
        backoff = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * self._random.uniform(0.5, 1.5)
        return max(asked_for, backoff)

    def _final(self, error: Any, payload: Mapping[str, Any]) -> Exception:
        status, told = error.status_code, self._safe(_told(error))
        if status in (400, 422):
            for parameter in OPTIONAL:
                if parameter in payload and parameter in _told(error):
                    return RefusedError(parameter)
        model, where = f"judge.model={self._settings.model}", f"judge.base_url={self.address}"
        if status in (401, 403):
            return RequestError(
                f"{where}: the server refuses the key ({status}: {told}). Put one that it knows into the environment variable "
                f"{self._settings.key_variable} (judge.key_variable)"
            )
        if status == 404:
            return RequestError(f"{where}, {model}: the server knows no such model or address (404: {told}). Correct one of them")
        return RequestError(f"{where}, {model}: the server refuses the question ({status}: {told}). Correct the setting it names")

    def _safe(self, error: object) -> str:
        """Return an error's text on one line, short, without the key."""
        text = " ".join(str(error).split())
        text = text.replace(self._key, "***") if self._key else text
        return text[:200] + ("…" if len(text) > 200 else "")


def _told(error: Any) -> str:
    """Return what the server said of an error, in whichever of the usual places."""
    body = error.body
    if isinstance(body, dict):
        body = next((body[name] for name in ("message", "detail", "error") if body.get(name)), body)
    return str(body or error.response.text or error.response.reason_phrase)


def _may_pass(error: Any) -> bool:
    """Whether the same question may be answered later: the server is busy or broken, not paid out."""
    if getattr(error, "code", None) == "insufficient_quota":
        return False
    return bool(error.status_code in (408, 409, 425, 429) or error.status_code >= 500)


def _asked_for(headers: Mapping[str, str]) -> float:
    """Return the seconds that a Retry-After asks to wait, given as a number or as a date; 0 without one that can be read."""
    told = headers.get("retry-after", "").strip()
    with suppress(ValueError):
        return max(0.0, float(told))
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    return 0.0
