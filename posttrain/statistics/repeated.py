"""What several answers to one question are worth: any of k right, the majority of k, the best of k by a score.

Each is the exact expectation over all subsets of k of the n samples that there are, a question at a time; the mean over questions
is then an estimate without bias, and the questions are its independent draws. n = k has one subset; the nearer k to n, the
more the estimate varies.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posttrain.statistics.clusters import Array


def pass_at(right: ArrayLike, k: int) -> Array:
    """Chance that at least one of k samples is right.

        1 - C(n - c, k) / C(n, k),   c of the n samples right

    Eq. 1 of Chen et al. 2021 (arXiv:2107.03374), in whole numbers, so that no product rounds.

    Args:
        right: whether each sample is right. (questions, n).
        k: samples drawn, 1 to n.

    Returns:
        (questions,), in [0, 1].

    Raises:
        ValueError: `right` has not two axes or holds anything but right and wrong, or k is out of range.
    """
    table = _right_table(right)
    samples = _samples(table, k)
    chances = np.array([(comb(samples, k) - comb(samples - count, k)) / comb(samples, k) for count in range(samples + 1)])
    return np.asarray(chances[table.sum(axis=1)])


def majority_at(answers: Sequence[Sequence[str | None]], right: ArrayLike, k: int) -> Array:
    """Chance that the answer which most of k samples give is right; a tie is broken by chance, so that its answers share it.

    Self-consistency, Wang et al. 2023 (arXiv:2203.11171). All answers that are right are one answer, however they are written,
    and a text is right where it is in any sample. A sample without an answer has no vote; without any vote nothing is right.

    Args:
        answers: what was extracted from each sample, None where nothing was. (questions, n).
        right: whether each sample is right. (questions, n).
        k: samples that vote, 1 to n.

    Returns:
        (questions,), in [0, 1]. Exact for every n: votes are counted, subsets are not listed.

    Raises:
        ValueError: shapes differ, k is out of range, or a sample without an answer is right.
    """
    table = _right_table(right)
    _samples(table, k)
    if len(answers) != len(table) or any(len(row) != table.shape[1] for row in answers):
        raise ValueError(f"answers must have the shape of right, {table.shape}")
    found = []
    for place, (given, is_right) in enumerate(zip(answers, table, strict=True)):
        right_texts = {text for text, yes in zip(given, is_right, strict=True) if yes}
        if None in right_texts:
            raise ValueError(f"question {place} has a right sample without an answer, which cannot vote")
        votes = Counter(given)
        silent = votes.pop(None, 0)
        for_right = sum(votes.pop(text) for text in right_texts)
        found.append(_majority(for_right, tuple(sorted(votes.values())), silent, k))
    return np.array(found, dtype=np.float64)


@lru_cache(maxsize=4096)
def _majority(for_right: int, against: tuple[int, ...], silent: int, k: int) -> float:
    """Return the chance that the right answer wins among k drawn votes, given how many samples gave each answer."""
    won = 0.0
    subsets = comb(for_right + sum(against) + silent, k)
    for votes in range(1, min(for_right, k) + 1):
        # ways[drawn, ties]: draws of the other answers of which none has more votes, and so many have as many
        ways = {(0, 0): 1}
        for count in against:
            more: dict[tuple[int, int], int] = {}
            for (drawn, ties), number in ways.items():
                for own in range(min(count, votes, k - votes - drawn) + 1):
                    state = (drawn + own, ties + (own == votes))
                    more[state] = more.get(state, 0) + number * comb(count, own)
            ways = more
        for (drawn, ties), number in ways.items():
            # the silent samples are the rest
            subsets_won = comb(for_right, votes) * number * comb(silent, k - votes - drawn)
            won += subsets_won / subsets / (1 + ties)
    return min(1.0, won)


def best_of(scores: ArrayLike, right: ArrayLike, k: int) -> Array:
    """Expected worth of the sample with the highest score of k; samples of equal score are chosen equally often.

        Σ_i right_i · (C(≤_i, k) - C(<_i, k)) / (C(n, k) (≤_i - <_i)),   ≤_i samples that score no more than sample i, <_i less

    The estimator of Nakano et al. 2021 (arXiv:2112.09332): the chance that sample i is the best of k, shared by equal scores.

    Args:
        scores: of each sample, any unit; only their order within a question counts. (questions, n).
        right: 1 for a right sample and 0 for a wrong one, or any other worth. (questions, n).
        k: samples that the best is chosen from, 1 to n.

    Returns:
        (questions,), in the unit of `right`.

    Raises:
        ValueError: shapes differ, a number is not finite, or k is out of range.
    """
    ranked, worth = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if ranked.shape != worth.shape or ranked.ndim != 2 or not ranked.size:
        raise ValueError(f"scores and right must have the axes (questions, n), got {ranked.shape} and {worth.shape}")
    if not (np.isfinite(ranked).all() and np.isfinite(worth).all()):
        raise ValueError("every score, and every worth of a sample, must be finite")
    samples = _samples(worth, k)
    # of k samples, the chance that all are among so many
    within = np.array([comb(count, k) / comb(samples, k) for count in range(samples + 1)])
    ordered = np.sort(ranked, axis=1)
    places = [
        (np.searchsorted(row, own, "left"), np.searchsorted(row, own, "right")) for row, own in zip(ordered, ranked, strict=True)
    ]
    below, up_to = (np.array([each[side] for each in places]) for side in (0, 1))
    return np.asarray((worth * (within[up_to] - within[below]) / (up_to - below)).sum(axis=1))


def _right_table(right: ArrayLike) -> NDArray[np.bool_]:
    given = np.asarray(right)
    if given.ndim != 2 or not given.size:
        raise ValueError(f"right must have the axes (questions, n), got shape {given.shape}")
    if not np.isin(given, (0, 1)).all():
        raise ValueError("right must hold right and wrong only, as True and False or 1 and 0")
    return np.asarray(given, dtype=np.bool_)


def _samples(table: NDArray[np.bool_] | Array, k: int) -> int:
    samples = int(table.shape[1])
    if not 1 <= k <= samples:
        raise ValueError(f"k must lie between 1 and the {samples} samples of a question, got {k}")
    return samples
