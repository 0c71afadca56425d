"""What the gate knows of a model: its figures on every held-out question; and whether two models can be compared at all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from posttrain.errors import ContractError
from posttrain.statistics.clusters import Array

Table = ArrayLike | None
"""(seeds, questions), or (questions,) for one seed; NaN where a question has none; None where nothing was measured."""
FEWEST_QUESTIONS = 2
"""One question says nothing about the spread between questions."""
SHARES = ("scores", "finished")


@dataclass(frozen=True, eq=False, kw_only=True)
class RewardCurve:
    """What a training on a reward saw, update by update; arguments of `posttrain.evaluation.divergence.divergence`.

    Attributes:
        reward: mean training reward of each update: the proxy.
        gold: mean gold score of the same responses.
        gold_error: standard error of each gold mean; None where an update asked one question.
        patience: updates that are averaged.
    """

    reward: Sequence[float]
    gold: Sequence[float]
    gold_error: Sequence[float] | None
    patience: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluated:
    """One model, or one method over several training seeds, on the held-out questions; every table in their order.

    With several seeds, row s of both models should be the same seed where they share seeds: what a seed does to both falls out.

    Attributes:
        name: as people call it, such as "version 7".
        held_out: digest of the held-out questions: ids, prompts and answers.
        scores: the primary metric, a share in 0..1, higher is better. None, or NaN throughout, where no question has an answer.
        metric: what `scores` are, in words of the report: `accuracy` or `accuracy_sampled`.
        finished: share of a question's sampled responses that ended by themselves.
        tokens: of a question's sampled responses, the mean.
        seconds: of a response, question by question; a single number is one timing, which is shown and decides nothing.
        machine: where the seconds were measured; timings of different machines decide nothing.
        reference_loss: of a question's reference completion, nats a token, lower is better.
        families: of each question, None for one that has none.
        training: the curve of a training on a reward; None for another one.
        warnings: names of what the data gate warned of, without counts, so that equal warnings are equal; None: not known.
    """

    name: str
    held_out: str
    scores: Table = None
    metric: str = "accuracy"
    finished: Table = None
    tokens: Table = None
    seconds: ArrayLike | float | None = None
    machine: str = ""
    reference_loss: Table = None
    families: Sequence[str | None] | None = None
    training: RewardCurve | None = None
    warnings: Sequence[str] | None = None


@dataclass(frozen=True)
class Pair:
    """A quantity of two models on the questions that have it. (seeds, questions) each, all finite.

    Attributes:
        ours: of the challenger.
        theirs: of the model that it is compared with.
        places: of the questions among all held-out ones.
    """

    ours: Array
    theirs: Array
    places: tuple[int, ...]

    def within(self, chosen: frozenset[int]) -> "Pair | None":
        """Return the same on some of the held-out questions; None where fewer than two of them have it."""
        kept = [column for column, place in enumerate(self.places) if place in chosen]
        if len(kept) < FEWEST_QUESTIONS:
            return None
        return Pair(self.ours[:, kept], self.theirs[:, kept], tuple(self.places[column] for column in kept))


def refuse_other_questions(challenger: Evaluated, baseline: Evaluated) -> None:
    """Refuse two models that were evaluated on different held-out questions, or by different metrics.

    Raises:
        ContractError: they were, and both are named.
    """
    if challenger.held_out != baseline.held_out:
        raise ContractError(
            f"{challenger.name} was evaluated on the held-out questions {challenger.held_out}, and {baseline.name} on "
            f"{baseline.held_out}: they do not compare. Evaluate both on one version of the data"
        )
    families = [None if one.families is None else tuple(one.families) for one in (challenger, baseline)]
    if None not in families and families[0] != families[1]:
        raise ContractError(
            f"{challenger.name} and {baseline.name} have the same held-out questions in different families: they do not compare. "
            "Evaluate both on one version of the data"
        )
    if (challenger.scores is None) != (baseline.scores is None):
        without = challenger if challenger.scores is None else baseline
        raise ContractError(
            f"{without.name} has no scores of the held-out questions, and the other model has: {challenger.name} and "
            f"{baseline.name} do not compare. Evaluate {without.name} again"
        )
    if challenger.scores is not None and challenger.metric != baseline.metric:
        raise ContractError(
            f"{challenger.name} is scored by {challenger.metric}, and {baseline.name} by {baseline.metric}: they do not compare. "
            "Give both the same metric"
        )


def paired(what: str, challenger: Evaluated, baseline: Evaluated) -> Pair | None:
    """Return a quantity of both models, None where one has nothing of it or fewer than two questions have it.

    Args:
        what: name of a table of `Evaluated`.
        challenger: the model that may be promoted.
        baseline: the model that it is compared with.

    Raises:
        ContractError: the tables have different shapes, other questions of them are undefined, a number is infinite, or a share
            is none.
    """
    tables = [_table(what, each) for each in (challenger, baseline)]
    if tables[0] is None or tables[1] is None:
        return None
    ours, theirs = tables[0], tables[1]
    names = f"{what} of {challenger.name} and {baseline.name}"
    if ours.shape != theirs.shape:
        raise ContractError(
            f"{names} must have the same seeds and questions, got (seeds, questions) {ours.shape} and {theirs.shape}. "
            "Give as many trainings of each, on the same questions"
        )
    is_defined = ~np.isnan(np.concatenate([ours, theirs]))
    places = np.flatnonzero(is_defined.all(axis=0))
    if is_defined.any(axis=0).sum() != len(places):
        raise ContractError(f"{names} must be undefined for the same questions in every seed. Evaluate both again")
    if len(places) < FEWEST_QUESTIONS:
        return None
    return Pair(ours[:, places], theirs[:, places], tuple(int(place) for place in places))


def _table(what: str, one: Evaluated) -> Array | None:
    """Return a table with both axes; a ContractError names the model whose table is none."""
    given = getattr(one, what)
    if given is None:
        return None
    cells = np.asarray(given, dtype=np.float64)
    cells = cells[None] if cells.ndim == 1 else cells
    if cells.ndim != 2 or not cells.size:
        raise ContractError(f"{what} of {one.name} must have the axes (seeds, questions), got shape {np.shape(given)}")
    if np.isinf(cells).any():
        raise ContractError(f"{what} of {one.name} must be finite, or NaN where a question has none. Evaluate it again")
    if what in SHARES and ((cells < 0) | (cells > 1)).any():
        raise ContractError(f"{what} of {one.name} must be shares between 0 and 1, or NaN where a question has none")
    if one.families is not None and len(one.families) != cells.shape[1]:
        raise ContractError(
            f"{one.name} has {len(one.families)} families and {what} of {cells.shape[1]} questions: there must be one a question"
        )
    return cells
