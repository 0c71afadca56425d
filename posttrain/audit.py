"""What labels are worth: agreement, what annotators look at besides quality, and what a wrong label costs.

Labels of one question are not independent draws: every interval here counts questions. A preference decides for the first
response above 0.5, for the second below it, and for neither at 0.5, which counts half to both sides.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.stats import norm

from posttrain.clusters import clustered_difference, clustered_share
from posttrain.labels import Label, Pair, by_pair, is_equal
from posttrain.statistics import Interval


def decision(preference: float) -> float:
    """Return 1 where a preference decides for the first response, 0 for the second, 0.5 for neither."""
    return 0.5 if is_equal(preference) else float(preference > 0.5)


def agreement_with_gold(labels: Sequence[Label]) -> Interval | None:
    """Share of labels that decide as gold does, among those where gold decides; None where fewer than two questions have any."""
    judged = [(label, label.gold) for label in labels if label.gold is not None and not is_equal(label.gold)]
    return _share([_agree(label.preference, gold) for label, gold in judged], [label.question for label, _ in judged])


def agreement_between(labels: Sequence[Label], others: Sequence[Label]) -> Interval | None:
    """Share of pairs on which two sets of labels decide alike; None where fewer than two questions have a pair in both.

    A pair is one whatever the order it was shown in; several labels of a pair within a set are averaged first.
    """
    ours, theirs = _means(labels), _means(others)
    pairs = [pair for pair in ours if pair in theirs]
    return _share([_agree(ours[pair][0], theirs[pair][0]) for pair in pairs], [ours[pair][1] for pair in pairs])


def _means(labels: Sequence[Label]) -> dict[Pair, tuple[float, str]]:
    """Return each pair's mean preference for the one that stands first whatever was shown, and its question."""
    return {
        pair: (_mean([preference for _, preference in given]), given[0][0].question) for pair, given in by_pair(labels).items()
    }


def _agree(preference: float, other: float) -> float:
    mine, yours = decision(preference), decision(other)
    return 0.5 if 0.5 in (mine, yours) else float(mine == yours)


def _share(hits: Sequence[float], questions: Sequence[str]) -> Interval | None:
    return clustered_share(hits, questions) if len(set(questions)) > 1 else None


@dataclass(frozen=True)
class Lean:
    """How far labels lean to one side of a pair (the first shown, the longer, the annotator's own), and how far gold does.

    Attributes:
        share: of labels that decide for that side, 0.5 without any lean.
        gold: share of the same labels where gold decides for it; None where gold is not known for all of them.
        beyond_gold: mean of the label's decision minus gold's: the lean that quality does not explain; None as `gold`.
        labels: how many could show a lean.
    """

    share: Interval
    gold: float | None
    beyond_gold: Interval | None
    labels: int


def position_lean(labels: Sequence[Label]) -> Lean | None:
    """How far labels lean to the response shown first, from labels as they were given (position bias, arXiv:2306.05685).

    A judge's labels that average both orders lean to neither by construction: its bias is measured before averaging, where it
    is asked. None where there are fewer than two questions.
    """
    return _lean(labels, lambda label: 1)


def length_lean(labels: Sequence[Label], *, length: Callable[[str], int] = len) -> Lean | None:
    """How far labels lean to the longer response, among pairs that differ in length (arXiv:2310.03716); None as above.

    Gold's own lean stands beside it: where longer responses are better, a fair annotator prefers them.

    Args:
        labels: of any source.
        length: of a text, in any unit; characters unless told.
    """
    return _lean(labels, lambda label: int(np.sign(length(label.first) - length(label.second))))


def length_lean_among_equals(labels: Sequence[Label], *, length: Callable[[str], int] = len) -> Lean | None:
    """The same among pairs that gold calls equally good, where length alone can decide; None where there are too few."""
    return length_lean([label for label in labels if label.gold is not None and is_equal(label.gold)], length=length)


