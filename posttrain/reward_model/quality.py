"""How good a reward model is on pairs it has not learnt from, and whether PPO may be led by it."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from posttrain.errors import ContractError, DataError
from posttrain.feedback.labels import is_equal
from posttrain.reward_model.calibration import Bin, expected_calibration_error, reliability
from posttrain.settings.reward_model import RewardModelSettings
from posttrain.statistics.figures import flattened
from posttrain.statistics.intervals import Interval, clustered_proportion

LEAST_QUESTIONS = 2
"""Fewer say nothing about the spread between questions, so there is no interval."""


@dataclass(frozen=True)
class ScoredPair:
    """A label of a held-out pair, with the score of both responses.

    Attributes:
        question: its id; labels of one question are one draw.
        first: the response shown first.
        second: the response shown second.
        first_score: of the reward model.
        second_score: of the reward model.
        first_tokens: length of the first response.
        second_tokens: length of the second.
        preference: probability that the first is better, as the label says.
        gold: the same as a noise-free judge says, where it is known.
        kinds: what kinds of pair it is, such as "longer is better".
    """

    question: str
    first: str
    second: str
    first_score: float
    second_score: float
    first_tokens: int
    second_tokens: int
    preference: float
    gold: float | None = None
    kinds: tuple[str, ...] = ()

    @property
    def difference(self) -> float:
        """Score of the first response less that of the second."""
        return self.first_score - self.second_score


@dataclass(frozen=True)
class Quality:
    """What held-out pairs say of a reward model.

    Attributes:
        labels: held-out labels that name a better response.
        questions: of how many questions they are.
        accuracy: share of them that scores agree with; equal scores count half.
        accuracy_gold: the same against gold; None where nobody knows it, or for one question only.
        ece: expected calibration error of σ(difference of scores) against the labels.
        points: of the reliability diagram.
        length_correlation: of score and tokens among the responses to one question (each less the question's mean); None where
            they do not vary.
        deviation: standard deviation of the responses' scores.
        kinds: accuracy on the labels of each kind of pair, with how many there are.
    """

    labels: int
    questions: int
    accuracy: Interval
    accuracy_gold: Interval | None
    ece: float
    points: Sequence[Bin]
    length_correlation: float | None
    deviation: float
    kinds: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """Return the figures that a stage reports; those that are undefined are left out."""
        told: dict[str, Interval | float | None] = {
            "held_out_labels": self.labels,
            "held_out_questions": self.questions,
            "accuracy": self.accuracy,
            "accuracy_gold": self.accuracy_gold,
            "ece": self.ece,
            "length_correlation": self.length_correlation,
            "deviation": self.deviation,
        }
        for kind, (share, count) in self.kinds.items():
            name = kind.replace(" ", "_")
            told |= {f"accuracy_{name}": share, f"labels_{name}": count}
        return {name: float(value) for name, value in flattened(told).items()}


def check_enough(questions: Collection[str]) -> None:
    """Refuse to measure on too few questions.

    Args:
        questions: those that are held out and have a label which names a better response.

    Raises:
        DataError: there are fewer than two.
    """
    if len(questions) < LEAST_QUESTIONS:
        raise DataError(
            "a reward model is measured on labels of questions that it has not learnt from, those that name a better response: "
            f"here are {len(questions)} such questions, and an interval needs {LEAST_QUESTIONS}. Label more prompts, or lower "
            "reward_model.train_share"
        )


def measured(pairs: Sequence[ScoredPair]) -> Quality:
    """Return what these pairs say; none of it depends on which response of a pair stands first.

    Raises:
        DataError: labels that name a better response are of fewer than two questions.
    """
    decided = [pair for pair in pairs if not is_equal(pair.preference)]
    questions = {pair.question for pair in decided}
    check_enough(questions)
    known = [pair for pair in decided if pair.gold is not None and not is_equal(pair.gold)]
    has_gold = len({pair.question for pair in known}) >= LEAST_QUESTIONS
    confidence = [1 / (1 + math.exp(-abs(pair.difference))) for pair in pairs]
    right = [_share_right(pair) for pair in pairs]
    points = reliability(confidence, right, lowest=0.5)
    scores = [score for responses in _responses(pairs).values() for score, _ in responses]
    return Quality(
        labels=len(decided),
        questions=len(questions),
        accuracy=_share((pair, pair.preference) for pair in decided),
        accuracy_gold=_share((pair, pair.gold or 0.0) for pair in known) if has_gold else None,
        ece=expected_calibration_error(points),
        points=points,
        length_correlation=_length_correlation(pairs),
        deviation=float(np.std(scores)),
        kinds=_by_kind(decided),
    )


def check(quality: Quality, *, seconded: float | None, settings: RewardModelSettings) -> None:
    """Refuse a reward model that PPO must not be led by.

    Args:
        quality: on held-out pairs.
        seconded: chance that another annotator names the response which one has named the better, "equal" counting half as
            equal scores do; None where no pair has two labels.
        settings: what is asked for.

    Raises:
        ContractError: it breaks a promise; the text gives each, its figures and the setting that asks for it.
    """
    broken = list(_broken(quality, seconded, settings))
    if broken:
        raise ContractError(
            f"the reward model may not lead PPO, as {quality.labels} held-out labels of {quality.questions} questions show: "
            f"{'; '.join(broken)}. Get more labels (labels.pairs_per_prompt, sample.per_prompt) or better ones (agreement.json "
            "says whose), train longer or shorter (reward_model.epochs), or allow it with the settings named"
        )


def _broken(quality: Quality, seconded: float | None, settings: RewardModelSettings) -> Iterable[str]:
    accuracy = quality.accuracy
    told = f"accuracy {accuracy.estimate:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}]"
    if accuracy.low <= 0.5:
        yield f"{told}, whose interval must lie above chance, 0.5"
    elif seconded is not None and accuracy.estimate - 0.5 < settings.min_share_of_agreement * (seconded - 0.5):
        least = 0.5 + settings.min_share_of_agreement * (seconded - 0.5)
        yield (
            f"{told}, which must be at least {least:.3f}: the response that an annotator names the better is named by another "
            f"with a chance of {seconded:.3f}, and of what that is beyond chance "
            f"reward_model.min_share_of_agreement={settings.min_share_of_agreement:g} is asked for"
        )
    if quality.ece > settings.max_calibration_error:
        yield (
            f"calibration error {quality.ece:.3f}, at most {settings.max_calibration_error:g} "
            "(reward_model.max_calibration_error)"
        )
    if quality.length_correlation is not None and abs(quality.length_correlation) > settings.max_length_correlation:
        yield (
            f"correlation of score and length {quality.length_correlation:+.3f}, at most {settings.max_length_correlation:g} "
            "either way (reward_model.max_length_correlation)"
        )


def _share_right(pair: ScoredPair) -> float:
    """Return with which probability the response of the higher score is the better one; half where both score alike."""
    return 0.5 if pair.difference == 0 else pair.preference if pair.difference > 0 else 1 - pair.preference


def _hit(difference: float, preference: float) -> float:
    """Return 1 where the sign of a difference agrees with a preference, 0 where it does not, 0.5 where there is no difference."""
    return 0.5 if difference == 0 else float((difference > 0) == (preference > 0.5))


def _share(wanted: Iterable[tuple[ScoredPair, float]]) -> Interval:
    """Return the share of pairs whose scores agree with what is wanted, questions being the independent draws."""
    told = list(wanted)
    return clustered_proportion([_hit(pair.difference, side) for pair, side in told], [pair.question for pair, _ in told])


def _responses(pairs: Iterable[ScoredPair]) -> dict[str, list[tuple[float, int]]]:
    """Return score and tokens of each different response to each question."""
    told: dict[str, dict[str, tuple[float, int]]] = {}
    for pair in pairs:
        here = told.setdefault(pair.question, {})
        here[pair.first] = (pair.first_score, pair.first_tokens)
        here[pair.second] = (pair.second_score, pair.second_tokens)
    # in an order of their own, so that sums round alike whichever of a pair stands first
    return {question: [here[text] for text in sorted(here)] for question, here in told.items()}


def _length_correlation(pairs: Iterable[ScoredPair]) -> float | None:
    apart = [np.asarray(one, dtype=np.float64) - np.mean(one, axis=0) for one in _responses(pairs).values()]
    score, tokens = np.concatenate(apart).T
    spread = math.sqrt(float(score @ score) * float(tokens @ tokens))
    return float(score @ tokens) / spread if spread > 0 else None


def _by_kind(pairs: Sequence[ScoredPair]) -> dict[str, tuple[float, int]]:
    hits: dict[str, list[float]] = {}
    for pair in pairs:
        for kind in pair.kinds:
            hits.setdefault(kind, []).append(_hit(pair.difference, pair.preference))
    return {kind: (sum(here) / len(here), len(here)) for kind, here in sorted(hits.items())}
