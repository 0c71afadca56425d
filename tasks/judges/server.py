"""A server that speaks OpenAI's chat completions, asked with patience: pauses, retries, a rate limit, and one clear sentence.

The client's own retries are off (`tasks/judges/wire.py`), so that how often and how long is waited is said here alone.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from posttrain.errors import RequestError
from posttrain.settings.judge import JudgeSettings
from tasks.judges.replies import ForeignReplyError, Reply, models_of, printable, read_body, reply_of
from tasks.judges.wire import NoAnswerError, StatusError, Wire

FIRST_PAUSE = 0.5
"""Seconds before the second attempt; each pause is twice the one before, give or take a half."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts, at most, unless the server itself asks for more."""
LONGEST_ASKED_FOR = 600.0
"""Seconds that a server may ask to wait; beyond it a person had better know."""
OPTIONAL = ("logprobs", "max_tokens", "temperature")
"""Parameters that a server may refuse, naming them; one can ask without."""
OPENAI_KEY = "OPENAI_API_KEY"
"""Environment variable of the key for OpenAI's own server, where `judge.key_variable` names no other."""
ABSENT = "there is no such environment variable"

Told = TypeVar("Told")


class RefusedError(Exception):
    """The server takes no such parameter; the same question may be asked without it."""

    def __init__(self, parameter: str) -> None:
        super().__init__(parameter)
        self.parameter = parameter


