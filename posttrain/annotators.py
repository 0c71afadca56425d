"""Simulated annotators and the gold judge. Everything here is simulated, and is called so wherever it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Literal

from posttrain.labels import drawn_evenly


@dataclass(frozen=True, order=True)
class Quality:
    """How good a response is, worst first: wrong, then right; among equals unfinished, then finished."""

    is_right: bool
    is_finished: bool


def gold_preference(first: Quality, second: Quality) -> float:
    """Return 1 where the first response is better, 0 where the second is, 0.5 where they are equally good. Noise-free."""
    if first == second:
        return 0.5
    return 1.0 if first > second else 0.0


@dataclass(frozen=True)
class Candidate:
    """A sampled response with the quality that only simulated annotators know."""

    text: str
    quality: Quality


@dataclass(frozen=True)
class Choice:
    """A label: which text was chosen over which, by whom, and whether it was flipped by the annotator's noise."""

    chosen: str
    rejected: str
    annotator: str
    is_flipped: bool


def annotator_noise(*, annotators: int, flip_rate: float, seed: int) -> tuple[float, ...]:
    """Return each simulated annotator's own share of flipped labels: around the mean, at most half of it away."""
    random = Random(f"{seed}/annotators")
    spread = min(flip_rate, 1 - 2 * flip_rate) / 2
    return tuple(flip_rate + random.uniform(-spread, spread) for _ in range(annotators))


def informative_pairs(
    candidates: Sequence[Candidate], *, most: int, ties: Literal["drop", "shorter"], random: Random
) -> list[tuple[Candidate, Candidate]]:
    """Return up to `most` (better, worse) pairs of distinct texts, drawn at random, each text used as evenly as possible.

    Args:
        candidates: the responses to one prompt.
        most: pairs, at most.
        ties: `drop` leaves pairs of equal quality out; `shorter` prefers the shorter of them.
        random: where the draw comes from.
    """
    distinct = list({candidate.text: candidate for candidate in candidates}.values())
    pairs = [pair for pair in (_ordered(a, b, ties) for a, b in combinations(distinct, 2)) if pair]
    return drawn_evenly(pairs, most=most, random=random)


def _ordered(a: Candidate, b: Candidate, ties: Literal["drop", "shorter"]) -> tuple[Candidate, Candidate] | None:
    preference = gold_preference(a.quality, b.quality)
    if preference == 0.5:
        if ties == "drop" or len(a.text) == len(b.text):
            return None
        preference = 1.0 if len(a.text) < len(b.text) else 0.0
    return (a, b) if preference == 1.0 else (b, a)


def is_flipped(annotator: int, *, noise: Sequence[float], random: Random) -> bool:
    """Return whether a simulated annotator gets this label wrong: with its own chance, `noise[annotator]`."""
    return random.random() < noise[annotator]


def label(pair: tuple[Candidate, Candidate], *, annotator: int, noise: Sequence[float], random: Random) -> Choice:
    """Return the label that one simulated annotator gives a (better, worse) pair: flipped with its own chance."""
    better, worse = pair
    is_wrong = is_flipped(annotator, noise=noise, random=random)
    chosen, rejected = (worse, better) if is_wrong else (better, worse)
    return Choice(chosen=chosen.text, rejected=rejected.text, annotator=f"simulated-{annotator}", is_flipped=is_wrong)
