"""AI judges, without anything that talks to one: what is asked, how an answer is read, and what becomes of it.

A judge is asked in two forms. Pairwise: which of two responses is better, in both orders, which are averaged. Pointwise: how
good one response is, 1 to 10 by expected value; two responses are compared afterwards. Both read the probabilities of a few
options, never a number that the judge writes down (arXiv:2309.00267). docs/judges.md shows the files that templates are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from posttrain.judges.templates import Template
from posttrain.judges.words import option_in
from posttrain.prompts import transcript
from posttrain.records import Prompt

LOWEST, HIGHEST = 1.0, 10.0
"""The scale of pointwise scores (arXiv:2309.00267, section 2.2)."""


@dataclass(frozen=True)
class Inquiry:
    """One question to a judge.

    Attributes:
        system: instructions that a chat puts first; empty where there are none.
        question: the text, with everything that is to be judged in it.
        think: asks for reasoning before the answer; empty: the judge answers at once.
        ending: stands right before the answer.
        options: the possible answers, as they would follow the ending.
        is_chat: whether a local model is asked through its chat template.
    """

    system: str
    question: str
    think: str
    ending: str
    options: tuple[str, ...]
    is_chat: bool = False


@dataclass(frozen=True)
class Opinion:
    """What a judge said.

    Attributes:
        shares: probability of each option, together 1; None where nothing it said is an option.
        mass: probability that it said an option at all, of which `shares` are the parts; 0 to 1.
        counted: answers that were counted; 0 where the judge told its probabilities.
        reasoning: what it thought aloud.
        at: when it said so, ISO 8601 in UTC; empty where that is not known.
    """

    shares: tuple[float, ...] | None
    mass: float = 1.0
    counted: int = 0
    reasoning: str = ""
    at: str = ""

    @property
    def entropy(self) -> float:
        """Of the shares, nats; 0 where there are none."""
        return -sum(share * math.log(share) for share in self.shares or () if share > 0)


@dataclass(frozen=True)
class Usage:
    """What a judge has cost so far.

    Attributes:
        asked: replies that were asked for.
        cached: replies that were known already.
        prompt_tokens: read by the judge.
        completion_tokens: written by the judge.
    """

    asked: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, other: "Usage") -> "Usage":
        """Return the sum."""
        return Usage(
            asked=self.asked + other.asked,
            cached=self.cached + other.cached,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )

    def since(self, before: "Usage") -> "Usage":
        """Return what has come since."""
        return Usage(
            asked=self.asked - before.asked,
            cached=self.cached - before.cached,
            prompt_tokens=self.prompt_tokens - before.prompt_tokens,
            completion_tokens=self.completion_tokens - before.completion_tokens,
        )

    def price(self, *, prompt: float, completion: float) -> float:
        """Return what the tokens cost, from the prices of a million each."""
        return (self.prompt_tokens * prompt + self.completion_tokens * completion) / 1e6


# --- what is asked ------------------------------------------------------------------------------------------------------


def shown(prompt: Prompt) -> str:
    """Return a prompt as a judge reads it: text as it is, messages as a transcript."""
    return prompt.rstrip() if isinstance(prompt, str) else transcript(prompt).removesuffix("\n\nAssistant:").strip()


def inquiry(template: Template, *, reasoning: bool, **texts: str) -> Inquiry:
    """Return a mode's question with the texts in their places; braces within a text are text."""
    return Inquiry(
        system=template.system,
        question=template.rendered(**texts),
        think=template.think if reasoning else "",
        ending=template.ending,
        options=tuple(template.options),
        is_chat=template.is_chat,
    )


# --- how an answer is read ----------------------------------------------------------------------------------------------


def softmax(logprobs: Sequence[float]) -> tuple[float, ...]:
    """Return the probabilities of options among themselves, from their log-probabilities in nats."""
    highest = max(logprobs)
    weights = [math.exp(logprob - highest) for logprob in logprobs]
    return tuple(weight / sum(weights) for weight in weights)


def from_logprobs(logprobs: Sequence[float]) -> Opinion:
    """Return the opinion that options' log-probabilities (nats) are.

        share_i = p_i / Σ_j p_j,   mass = Σ_j p_j

    The soft label of section 2.1 of arXiv:2309.00267.
    """
    return Opinion(shares=softmax(logprobs), mass=min(1.0, sum(math.exp(logprob) for logprob in logprobs)))


def from_counts(replies: Sequence[str], options: Sequence[str]) -> Opinion:
    """Return the opinion that sampled replies are: the share of each option among those that are one."""
    read = [index for index in (option_in(reply, options) for reply in replies) if index is not None]
    if not read:
        return Opinion(shares=None, mass=0.0, counted=len(replies))
    shares = tuple(read.count(index) / len(read) for index in range(len(options)))
    return Opinion(shares=shares, mass=len(read) / len(replies), counted=len(replies))