class UnansweredError(Exception):
    """The server did not answer, however often it was asked.

    Attributes:
        trouble: of the last attempt.
        attempts: how many there were.
        is_foreign: whether something came that breaks a rule.
    """

    def __init__(self, trouble: str, *, attempts: int, is_foreign: bool) -> None:
        super().__init__(trouble)
        self.trouble, self.attempts, self.is_foreign = trouble, attempts, is_foreign


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
            RequestError: the address is none, or there is no key where one is wanted.
        """
        self._settings = settings
        self._stopped = threading.Event()
        self._rest = rest or self._wait
        self._pace = Pace(settings.requests_per_minute)
        self._random = random.Random()
        self._key = ""
        try:
            self._wire = Wire(base_url=settings.base_url, timeout=settings.timeout)
        except Exception as error:  # what a client says of an address is of many types
            raise RequestError(f"judge.base_url={settings.base_url}: {self._safe(error)}. Give http://host:port/v1") from None
        self._key = self._wire.key = self._find_key()

    @property
    def address(self) -> str:
        """Where requests go."""
        return self._wire.address

    def _find_key(self) -> str:
        """Return the key for this server: what `judge.key_variable` names, or for OpenAI's own what its client takes."""
        named = self._settings.key_variable
        if not named and not self._wire.is_openais:
            return ""
        name = named or OPENAI_KEY
        key = os.environ.get(name, "").strip()
        if key and not (key.isascii() and key.isprintable()):
            raise RequestError(
                f"judge.key_variable={named}: the environment variable {name} holds a character that no HTTP header may have; "
                "a key is plain ASCII. Copy it again"
            )
        if key:
            return key
        if not self._wire.is_openais:
            raise RequestError(
                f"judge.key_variable={named}: {ABSENT}, and {self.address} is to be given the key in it. Export it, or leave "
                "judge.key_variable empty for a server that wants no key"
            )
        remedy = "Export it, or name another server: judge.base_url=http://…/v1"
        if named:
            raise RequestError(f"judge.key_variable={named}: {ABSENT}, and OpenAI's own server wants a key. {remedy}")
        raise RequestError(f"judge.backend=openai: OpenAI's own server wants a key, and the variable {name} is not set. {remedy}")

    def _wait(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def stop(self) -> None:
        """Let every thread that waits give up."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of the connections."""
        self._wire.close()

    def complete(self, payload: Mapping[str, Any]) -> Reply:
        """Return the server's answer to a chat completion.

        Args:
            payload: messages and how to sample, as the client takes them.

        Raises:
            RefusedError: the server takes one of the optional parameters not at all.
            RequestError: it refuses the question, the key or the model, or does not answer however often it is asked.
        """
        try:
            return self.reply(payload)
        except UnansweredError as error:
            remedy = "correct or change the server" if error.is_foreign else "see whether the server runs"
            raise RequestError(
                f"judge.base_url={self.address}: the judge {self._settings.model} did not answer, asked {error.attempts} "
                f"times (judge.retries={self._settings.retries}); the last time: {error.trouble}. What it has answered is kept, "
                f"and the same command asks only for the rest: {remedy}, and say it again"
            ) from None

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Return the server's answer; as `complete`, but with UnansweredError for a server that does not answer."""
        body = {"model": self._settings.model, **payload}
        return self._patiently(lambda: reply_of(read_body(self._wire.complete(body))), payload=payload)

    def models(self, *, retries: int) -> tuple[str, ...]:
        """Return the names that the server lists; none where it has no list, or says no to whoever asks for it.

        Raises:
            UnansweredError: nothing answers there.
        """

        def ask() -> tuple[str, ...]:
            try:
                return models_of(read_body(self._wire.models()))
            except (StatusError, ForeignReplyError):
                return ()

        return self._patiently(ask, payload={}, retries=retries)

    def _patiently(self, ask: Callable[[], Told], *, payload: Mapping[str, Any], retries: int | None = None) -> Told:
        """Return what `ask` returns, tried again after a pause while the trouble may pass.

        Args:
            ask: sends one request and reads its answer.
            payload: what is asked with, of which the server may refuse a parameter.
            retries: further attempts; None: `judge.retries`.

        Raises:
            RefusedError: the server takes one of the optional parameters not at all.
            RequestError: it refuses the question, the key or the model, or wants too long a pause.
            UnansweredError: it does not answer, however often it is asked.
        """
        attempts = 1 + (self._settings.retries if retries is None else retries)
        for attempt in range(attempts):
            if self._stopped.is_set():
                raise RequestError("another question to the judge ended the run")
            self._rest(self._pace.wait())
            asked_for, is_foreign = 0.0, False
            try:
                return ask()
            except StatusError as error:
                if not _may_pass(error):
                    raise self._final(error, payload) from None
                asked_for = _asked_for(error.headers)
                trouble = f"{error.status} {self._safe(_told(error))}"
            except NoAnswerError as error:
                trouble = self._safe(error)
            except ForeignReplyError as error:
                is_foreign, trouble = True, f"no chat completion in its answer ({self._safe(error)})"
            if attempt < attempts - 1:
                self._rest(self._pause(attempt, asked_for, trouble))
        raise UnansweredError(trouble, attempts=attempts, is_foreign=is_foreign)

    def _pause(self, attempt: int, asked_for: float, trouble: str) -> float:
        if asked_for > LONGEST_ASKED_FOR:
            raise RequestError(
                f"judge.base_url={self.address}: the server asks to wait {asked_for:.0f} s ({trouble}). What it has answered is "
                "kept: say the same command again then"
            )
        backoff: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * self._random.uniform(0.5, 1.5)
        return max(asked_for, backoff)

    def _final(self, error: StatusError, payload: Mapping[str, Any]) -> Exception:
        status, answer = error.status, self._safe(_told(error))
        if status in (400, 422):
            for parameter in OPTIONAL:
                if parameter in payload and parameter in _told(error):
                    return RefusedError(parameter)
        model, where = f"judge.model={self._settings.model}", f"judge.base_url={self.address}"
        if status in (401, 403):
            return RequestError(f"{where}: the server refuses the key ({status}: {answer}). {self._key_remedy()}")
        if 300 <= status < 400:
            return RequestError(
                f"{where}: the server sends elsewhere ({status}: {self._safe(error.headers.get('location', 'nowhere'))}), and "
                "questions and key go nowhere but to judge.base_url. If you trust that address, name it there"
            )
        if status == 404:
            return RequestError(
                f"{where}, {model}: the server knows no such model or address (404: {answer}). Correct one of them"
            )
        return RequestError(
            f"{where}, {model}: the server refuses the question ({status}: {answer}). Correct the setting it names"
        )

    def _key_remedy(self) -> str:
        named = self._settings.key_variable
        if not named and not self._wire.is_openais:
            return (
                "None was sent: name the environment variable that holds one (judge.key_variable=NAME); "
                f"{OPENAI_KEY} goes to OpenAI's own server alone unless it is named"
            )
        return f"Put one that it knows into the environment variable {named or OPENAI_KEY} (judge.key_variable)"

    def _safe(self, error: object) -> str:
        """Return an error's text on one line, short, without the key and without what a terminal would obey."""
        return printable(str(error).replace(self._key, "***") if self._key else error)


def _told(error: StatusError) -> str:
    """Return what the server said of an error, in whichever of the usual places, else its body."""
    body = _body_of(error)
    inner = body.get("error", body)
    for place in (inner, body):
        if isinstance(place, dict):
            inner = next((place[name] for name in ("message", "detail") if place.get(name)), inner)
    return inner if isinstance(inner, str) and inner else error.body.decode("utf-8", "replace")


def _body_of(error: StatusError) -> dict[str, Any]:
    with suppress(ForeignReplyError):
        answer = read_body(error.body)
        return answer if isinstance(answer, dict) else {}
    return {}


def _may_pass(error: StatusError) -> bool:
    """Whether the same question may be answered later: the server is busy or broken, not paid out."""
    inner = _body_of(error).get("error")
    if isinstance(inner, dict) and inner.get("code") == "insufficient_quota":
        return False
    return error.status in (408, 409, 425, 429) or error.status >= 500


def _asked_for(headers: Mapping[str, str]) -> float:
    """Return the seconds that a Retry-After asks to wait, given as a number or as a date; 0 without one that can be read."""
    answer = headers.get("retry-after", "").strip()
    with suppress(ValueError):
        return max(0.0, float(answer))
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, (parsedate_to_datetime(answer) - datetime.now(UTC)).total_seconds())
    return 0.0
