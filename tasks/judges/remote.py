"""A judge behind a server: its options' log-probabilities where the server tells them, else sampled answers, counted."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from posttrain.compute import Size
from posttrain.errors import RequestError
from posttrain.judges.opinions import Inquiry, Opinion, Position, Usage, from_counts, from_positions
from posttrain.records import Prompt
from posttrain.settings.judge import JudgeSettings
from tasks.judges.cache import ReplyCache, judge_mark, reply_key
from tasks.judges.interface import Judge, Written
from tasks.judges.load import JudgeSource
from tasks.judges.replies import Reply
from tasks.judges.server import RefusedError, Server

ANSWER_TOKENS = 8
"""Tokens of an answer without reasoning, at most: an option and a little around it."""
LIKELIEST = 20
"""Log-probabilities asked for at each token (the most that OpenAI's servers tell)."""


def open_judge(source: JudgeSource, *, identity: str, cache: ReplyCache) -> Judge:
    """Return the server's model as a judge; nothing is asked yet. Its answers are kept by the server's address and its name."""
    return ServerJudge(source.settings, cache=cache)


class _BudgetSpentError(Exception):
    """`judge.budget` allows no further reply."""


class ServerJudge:
    """Asks a server, several questions at once; each reply is kept as soon as it is there."""

    def __init__(self, settings: JudgeSettings, *, cache: ReplyCache, server: Server | None = None) -> None:
        self.name = settings.model
        self.usage = Usage()
        self._settings = settings
        self._cache = cache
        self._server = server or Server(settings)
        self._lock = threading.Lock()
        self._tells_logprobs = True
        self._without: frozenset[str] = frozenset()
        self._reserved = 0
        self._is_marked = False

    @property
    def size(self) -> Size:
        """None: what a server computes is its own, and not known."""
        return Size()

    def ask(self, inquiries: Sequence[Inquiry], *, advance: Callable[[int], None] = lambda replies: None) -> list[Opinion | None]:
        """Return an opinion each, None where `judge.budget` was spent before; equal inquiries are asked once.

        The first one is asked alone, since it tells whether the server tells log-probabilities.

        Raises:
            RequestError: the server refuses, or does not answer however often it is asked; what it answered is kept.
        """
        distinct = list(dict.fromkeys(inquiries))
        opinions: dict[Inquiry, Opinion | None] = {inquiry: self._opinion(inquiry) for inquiry in distinct[:1]}
        advance(len(opinions))
        with self._threads() as pool:
            futures: dict[Future[Opinion | None], Inquiry] = {pool.submit(self._opinion, one): one for one in distinct[1:]}
            for future in as_completed(futures):
                opinions[futures[future]] = future.result()
                advance(1)
        return [opinions[inquiry] for inquiry in inquiries]

    def write(self, prompts: Sequence[Prompt], *, max_new_tokens: int, seed: int) -> list[Written]:
        """Return a response of the judge's own model to each prompt: sampled at temperature 1, kept, and taken as finished.

        Args:
            prompts: texts, or messages.
            max_new_tokens: of a response.
            seed: not used: servers need not know one, and a reply that is kept is the same again.

        Raises:
            RequestError: as `ask`.
        """

        def respond(prompt: Prompt) -> Written:
            turns = [("user", prompt)] if isinstance(prompt, str) else [(one.role, one.content) for one in prompt]
            return Written(self._reply(turns, max_tokens=max_new_tokens, temperature=1.0)["text"], is_finished=True)

        with self._threads() as pool:
            futures = [pool.submit(respond, prompt) for prompt in prompts]
            for future in as_completed(futures):
                future.result()  # the first error ends the others' waiting
        return [future.result() for future in futures]

    def close(self) -> None:
        """Let go of the connections and of the cache."""
        self._server.close()
        self._cache.close()

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """Yield a pool whose threads give up waiting as soon as one of them, or the user, ends the run."""
        pool = ThreadPoolExecutor(max_workers=self._settings.concurrency, thread_name_prefix="judge")
        try:
            yield pool
        except BaseException:
            self._server.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _opinion(self, inquiry: Inquiry) -> Opinion | None:
        """Return what the judge says of one inquiry, or None where the budget is spent."""
        try:
            thought, turns = "", [("user", inquiry.question + inquiry.ending)]
            if inquiry.think:
                asked = [("user", inquiry.question + inquiry.think)]
                thought = self._reply(asked, inquiry, max_tokens=self._settings.max_tokens, temperature=0.0)["text"].strip()
                turns = [*asked, ("assistant", thought), ("user", inquiry.ending.strip())]
            return replace(self._answer(inquiry, turns), reasoning=thought)
        except _BudgetSpentError:
            return None

    def _answer(self, inquiry: Inquiry, turns: Sequence[tuple[str, str]]) -> Opinion:
        if self._tells_logprobs:
            told = self._reply(turns, inquiry, max_tokens=ANSWER_TOKENS, temperature=0.0, logprobs=True, top_logprobs=LIKELIEST)
            if told["positions"]:
                positions = [Position(token, top) for token, top in told["positions"]]
                return replace(from_positions(positions, inquiry.options), at=told["at"])
            self._tells_logprobs = False
        replies = [
            self._reply(turns, inquiry, number=number, max_tokens=ANSWER_TOKENS, temperature=1.0)
            for number in range(self._settings.samples)
        ]
        return replace(
            from_counts([reply["text"] for reply in replies], inquiry.options), at=max(reply["at"] for reply in replies)
        )

    def _reply(
        self, turns: Sequence[tuple[str, str]], inquiry: Inquiry | None = None, *, number: int = 0, **how: Any
    ) -> Mapping[str, Any]:
        """Return one reply, from the cache where it is there; a refusal of log-probabilities is a reply without any."""
        messages = [{"role": role, "content": content} for role, content in turns]
        if inquiry and inquiry.system.strip():
            messages.insert(0, {"role": "system", "content": inquiry.system.strip()})
        options = inquiry.options if inquiry else ()
        key = reply_key(
            judge=[self._server.address, self._settings.model], messages=messages, options=options, number=number, how=how
        )
        if (kept := self._cache.get([key]).get(key)) and _is_sound(kept):
            self._keep({})
            with self._lock:
                self.usage = self.usage.plus(Usage(cached=1))
            return kept
        reply = self._asked(messages, how)
        told = {
            "text": reply.text,
            "positions": [[position.token, dict(position.top)] for position in reply.positions],
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._keep({key: told})
        with self._lock:
            self.usage = self.usage.plus(
                Usage(asked=1, prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens)
            )
        return told

    def _keep(self, replies: Mapping[str, Mapping[str, Any]]) -> None:
        """Put replies into the cache, and once the note that this judge has some there (`tasks/judges/check.py` looks for it)."""
        if not self._is_marked:
            noted = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
            replies = {**replies, judge_mark(self._server.address, self._settings.model): noted}
        if replies:
            self._cache.put(replies)
            self._is_marked = True

    def _asked(self, messages: Sequence[Mapping[str, str]], how: Mapping[str, Any]) -> Reply:
        """Return the server's reply, asked without the parameters that it refuses."""
        with self._lock:
            if self._settings.budget and self._reserved >= self._settings.budget:
                raise _BudgetSpentError
            self._reserved += 1
        while True:
            payload = {"messages": messages, **_accepted(how, self._without)}
            try:
                return self._server.complete(payload)
            except RefusedError as refusal:
                if refusal.parameter == "logprobs":
                    return Reply("", (), 0, 0)
                if refusal.parameter in self._without:
                    raise RequestError(
                        f"judge.base_url={self._server.address}: the server takes no {refusal.parameter}, with or without it"
                    ) from None
                self._without |= {refusal.parameter}


def _is_sound(kept: Mapping[str, Any]) -> bool:
    """Return whether a reply of the cache can be read; one that was kept before replies were checked is asked for again."""
    try:
        for token, top in kept["positions"]:
            Position(token, top)
    except ValueError:
        return False
    return True


def _accepted(how: Mapping[str, Any], without: frozenset[str]) -> dict[str, Any]:
    """Return the parameters that a server takes; newer ones call the limit max_completion_tokens."""
    kept = {name: value for name, value in how.items() if name not in without}
    if "max_tokens" in without:
        kept["max_completion_tokens"] = how["max_tokens"]
    return kept
