"""The judge's server is asked for its model before anything trains: what would fail after hours is said in seconds."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from posttrain.errors import RequestError, did_you_mean
from posttrain.settings.judge import JudgeSettings
from tasks.judges.cache import FILE, ReplyCache, judge_mark
from tasks.judges.replies import printable
from tasks.judges.server import RefusedError, Server, UnansweredError

RETRIES = 2
"""Further attempts to reach the server: whoever mistyped a port should not wait for `judge.retries`."""
SHOWN = 10
"""Names of models in a message, at most."""
TOKENS = 8
"""Of the answer to the small question, at most."""
LIMITS = ("max_tokens", "max_completion_tokens")
"""Names of the limit of an answer, the newer one second."""


def check_server(settings: JudgeSettings, *, cache: Path, server: Server | None = None) -> list[str]:
    """Ask for the server's list of models, else one small question, and return notes for the user.

    A server that is gone is no fault where its answers are kept: a run whose questions are all in the cache needs none.

    Args:
        settings: of the judge.
        cache: folder of its answers.
        server: the server; None: of the settings.

    Raises:
        RequestError: there is no server, it refuses the key, or it has no such model.
        StorageError: the cache cannot be read.
    """
    with closing(server or Server(settings)) as asked:
        try:
            _check_model(settings, asked)
        except UnansweredError as error:
            if _has_answered(cache, asked.address, settings.model):
                return [
                    f"judge.base_url={asked.address}: the server does not answer ({error.trouble}). Answers of {settings.model} "
                    "are kept, so the run goes on with them, and ends where one is missing"
                ]
            remedy = "Correct or change the server" if error.is_foreign else "Start it, or correct judge.base_url"
            raise RequestError(
                f"judge.base_url={asked.address}: the judge's server does not answer, asked {error.attempts} times before "
                f"anything trains; the last time: {error.trouble}. {remedy}"
            ) from None
    return []


def _check_model(settings: JudgeSettings, server: Server) -> None:
    listed = server.models(retries=RETRIES)
    if settings.model in listed:
        return
    if listed and settings.must_be_listed:
        raise RequestError(
            f"judge.model={settings.model}: {server.address} lists no such model{_nearest(settings.model, listed)} Name one of "
            "them, or set judge.must_be_listed=false if it answers to other names as well"
        )
    try:
        _ask_small_question(server)
    except RequestError as error:
        raise RequestError(f"{error}{_nearest(settings.model, listed)}" if listed else str(error)) from None


def _ask_small_question(server: Server) -> None:
    """Ask what costs next to nothing; which limit a server takes is not the question here."""
    for limit in LIMITS:
        try:
            server.reply({"messages": [{"role": "user", "content": "Say A."}], limit: TOKENS})
        except RefusedError:
            continue
        return


def _nearest(name: str, listed: Sequence[str]) -> str:
    """Return how a message goes on with the names that a server lists: the nearest, and the first."""
    names = [printable(one) for one in listed]
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    guess = did_you_mean(name, names[:1000])  # each costs time, and whose list it is may have no end
    return f"{guess or '.'} It lists {', '.join(names[:SHOWN])}{rest}."


def _has_answered(cache: Path, address: str, model: str) -> bool:
    """Return whether answers of this judge are kept; nothing is made where there is no cache."""
    if not (cache / FILE).exists():
        return False
    mark = judge_mark(address, model)
    with closing(ReplyCache(cache)) as replies:
        return mark in replies.get([mark])