def _bare(text: str) -> str:
    return text.strip().strip("*_`\"'([{<#").strip().casefold()


@dataclass(frozen=True)
class Position:
    """One place in a server's reply: the token that it wrote, and the likeliest ones with their log-probabilities, nats.

    Raises:
        ValueError: a log-probability is above 0, or not finite.
    """

    token: str
    top: Mapping[str, float]

    def __post_init__(self) -> None:
        """Refuse what no probability has: math.exp would make a weight of it that outweighs all others, or NaN."""
        for token, logprob in self.top.items():
            if not -math.inf < logprob <= 0:
                raise ValueError(f"the log-probability of {token!r} must be finite and at most 0, got {logprob}")


def from_positions(positions: Sequence[Position], options: Sequence[str]) -> Opinion:
    """Return the opinion that the likeliest tokens at the beginning of a reply are.

    An option may be several tokens, of which one is another option's: 1 and 10. The tokens behind are known only along the
    reply that was written, so elsewhere such a token counts as the shorter option where it is one, else as none.
    """
    bare = [_bare(option) for option in options]
    masses = [0.0] * len(options)
    _add(masses, bare, positions, written="", weight=1.0)
    total = sum(masses)
    if not total > 0:
        return Opinion(shares=None, mass=0.0)
    return Opinion(shares=tuple(mass / total for mass in masses), mass=min(1.0, total))


def _add(masses: list[float], options: Sequence[str], positions: Sequence[Position], *, written: str, weight: float) -> None:
    here = positions[0]
    for token, logprob in {here.token: -math.inf, **here.top}.items():
        text = _bare(written + token)
        share = weight * math.exp(logprob)
        leads_on = [option for option in options if option.startswith(text) and option != text]
        if leads_on and token == here.token and len(positions) > 1:
            _add(masses, options, positions[1:], written=written + token, weight=share)
        elif text in options:
            masses[options.index(text)] += share
        elif written and (index := _ended(written, token, options)) is not None:
            masses[index] += share


def _ended(written: str, token: str, options: Sequence[str]) -> int | None:
    """Return the option that was written before a token which does not go on with it: 1 before ".", not 1 before "5" or ".5"."""
    said, behind = _bare(written), token[:1]
    goes_on = behind.isalnum() or (said[-1:].isdigit() and behind in (".", ",") and token[1:2].isdigit())
    return options.index(said) if said in options and not goes_on else None


# --- what becomes of it -------------------------------------------------------------------------------------------------


def both_orders(forward: float, backward: float) -> float:
    """Return the soft label of a pair that was shown in both orders.

        p = (P(first | first, second) + 1 - P(second | second, first)) / 2

    The order shown then cannot decide: with the pair the other way round it is 1 - p. Section 2.1 of arXiv:2309.00267.

    Args:
        forward: probability of what stands in the first place, the pair as it is.
        backward: probability of what stands in the first place, the pair the other way round.
    """
    return (forward + 1 - backward) / 2


def win_in_both_orders(forward: float, backward: float) -> float:
    """Return what the first response of a pair wins: 1 if it is preferred in both orders, 0 if it is in neither, else half.

    A verdict that changes with the order is a tie, as in section 3.4 of arXiv:2306.05685; so is one of 0.5, by half in its order.
    Arguments as `both_orders`.
    """
    return (_verdict(forward) + 1 - _verdict(backward)) / 2


def _verdict(share: float) -> float:
    return 0.5 if share == 0.5 else float(share > 0.5)


def is_flip(forward: float, backward: float) -> bool:
    """Return whether the same place wins in both orders, so that the winner is another; arguments as `both_orders`."""
    return (forward - 0.5) * (backward - 0.5) > 0


def expected(shares: Sequence[float], scores: Sequence[float]) -> float:
    """Return Σ i·P(i), the score of a pointwise opinion; section 2.2 of arXiv:2309.00267."""
    return sum(share * score for share, score in zip(shares, scores, strict=True))


def rescaled(score: float) -> float:
    """Return a score of 1 to 10 on the scale from -1 to 1."""
    return (2 * score - LOWEST - HIGHEST) / (HIGHEST - LOWEST)


def beats(first: Sequence[float], second: Sequence[float], scores: Sequence[float]) -> float:
    """Return the soft label of a pair from two pointwise opinions, as of two scores drawn independently.

        p = P(i > j) + P(i = j) / 2

    Args:
        first: probability of each option for the first response.
        second: likewise for the second.
        scores: what each option is worth.
    """
    return sum(
        p * q * (1.0 if i > j else 0.5 if i == j else 0.0)
        for p, i in zip(first, scores, strict=True)
        for q, j in zip(second, scores, strict=True)
    )
