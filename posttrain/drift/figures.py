"""In what prompts differ: their lengths, scripts and words. Shown beside the test, which alone decides."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log, sqrt

import numpy as np
from numpy.typing import ArrayLike

QUANTILES = (5, 25, 50, 75, 95)
"""Per cent of the prompts that are shorter than the length that is told."""
BINS = 10
"""Of lengths for the population stability index: deciles of the training prompts, as is usual for it."""
NO_LETTERS = "no letters"
TOLD = 3.0
"""Standard errors from which a word is told: of a thousand words, about one is beyond by chance on either side."""
FEWEST = 5
"""Prompts of both samples together that a word stands in, at least."""
_WORD = re.compile(r"\w+")
_CALLED = {"Cjk": "Han", "Fullwidth": "Latin", "Halfwidth": "Katakana"}


@dataclass(frozen=True)
class Word:
    """A word that stands in more prompts of one sample than of the other.

    Attributes:
        word: in small letters.
        training, new: share of the prompts that it stands in.
        z: its log odds ratio in standard errors; positive: more in new prompts.
    """

    word: str
    training: float
    new: float
    z: float


def length_quantiles(texts: Sequence[str]) -> dict[str, float]:
    """Return characters of texts by quantile: {"5": …, "25": …, "50": …, "75": …, "95": …}."""
    lengths = [len(text) for text in texts]
    values = np.quantile(lengths, [share / 100 for share in QUANTILES])
    return {str(share): float(value) for share, value in zip(QUANTILES, values, strict=True)}


def length_bins(training: Sequence[str], texts: Sequence[str]) -> list[int]:
    """Return how many texts lie in each decile of the training texts' lengths; equal deciles are one bin."""
    # rounded: 11 must not become 10.999999999999998, which a prompt of 11 characters lies beyond
    edges = np.unique(np.round(np.quantile([len(text) for text in training], np.arange(1, BINS) / BINS), 6))
    places = np.searchsorted(edges, [len(text) for text in texts], side="left")
    return [int(count) for count in np.bincount(places, minlength=len(edges) + 1)]


def stability_index(expected: ArrayLike, actual: ArrayLike) -> float:
    """Return the population stability index of counts in bins.

        PSI = Σ (a - e) ln(a / e),   e and a the shares of a bin among expected and actual, half a count added to each bin

    Siddiqi (2006, Credit Risk Scorecards). By usage 0.1 is called little and 0.25 much, whatever the number of
    prompts; `index_by_chance` says what so many prompts give by chance.

    Raises:
        ValueError: the bins differ, or a sample is empty.
    """
    e, a = np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    if e.shape != a.shape or not e.sum() or not a.sum():
        raise ValueError(f"two samples that are not empty need the same bins, got {e.tolist()} and {a.tolist()}")
    e, a = (e + 0.5) / (e.sum() + 0.5 * len(e)), (a + 0.5) / (a.sum() + 0.5 * len(a))
    return float(((a - e) * np.log(a / e)).sum())


def index_by_chance(bins: int, expected: int, actual: int) -> float:
    """Return the mean of the index where two samples of so many are alike: (bins - 1) (1 / expected + 1 / actual).

    It is about (1 / expected + 1 / actual) times a χ² of bins - 1 degrees (Yurdakul 2018, Statistical Properties of Population
    Stability Index).
    """
    return (bins - 1) * (1 / expected + 1 / actual)


@lru_cache(maxsize=65_536)
def script_of(character: str) -> str:
    """Return the script of a letter ("Latin", "Cyrillic", "Han"): the first word of its Unicode name; "" for no letter."""
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "").partition(" ")[0].title()
    return _CALLED.get(name, name)


def main_script(text: str) -> str:
    """Return the script of most letters of a text, the first one in the alphabet of several."""
    counts = Counter(script for character in text if (script := script_of(character)))
    return min(counts, key=lambda script: (-counts[script], script), default=NO_LETTERS)


def script_counts(texts: Sequence[str]) -> dict[str, int]:
    """Return how many texts are of each main script, the most frequent one first."""
    counts = Counter(map(main_script, texts))
    return {script: counts[script] for script in sorted(counts, key=lambda one: (-counts[one], one))}


def words_in(text: str) -> list[str]:
    """Return the words of a text in small letters, as often as they stand there."""
    return _WORD.findall(text.casefold())


def unseen_share(training: Sequence[str], texts: Sequence[str]) -> float:
    """Return the share of the words of texts, as often as they stand there, that no training text has; 0 without words."""
    known = {word for text in training for word in words_in(text)}
    words = [word for text in texts for word in words_in(text)]
    return sum(word not in known for word in words) / len(words) if words else 0.0


def telling_words(training: Sequence[str], new: Sequence[str], *, most: int) -> list[Word]:
    """Return the words that tell samples apart: at most `most` that new prompts have more often, and as many that they have less.

        z = [ln (a / b) - ln (c / d)] / √(1/a + 1/b + 1/c + 1/d)

    a and c are the prompts of new and training with the word, b and d those without, half a prompt added to each (Gart and
    Zweifel 1967, Biometrika 54). No z counts for a test here: thousands of words are looked at.
    """
    in_training, in_new = (Counter(word for text in texts for word in set(words_in(text))) for texts in (training, new))
    found = []
    for word in in_training.keys() | in_new.keys():
        of_training, of_new = in_training[word], in_new[word]
        if of_training + of_new < FEWEST:
            continue
        z = _log_odds(of_new, len(new), of_training, len(training))
        if abs(z) >= TOLD:
            found.append(Word(word, of_training / len(training), of_new / len(new), z))
    found.sort(key=lambda one: (-abs(one.z), one.word))
    more, less = ([one for one in found if (one.z > 0) is is_more][:most] for is_more in (True, False))
    return more + less


def _log_odds(one: int, ones: int, other: int, others: int) -> float:
    a, b, c, d = one + 0.5, ones - one + 0.5, other + 0.5, others - other + 0.5
    return (log(a / b) - log(c / d)) / sqrt(1 / a + 1 / b + 1 / c + 1 / d)


def describe(training: Sequence[str], samples: Mapping[str, Sequence[str]]) -> dict[str, dict[str, object]]:
    """Return length, scripts and unseen words of each sample against the training prompts, with their stability indices.

    Args:
        training: texts.
        samples: other texts by name; none may be empty.
    """
    scripts = script_counts(training)
    told: dict[str, dict[str, object]] = {"training": {"length": length_quantiles(training), "scripts": scripts}}
    for name, texts in samples.items():
        lengths, own = length_bins(training, texts), script_counts(texts)
        known = [*scripts, *(script for script in own if script not in scripts)]
        told[name] = {
            "length": length_quantiles(texts),
            "length_psi": stability_index(length_bins(training, training), lengths),
            "length_psi_by_chance": index_by_chance(len(lengths), len(training), len(texts)),
            "scripts": own,
            "script_psi": stability_index([scripts.get(one, 0) for one in known], [own.get(one, 0) for one in known]),
            "script_psi_by_chance": index_by_chance(len(known), len(training), len(texts)),
            "unseen_words": unseen_share(training, texts),
        }
    return told