def own_lean(labels: Sequence[Label], *, model: str) -> Lean | None:
    """How far a judge leans to its own model's responses (self-preference, arXiv:2404.13076).

    Measured where the two responses come from different models and one of them is the judge's; None where fewer than two
    questions have such a pair, as where all samples come from one model.

    Args:
        labels: of one judge.
        model: URI of the judge's model, as the labels have it.
    """

    def side(label: Label) -> int:
        return (label.first_model == model) - (label.second_model == model)

    return _lean(labels, side) if model else None


def _lean(labels: Sequence[Label], side: Callable[[Label], int]) -> Lean | None:
    """`side` is 1 where the first response is the side looked at, -1 where the second is, 0 where neither."""
    seen = [(label, towards) for label in labels if (towards := side(label))]
    questions = [label.question for label, _ in seen]
    if len(set(questions)) < 2:
        return None
    decided = [_towards(label.preference, towards) for label, towards in seen]
    gold = [_towards(label.gold, towards) for label, towards in seen if label.gold is not None]
    if len(gold) < len(seen):
        return Lean(share=clustered_share(decided, questions), gold=None, beyond_gold=None, labels=len(seen))
    beyond = clustered_difference([mine - true for mine, true in zip(decided, gold, strict=True)], questions)
    return Lean(share=clustered_share(decided, questions), gold=_mean(gold), beyond_gold=beyond, labels=len(seen))


def _towards(preference: float, side: int) -> float:
    return decision(preference) if side > 0 else 1 - decision(preference)


def length_correlation(labels: Sequence[Label], *, length: Callable[[str], int] = len) -> tuple[float | None, float | None]:
    """Correlation of preference and length difference: the labels', and gold's own on the same pairs.

        Σ (p - ½) d / √(Σ (p - ½)² Σ d²)

    About ½ and 0 rather than the means, since which response is called first is chance. None where preferences or lengths do
    not differ; gold's also where it is not known for all.
    """
    differences = [float(length(label.first) - length(label.second)) for label in labels]
    gold = [label.gold for label in labels if label.gold is not None]
    mine = _correlation([label.preference for label in labels], differences)
    return mine, _correlation(gold, differences) if len(gold) == len(labels) else None


def _correlation(preferences: Sequence[float], differences: Sequence[float]) -> float | None:
    leaning, gap = np.asarray(preferences, dtype=np.float64) - 0.5, np.asarray(differences, dtype=np.float64)
    spread = sqrt(float(leaning @ leaning) * float(gap @ gap))
    return float(leaning @ gap) / spread if spread > 0 else None


@dataclass(frozen=True)
class FlipCost:
    """What flipped labels cost a reward model, in points of accuracy for each point of labels that are flipped.

    Attributes:
        flipped: r, share of the labels that gold contradicts.
        accuracy: a', on held-out pairs against their labels.
        accuracy_gold: a, on the same pairs against gold.
        hidden_expected: 2a - 1: accuracy that a point of flipped labels hides from whoever measures against labels, if the
            model's errors have nothing to do with the annotators'.
        hidden: (a - a') / r as measured; below the expected where the model has learnt the annotators' errors; None where r = 0.
        label_worth: (1 - 2r)²: what one such label is worth, in labels without flips.
        lost_at_most: gold accuracy that a point of flipped labels among those learnt from costs, if nothing but labels limits
            the model; None from r = 0.5 on.
    """

    flipped: float
    accuracy: float
    accuracy_gold: float
    hidden_expected: float
    hidden: float | None
    label_worth: float
    lost_at_most: float | None


