"""What is known of labels: how far they agree with others, and what annotators look at besides quality.

Labels of one question are not independent draws: every interval here counts questions. A preference decides for the first
response above 0.5, for the second below it, and for neither at 0.5, which counts half to both sides.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from posttrain.feedback.labels import Label, Pair, by_pair, is_equal
from posttrain.statistics.figures import flattened, mean
from posttrain.statistics.intervals import Interval, clustered_mean, clustered_proportion

JUDGE = "judge"
"""`Label.source` of a model's labels."""


def decision(preference: float) -> float:
    """Return 1 where a preference decides for the first response, 0 for the second, 0.5 for neither."""
    return 0.5 if is_equal(preference) else float(preference > 0.5)


def agreement_with_gold(labels: Sequence[Label]) -> Interval | None:
    """Share of labels that decide as gold does, among those where gold decides; None where fewer than two questions have any."""
    return share_with_gold([(label.question, label.preference, label.gold) for label in labels if label.gold is not None])


def share_with_gold(decisions: Sequence[tuple[str, float, float]]) -> Interval | None:
    """Return the same of decisions of any kind: (question, preference, gold), each preference for the first of two."""
    decided = [(question, _agree(preference, gold)) for question, preference, gold in decisions if not is_equal(gold)]
    return _share([hit for _, hit in decided], [question for question, _ in decided])


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
        pair: (mean([preference for _, preference in given]), given[0][0].question) for pair, given in by_pair(labels).items()
    }


def _agree(preference: float, other: float) -> float:
    mine, yours = decision(preference), decision(other)
    return 0.5 if 0.5 in (mine, yours) else float(mine == yours)


def _share(hits: Sequence[float], questions: Sequence[str]) -> Interval | None:
    return clustered_proportion(hits, questions) if len(set(questions)) > 1 else None


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
    """How far annotators who saw each pair in one order lean to the response shown first (position bias, arXiv:2306.05685).

    A judge's labels are left out: it is asked in both orders, or about one response at a time, so that its labels lean to
    neither by construction; its bias is measured before they are averaged (`posttrain.judges.quality`). None where there are
    fewer than two questions.
    """
    return _lean([label for label in labels if label.source != JUDGE], lambda label: 1)


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
        return Lean(share=clustered_proportion(decided, questions), gold=None, beyond_gold=None, labels=len(seen))
    beyond = clustered_mean([mine - true for mine, true in zip(decided, gold, strict=True)], questions)
    return Lean(share=clustered_proportion(decided, questions), gold=mean(gold), beyond_gold=beyond, labels=len(seen))


def _towards(preference: float, side: int) -> float:
    return decision(preference) if side > 0 else 1 - decision(preference)


def label_figures(labels: Sequence[Label], *, model: str = "", length: Callable[[str], int] = len) -> dict[str, float]:
    """Return every figure of a set of labels by name, each interval as `name`, `name_low` and `name_high`; undefined is left out.

    Args:
        labels: of one source.
        model: URI of the judge's own model; empty where the annotators are people.
        length: of a text.
    """
    others = [label for label in labels if label.source != JUDGE]  # a judge's share is among the figures of its stage
    found: dict[str, Interval | float | None] = {"agreement_gold": agreement_with_gold(others)}
    leans: Mapping[str, Lean | None] = {
        "first": position_lean(labels),
        "longer": length_lean(labels, length=length),
        "longer_of_equals": length_lean_among_equals(labels, length=length),
        "own": own_lean(labels, model=model),
    }
    for name, lean in leans.items():
        if lean:
            found |= {name: lean.share, f"{name}_gold": lean.gold, f"{name}_beyond_gold": lean.beyond_gold}
    return {"labels": float(len(labels)), **flattened(found)}
