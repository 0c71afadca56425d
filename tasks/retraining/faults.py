"""Faults that may pass by themselves, told from those that stay by what was raised first, whatever words it got later."""

import errno
import urllib.error
from collections.abc import Iterator

from posttrain.errors import ContractError, DataError
from tasks.promotion.moves import UnderWayError

PASSING = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EAGAIN,
    }
)
"""Of errno: a disk that may be emptied, a server that may come back."""
BUSY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses of a server that may answer later (RFC 9110; 425: RFC 8470, 429: RFC 6585)."""
UNREACHED = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "ReadError",
        "ReadTimeout",
        "RemoteProtocolError",
        "WriteError",
        "PoolTimeout",
        "ConnectionError",
        "Timeout",
        "ChunkedEncodingError",
        "MaxRetryError",
        "NewConnectionError",
        "UnansweredError",
        "NoAnswerError",
    }
)
"""Names of what httpx, requests, urllib3 and our own client of a judge raise where nobody answers."""
WORDS = ("no space left", "disk is full", "disk quota", "database is locked", "database or disk is full")
"""What says so in words alone: DVC, SQLite and a server tell of their disk in a message."""


def may_pass(error: BaseException) -> bool:
    """Return whether trying again later may help: a server did not answer, a disk was full, or somebody else moved aliases.

    A result that breaks a contract, and data that are wrong, stay so; what they were raised from does not matter.
    """
    if isinstance(error, (ContractError, DataError)):
        return False
    return any(_passes(one) for one in chain(error))


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it was raised from, also where that is not shown ("from None")."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        reason = getattr(one, "reason", None)  # urllib wraps what the socket said
        waiting += [each for each in (one.__cause__, one.__context__, reason) if isinstance(each, BaseException)]


def _passes(error: BaseException) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in BUSY
    if isinstance(error, (ConnectionError, TimeoutError, UnderWayError)) or type(error).__name__ in UNREACHED:
        return True
    if isinstance(error, OSError) and error.errno in PASSING:
        return True
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return status in BUSY
    return any(words in str(error).lower() for words in WORDS)


def waits(retries: int, wait: float) -> list[float]:
    """Return the seconds before each new try: each twice those before it."""
    return [wait * 2.0**number for number in range(retries)]
