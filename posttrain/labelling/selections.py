"""Which candidates people are shown: rules as rows, each a score of what is known of a candidate, and one choice for all rules.

A part of every batch is drawn at random whatever the rule, before the rule chooses: what a rule chooses is no fair sample of the
candidates, so agreement and accuracy must be estimated on that part (Farquhar, Gal & Rainforth 2021, arXiv:2101.11665). Which
item was chosen how stays with it (`selection`), down to its labels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from random import Random
from typing import Generic, TypeVar

from posttrain.errors import RequestError
from posttrain.statistics.figures import mean

T = TypeVar("T")
RANDOM, UNSCORED = "random", "unscored"
"""How a candidate was chosen by no rule: as part of a fair sample, or for want of candidates that the rule can score."""
REWARD_MODEL, ENSEMBLE, JUDGE = "reward_model", "ensemble", "judge"
"""What a rule may need: a reward model, one of several members, a judge."""


@dataclass(frozen=True)
class Opinions:
    """What is known of one candidate before anybody is asked; "first" is the first of its responses.

    Attributes:
        rewards: of each member of a reward model, the score of each response. (members, responses).
        judge: the judge's probability that the first is better; None where it was not asked. Of pairs alone.
        people: that which people's labels of this pair give, their mean; None where nobody has labelled it.
    """

    rewards: tuple[tuple[float, ...], ...] = ()
    judge: float | None = None
    people: float | None = None


@dataclass(frozen=True)
class Selection:
    """A rule.

    Attributes:
        name: as `labelling.selection` has it.
        does: what it shows, in words.
        score: how much a candidate is wanted, None where what it takes is not known; None for a rule that draws at random.
        needs: what must be there: `REWARD_MODEL`, `ENSEMBLE`, `JUDGE`.
        kinds: of labelling that it can choose for; of a rating it is given the responses to one question together.
        source: where the rule is from.
    """

    name: str
    does: str
    score: Callable[[Opinions], float | None] | None = None
    needs: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("pair", "ranking", "rating")
    source: str = ""


@dataclass(frozen=True)
class Chosen(Generic[T]):
    """A candidate that is shown, and how it was chosen: `RANDOM`, the name of the rule, or `UNSCORED`."""

    candidate: T
    selection: str


# --- the rules --------------------------------------------------------------------------------------------------------


def uncertainty(opinions: Opinions) -> float | None:
    """Return how unsure a reward model is which of two responses is better; of more, the mean over their pairs.

        s = 1/2 - |p - 1/2|,   p = sigmoid(r_1 - r_2)

    Uncertainty sampling, Lewis & Gale 1994 (arXiv:cmp-lg/9407020): ask where the probability is nearest to 1/2. p is that of
    Bradley and Terry (eq. 1 of arXiv:1706.03741), r the mean of the members' scores.

    Returns:
        s in [0, 1/2]; None without a reward model, or for fewer than two responses.
    """
    scores = [mean(column) for column in zip(*opinions.rewards, strict=True)]
    chances = _chances(scores)
    return mean([0.5 - abs(chance - 0.5) for chance in chances]) if chances else None


def spread(opinions: Opinions) -> float | None:
    """Return how much the members of a reward model differ about the candidate.

        s = mean over members m of (p_m - p)²,   p_m = sigmoid(r_m1 - r_m2),   p = mean of p_m

    Christiano et al. 2017 (arXiv:1706.03741, section 2.2.4): ask where "the predictions have the highest variance across ensemble
    members"; it calls that a crude approximation, which in some of its tasks was worse than random choice (section 3.3). Of more
    than two responses it is the mean over their pairs.

    Returns:
        s in [0, 1/4]; None for fewer than two members, or fewer than two responses.
    """
    predicted = [_chances(scores) for scores in opinions.rewards]
    if len(predicted) < 2 or not predicted[0]:
        return None
    return mean([_variance(column) for column in zip(*predicted, strict=True)])


def disagreement(opinions: Opinions) -> float | None:
    """Return how far the judge is from what people said of the pair, or, where nobody did, from the reward model.

        s = |p_judge - p|

    Query by committee, Seung, Opper & Sompolinsky 1992 (doi:10.1145/130385.130417), with a committee of two: ask where they
    differ most. p is the mean of people's labels, else sigmoid(r_1 - r_2).

    Returns:
        s in [0, 1]; None without a judge's opinion, or without anybody else's.
    """
    chances = _chances([mean(column) for column in zip(*opinions.rewards, strict=True)])
    other = opinions.people if opinions.people is not None else chances[0] if len(chances) == 1 else None
    return None if opinions.judge is None or other is None else abs(opinions.judge - other)


def _chances(scores: Sequence[float]) -> list[float]:
    """Return for every two responses the probability that the earlier one is better."""
    return [_sigmoid(one - other) for one, other in combinations(scores, 2)]


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def _variance(values: Sequence[float]) -> float:
    centre = mean(values)
    return mean([(value - centre) ** 2 for value in values])


SELECTIONS: Mapping[str, Selection] = {
    row.name: row
    for row in (
        Selection(RANDOM, "any of the samples"),
        Selection(
            "uncertain",
            "where the reward model of the last labels is least sure",
            score=uncertainty,
            needs=(REWARD_MODEL,),
            source="arXiv:cmp-lg/9407020",
        ),
        Selection(
            "disagreement",
            "where the judge is furthest from people's labels, or from the reward model",
            score=disagreement,
            needs=(JUDGE, REWARD_MODEL),
            kinds=("pair",),
            source="doi:10.1145/130385.130417",
        ),
        Selection(
            "spread",
            "where the members of the reward model of the last labels differ most",
            score=spread,
            needs=(REWARD_MODEL, ENSEMBLE),
            source="arXiv:1706.03741, section 2.2.4",
        ),
    )
}
"""By `labelling.selection`."""


# --- choosing ---------------------------------------------------------------------------------------------------------


def selection_for(name: str, kind: str) -> Selection:
    """Return a rule by its name, as `labelling.selection` has it.

    Raises:
        RequestError: it cannot choose for this kind of labelling.
    """
    row = SELECTIONS[name]
    if kind not in row.kinds:
        fitting = ", ".join(one.name for one in SELECTIONS.values() if kind in one.kinds)
        raise RequestError(
            f"labelling.selection={name} can choose a {' or a '.join(row.kinds)}, and labelling.kind is {kind}. "
            f"What can choose a {kind}: {fitting}"
        )
    return row


@dataclass(frozen=True)
class Choice:
    """How many are chosen, and by what.

    Attributes:
        count: candidates that are wanted, at most.
        random_share: of them, how many are drawn at random in any case.
        seed: of what is drawn, and of the order.
    """

    count: int
    random_share: float
    seed: int
    rule: Selection = field(default_factory=lambda: SELECTIONS[RANDOM])


def choose(candidates: Sequence[T], opinions: Sequence[Opinions], how: Choice) -> list[Chosen[T]]:
    """Return the candidates to be shown, in a random order, so that the part that is labelled first is a fair part of all.

    The random part is drawn from all candidates, whatever their score; then the rule takes the highest scores of the rest. Where
    it has no score for enough of them, candidates without one fill the place; they are drawn by chance and yet no fair sample.
    Equal scores are in random order; equal arguments give an equal choice.

    Args:
        candidates: all that may be shown.
        opinions: what is known of each; empty for a rule that draws at random.
        how: how many, and by what.

    Raises:
        ValueError: a rule is given opinions of other candidates.
    """
    random = Random(f"{how.seed}/selection")
    waiting = list(range(len(candidates)))
    random.shuffle(waiting)
    count = min(how.count, len(waiting))
    if how.rule.score is None:
        return [Chosen(candidates[place], RANDOM) for place in waiting[:count]]
    if len(opinions) != len(candidates):
        raise ValueError(f"opinions must be one a candidate ({len(candidates)}), got {len(opinions)}")

    # at random first: what the rule has taken would be missing from a sample of what it leaves
    drawn = math.ceil(how.random_share * count - 1e-9)
    rest = waiting[drawn:]
    scores = {place: score for place in rest if (score := how.rule.score(opinions[place])) is not None}
    ranked = sorted(scores, key=lambda place: -scores[place])[: count - drawn]  # stable: equals stay in random order
    unscored = [place for place in rest if place not in scores][: count - drawn - len(ranked)]
    chosen = [
        Chosen(candidates[place], name)
        for name, places in ((RANDOM, waiting[:drawn]), (how.rule.name, ranked), (UNSCORED, unscored))
        for place in places
    ]
    random.shuffle(chosen)
    return chosen
