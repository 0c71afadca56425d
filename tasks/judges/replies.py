"""What a judge's server sent, read as what it is: text of somebody else, of which nothing is believed before it is checked."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from posttrain.judges.opinions import Position

DEEPEST = 32
"""Objects and lists within one another; a chat completion has about 8."""
POSITIONS = 64
"""Tokens at the beginning of a reply whose log-probabilities are read; an option is a few tokens long."""
ROUNDING = 1e-3
"""What a server that computes in half precision may be above 0 in a log-probability, or above 1 in their total."""
MOST_TOKENS = 10**9
"""Tokens that a reply may be said to have taken."""


class ForeignReplyError(ValueError):
    """What a server sent breaks a rule; the text says what it is, and the rule."""


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


def printable(value: object) -> str:
    """Return foreign text on one line, short, without what a terminal would obey."""
    text = " ".join(str(value).split())
    return "".join(one if one.isprintable() else "\ufffd" for one in text[:200]) + ("…" if len(text) > 200 else "")


def read_body(body: bytes) -> Any:
    """Return the JSON of a body.

    Raises:
        ForeignReplyError: it is no JSON in UTF-8, holds NaN or Infinity, or is deeper than `DEEPEST`.
    """
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise ForeignReplyError(
            f"the body is not UTF-8, as JSON must be: byte {error.start} is 0x{body[error.start]:02x}"
        ) from None
    except RecursionError:
        _too_deep()
    except ForeignReplyError:
        raise
    except ValueError as error:
        raise ForeignReplyError(f"the body is no JSON: {error}") from None
    _check_depth(value)
    return value


def reply_of(value: Any) -> Reply:
    """Return what a chat completion says.

    Raises:
        ForeignReplyError: it is none, or a text or a number in it cannot be.
    """
    choice = _first(_field(value, "choices", "the reply"), "choices")
    message = _field(choice, "message", "choices[0]")
    content = _field(message, "content", "choices[0].message", default=None)
    text = "" if content is None else _text(content, "choices[0].message.content")
    logprobs = _field(choice, "logprobs", "choices[0]", default=None) or {}
    listed = _field(logprobs, "content", "choices[0].logprobs", default=None) or []
    positions = tuple(
        _position(one, f"choices[0].logprobs.content[{place}]")
        for place, one in enumerate(_list(listed, "choices[0].logprobs.content")[:POSITIONS])
    )
    usage = _field(value, "usage", "the reply", default=None) or {}
    return Reply(text, positions, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))


def models_of(value: Any) -> tuple[str, ...]:
    """Return the names in a list of models.

    Raises:
        ForeignReplyError: it is none.
    """
    data = _list(_field(value, "data", "the reply"), "data")
    names = (_text(_field(one, "id", f"data[{place}]"), f"data[{place}].id") for place, one in enumerate(data))
    return tuple(dict.fromkeys(names))


def _position(value: Any, where: str) -> Position:
    top = _list(_field(value, "top_logprobs", where, default=None) or [], f"{where}.top_logprobs")
    entries = [_entry(one, f"{where}.top_logprobs[{place}]") for place, one in enumerate(top)]
    total = sum(math.exp(logprob) for _, logprob in entries)
    if total > 1 + ROUNDING:
        _break(f"{where}.top_logprobs", f"have a total probability of {total:.4g}", "probabilities are at most 1 together")
    token, logprob = _entry(value, where)
    return Position(token, dict(reversed([(token, logprob), *entries])))


def _entry(value: Any, where: str) -> tuple[str, float]:
    token = _text(_field(value, "token", where), f"{where}.token")
    number = _number(_field(value, "logprob", where), f"{where}.logprob")
    if not number <= ROUNDING:
        _break(f"{where}.logprob", f"is {number:g}", "a log-probability is at most 0")
    return token, min(0.0, number)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _break(where, f"is {_kind(value)}", "it must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        _break(where, "is beyond every number", "it must be finite")
    return number


def _count(usage: Any, name: str) -> int:
    value, where = _field(usage, name, "usage", default=None), f"usage.{name}"
    if value is None:
        return 0
    number = _number(value, where)
    if not (0 <= number <= MOST_TOKENS and number.is_integer()):
        _break(where, f"is {number:g}", f"it must be a whole number from 0 to {MOST_TOKENS:,}")
    return int(number)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        _break(where, f"is {_kind(value)}", "it must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        _break(where, "holds half of a surrogate pair", "text must be valid Unicode")
    return value


def _list(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list):
        _break(where, f"is {_kind(value)}", "it must be a list")
    return value


def _first(value: Any, where: str) -> Any:
    if not _list(value, where):
        _break(where, "is empty", "it must hold an answer")
    return value[0]


_REQUIRED = object()


def _field(value: Any, name: str, where: str, *, default: Any = _REQUIRED) -> Any:
    if not isinstance(value, dict):
        _break(where, f"is {_kind(value)}", "it must be an object")
    if name not in value and default is _REQUIRED:
        _break(where, f"has no {name}", "one is needed")
    return value.get(name, default)


def _kind(value: Any) -> str:
    names = {str: "text", bool: "true or false", dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(value), "a number")


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            _too_deep()
        inner = [one for one in level if isinstance(one, dict | list)]
        level = [part for one in inner for part in (one.values() if isinstance(one, dict) else one)]


def _too_deep() -> NoReturn:
    _break("the body", "is nested too deeply", f"{DEEPEST} levels are allowed")


def _no_number(name: str) -> NoReturn:
    _break("the body", f"holds {name}", "numbers must be finite")


def _break(where: str, what: str, rule: str) -> NoReturn:
    raise ForeignReplyError(f"{where} {what}; {rule}")