def flip_cost(*, accuracy: float, accuracy_gold: float, flipped: float) -> FlipCost:
    """Return what a flip costs, from one reward model's accuracy against labels and against gold.

        a' = (1 - r) a + r (1 - a) = a - r (2a - 1)                        measuring
        a(r) = Φ((1 - 2r) κ),   -da/dr = 2 κ φ((1 - 2r) κ),   κ = Φ⁻¹(a) / (1 - 2r)      learning

    Measuring: the 0-1 risk under symmetric noise (arXiv:1109.5231), exact where errors and flips are independent. Learning: the
    mean of a label is (1 - 2r) times that of a clean one, so the signal in a score learnt from n labels shrinks by 1 - 2r, while
    its noise, that of n coin-like labels, hardly depends on r; a pair is ranked right with probability Φ(signal / noise). That is
    also why n labels are worth (1 - 2r)² n clean ones, as in the bounds of arXiv:2403.00409. A model limited by its size or
    its inputs loses less, hence "at most"; what it truly loses takes runs at several flip rates.

    Args:
        accuracy: a', in [0, 1].
        accuracy_gold: a, in [0, 1].
        flipped: r, in [0, 1].

    Raises:
        ValueError: one of them lies outside [0, 1].
    """
    for name, value in (("accuracy", accuracy), ("accuracy_gold", accuracy_gold), ("flipped", flipped)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {value:g}")
    signal = float(norm.ppf(min(max(accuracy_gold, 0.5), 1 - 1e-6)))  # below chance there is nothing to lose
    lost = 2 * signal * float(norm.pdf(signal)) / (1 - 2 * flipped) if flipped < 0.5 else None
    return FlipCost(
        flipped=flipped,
        accuracy=accuracy,
        accuracy_gold=accuracy_gold,
        hidden_expected=2 * accuracy_gold - 1,
        hidden=(accuracy_gold - accuracy) / flipped if flipped else None,
        label_worth=(1 - 2 * flipped) ** 2,
        lost_at_most=lost,
    )


def flip_cost_of(differences: Sequence[float], preferences: Sequence[float], gold: Sequence[float]) -> FlipCost | None:
    """Return what a flip costs, counted on held-out pairs whose label and gold both decide; None where there is no such pair.

    Args:
        differences: of the reward model's scores, first response less second; equal scores count half. (pairs,).
        preferences: what the labels say. (pairs,).
        gold: what a noise-free judge says. (pairs,).
    """
    pairs = [row for row in zip(differences, preferences, gold, strict=True) if not is_equal(row[1]) and not is_equal(row[2])]
    if not pairs:
        return None
    scored = [0.5 if difference == 0 else float(difference > 0) for difference, _, _ in pairs]
    return flip_cost(
        accuracy=_mean([_agree(score, label) for score, (_, label, _) in zip(scored, pairs, strict=True)]),
        accuracy_gold=_mean([_agree(score, true) for score, (_, _, true) in zip(scored, pairs, strict=True)]),
        flipped=1 - _mean([_agree(label, true) for _, label, true in pairs]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def label_figures(labels: Sequence[Label], *, model: str = "", length: Callable[[str], int] = len) -> dict[str, float]:
    """Return every figure of a set of labels by name, each interval as `name`, `name_low` and `name_high`; undefined is left out.

    Args:
        labels: of one source.
        model: URI of the judge's own model; empty where the annotators are people.
        length: of a text.
    """
    found: dict[str, Interval | float | None] = {"agreement_gold": agreement_with_gold(labels)}
    leans: Mapping[str, Lean | None] = {
        "first": position_lean(labels),
        "longer": length_lean(labels, length=length),
        "longer_of_equals": length_lean_among_equals(labels, length=length),
        "own": own_lean(labels, model=model),
    }
    for name, lean in leans.items():
        if lean:
            found |= {name: lean.share, f"{name}_gold": lean.gold, f"{name}_beyond_gold": lean.beyond_gold}
    correlated = length_correlation(labels, length=length)
    found |= {"length_correlation": correlated[0], "length_correlation_gold": correlated[1]}
    return {"labels": float(len(labels)), **flattened(found)}


def flattened(figures: Mapping[str, Interval | float | None]) -> dict[str, float]:
    """Return figures as metrics: an interval becomes `name`, `name_low` and `name_high`, what is None is left out."""
    flat: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, Interval):
            flat |= {name: value.estimate, f"{name}_low": value.low, f"{name}_high": value.high}
        elif value is not None:
            flat[name] = value
    return flat
