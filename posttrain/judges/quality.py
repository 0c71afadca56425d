"""What is known of a judge from the pairs that it labelled, and whether its labels may be used."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from posttrain.errors import ContractError
from posttrain.feedback.bias import share_with_gold
from posttrain.judges.opinions import is_flip
from posttrain.statistics.intervals import Interval


@dataclass(frozen=True)
class JudgedPair:
    """A pair of responses as a judge saw it.

    Attributes:
        question: id of the question it belongs to.
        first_length: characters of the first response.
        second_length: of the second.
        preference: the soft label, probability that the first is better; None where a reply could not be read.
        forward: probability of the first place, the pair as it is; None where it was not asked about in two orders.
        backward: probability of the first place, the pair the other way round.
        entropies: of the replies, nats.
        masses: probability that each reply was an option at all.
        gold: 1 where the first is better, 0 where the second is, 0.5 where they are equal, None where nobody knows.
    """

    question: str
    first_length: int
    second_length: int
    preference: float | None
    forward: float | None = None
    backward: float | None = None
    entropies: tuple[float, ...] = ()
    masses: tuple[float, ...] = ()
    gold: float | None = None


@dataclass(frozen=True)
class JudgeFigures:
    """What a judge did; None where there was nothing to tell it from.

    Attributes:
        pairs: that it labelled.
        unreadable_share: of the pairs that it was asked about, those with a reply that could not be read.
        accuracy: share of pairs with a better response where it prefers that one, a label of exactly 0.5 counting half.
        flip_share: share of pairs whose winner is another when the order is swapped.
        position_bias: mean probability of the first place over both orders, less 0.5.
        longer_share: share of pairs of unequal length where it prefers the longer response.
        conviction: mean distance of a label from 0.5.
        entropy: mean of a reply, nats.
        option_mass: mean probability that a reply is an option at all.
    """

    pairs: int
    unreadable_share: float
    accuracy: Interval | None
    flip_share: float | None
    position_bias: float | None
    longer_share: float | None
    conviction: float
    entropy: float
    option_mass: float

    def as_dict(self) -> dict[str, object]:
        """Return the figures that there are, for JSON."""
        figures = {name: value for name, value in vars(self).items() if value is not None}
        return figures | ({"accuracy": self.accuracy.as_dict()} if self.accuracy else {})


def figures_of(pairs: Sequence[JudgedPair]) -> JudgeFigures:
    """Return what the pairs say of their judge; swapping the two responses of a pair changes none of it.

    Raises:
        ValueError: there is no pair.
    """
    if not pairs:
        raise ValueError("a judge is known by the pairs that it labelled, got none")
    labelled = [(pair, pair.preference) for pair in pairs if pair.preference is not None]
    orders = [(pair.forward, pair.backward) for pair, _ in labelled if pair.forward is not None and pair.backward is not None]
    leanings = [(preference - 0.5, pair.first_length - pair.second_length) for pair, preference in labelled]
    decided = [(leaning, gap) for leaning, gap in leanings if gap and leaning]
    return JudgeFigures(
        pairs=len(labelled),
        unreadable_share=1 - len(labelled) / len(pairs),
        accuracy=_accuracy(labelled),
        flip_share=_mean(float(is_flip(*order)) for order in orders),
        position_bias=_mean((forward + backward) / 2 - 0.5 for forward, backward in orders),
        longer_share=_mean(float((leaning > 0) == (gap > 0)) for leaning, gap in decided),
        conviction=_mean(abs(leaning) for leaning, _ in leanings) or 0.0,
        entropy=_mean(entropy for pair, _ in labelled for entropy in pair.entropies) or 0.0,
        option_mass=_mean(mass for pair in pairs for mass in pair.masses) or 0.0,
    )


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return sum(listed) / len(listed) if listed else None


def _accuracy(labelled: Sequence[tuple[JudgedPair, float]]) -> Interval | None:
    known = [(pair.question, preference, pair.gold) for pair, preference in labelled if pair.gold is not None]
    return share_with_gold(known)


def check_judge(figures: JudgeFigures, *, name: str, max_flips: float, min_conviction: float, max_unreadable: float) -> None:
    """Refuse the labels of a judge that looks at the place, has no opinion, or cannot be read.

    Args:
        figures: of the pairs it labelled.
        name: of the judge, for messages.
        max_flips: share.
        min_conviction: mean distance from 0.5.
        max_unreadable: share.

    Raises:
        ContractError: one of them is beyond its limit; the text gives all figures.
    """
    faults = []
    if figures.unreadable_share > max_unreadable:
        faults.append(
            f"{figures.unreadable_share:.1%} of the pairs have a reply that is none of the options, allowed are "
            f"{max_unreadable:.1%} (judge.max_unreadable)"
        )
    if figures.flip_share is not None and figures.flip_share > max_flips:
        faults.append(
            f"the winner of {figures.flip_share:.1%} of the pairs is another when the order is swapped, allowed are "
            f"{max_flips:.1%} (judge.max_flips): it looks at the place and not at the text"
        )
    if figures.pairs and figures.conviction < min_conviction:
        faults.append(
            f"its labels lie {figures.conviction:.4f} from 0.5 on average, at least {min_conviction:g} is needed "
            "(judge.min_conviction): it has no opinion"
        )
    if faults:
        raise ContractError(
            f"the judge {name} is not fit to label {figures.pairs} pairs: {'; '.join(faults)}. {_told(figures)}Take another "
            "judge (judge.model), mode (judge.mode) or template (judge.template): docs/judges.md"
        )


def _told(figures: JudgeFigures) -> str:
    parts = [f"entropy {figures.entropy:.3f} nats", f"options' probability {figures.option_mass:.3f}"]
    if figures.position_bias is not None:
        parts.insert(0, f"position bias {figures.position_bias:+.3f}")
    if figures.accuracy is not None:
        one = figures.accuracy
        parts.insert(0, f"accuracy against gold {one.estimate:.3f} [{one.low:.3f}–{one.high:.3f}]")
    return f"All in all: {', '.join(parts)}. "
