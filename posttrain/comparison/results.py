"""What a comparison is made from: the design that was declared before, the questions, and each method's results on each seed.

Whoever has results fills these: the flow from the stage store, `LOGS=` from files of other tools, tests by hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from posttrain.errors import ContractError
from posttrain.finite import is_finite
from posttrain.statistics.clusters import Array

FEWEST_QUESTIONS = 2
"""One question says nothing about the spread between questions."""


@dataclass(frozen=True)
class Question:
    """A held-out question, as it is shown and grouped.

    Attributes:
        id: unique among the questions.
        prompt: plain text.
        answers: that count as right; empty where no program can check.
        group: its family, subject or topic, if it has one.
    """

    id: str
    prompt: str
    answers: tuple[str, ...] = ()
    group: str | None = None


@dataclass(frozen=True)
class SeedResult:
    """One method on one seed; every list and array is in the order of the questions.

    Attributes:
        seed: of training and sampling.
        scores: the primary metric of each question, higher is better: a loss is negated. (questions,), unit as `Design.unit`.
        sampled: 1 for a right sample, 0 for a wrong one. (questions, samples).
        extracted: final answer of each sample, None where there is none; (questions, samples).
        reward: score that a reward model gave each sample, for best of k. (questions, samples).
        texts: the greedy answers.
        is_right: whether each is right.
        metrics: of the method's own evaluation, by name, such as `kl`, `response_tokens`, `win_rate_low`.
        costs: by name, as `costs` of the record has them.
        curves: points of the learning curve, as `learning` of the record has them.
        proxy: `points` and `best_of_n` of the audit, as `proxy` of the record has them.
        run: where to find it, as `runs` of the record has it.
        saw: what it learned from, as `saw` of the record has it.
        notes: what a reader must know of this run.
        reward_by: whose scores `reward` holds, in words.
    """

    seed: int
    scores: Array
    sampled: Array | None = None
    extracted: Sequence[Sequence[str | None]] | None = None
    reward: Array | None = None
    texts: Sequence[str] | None = None
    is_right: Sequence[bool] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    curves: Sequence[Mapping[str, Any]] = ()
    proxy: Mapping[str, Any] | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    saw: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    reward_by: str | None = None


@dataclass(frozen=True)
class MethodResult:
    """One method, or one system of another tool, on every seed that finished.

    Attributes:
        name: what `METHODS=` or `LOGS=` calls it.
        title: as pages call it.
        learns_from: in words.
        simulated: what stood in for people or servers, such as `annotators`.
        by_seed: results by seed, one at least.
        tuned: trials, chosen settings and development score, as `tuned` of the record has them.
        when_to_use: one sentence.
        budget_used: amount of the budget that a seed used on average, and its share, as `budget_used` of the record has them.
    """

    name: str
    title: str
    learns_from: str
    simulated: tuple[str, ...]
    by_seed: Mapping[int, SeedResult]
    tuned: Mapping[str, Any] | None = None
    when_to_use: str = ""
    budget_used: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Design:
    """What was declared before anything ran.

    Attributes:
        metric: name of the primary metric.
        metric_title: what it measures, in words.
        unit: of its values: `share` (0..1, told in points), `nats`, or `score` (any other).
        higher_is_better: false for a loss, whose `SeedResult.scores` are then negated; the record turns levels round again.
        reference: name of the method that the others are compared with.
        confidence: of every interval.
        margin: δ, within which two methods count as equal, in the metric's unit.
        budget: `kind` and `amount`.
        tune: trials that each method was given, 0 for none.
    """

    metric: str
    metric_title: str
    unit: str
    higher_is_better: bool
    reference: str
    confidence: float = 0.95
    margin: float = 0.02
    budget: Mapping[str, Any] = field(default_factory=lambda: {"kind": "defaults", "amount": None})
    tune: int = 0


def check_results(design: Design, questions: Sequence[Question], methods: Sequence[MethodResult]) -> None:
    """Refuse results that are no comparison of the same questions.

    Raises:
        ContractError: too few questions, an `id` or a name twice, no method, a method without a seed, no results of the
            reference, an array of another length, a score that is no finite number or no share,
            runs on different versions of the data, or two methods without a common seed.
    """
    if len(questions) < FEWEST_QUESTIONS:
        raise ContractError(
            f"a comparison needs at least {FEWEST_QUESTIONS} held-out questions, got {len(questions)}. Hold out more of them"
        )
    _refuse_repeats("question", [one.id for one in questions])
    _refuse_repeats("method", [one.name for one in methods])
    names = [one.name for one in methods]
    if design.reference not in names:
        finished = ", ".join(names) or "none"
        raise ContractError(
            f"the reference {design.reference} has no finished run, and every method is compared with it (finished: {finished}). "
            "Run it again, or name a finished one: compare.reference"
        )
    for method in methods:
        if not method.by_seed:
            raise ContractError(f"{method.name} has no finished seed, so it cannot be compared. Leave it out, or run it again")
        for seed, result in method.by_seed.items():
            _check_seed(method, seed, result, len(questions))
            if design.unit == "share":
                _check_shares(method, result, lowest=0.0 if design.higher_is_better else -1.0)
    _check_data(methods)
    _check_common_seeds(methods)


def _refuse_repeats(what: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ContractError(f"the {what} {name} stands twice in one comparison; each may stand once")
        seen.add(name)


def _check_seed(method: MethodResult, seed: int, result: SeedResult, questions: int) -> None:
    place = f"{method.name}, seed {seed}"
    if result.seed != seed:
        raise ContractError(f"{place}: its result says that it is of seed {result.seed}")
    for name in ("scores", "sampled", "extracted", "reward", "texts", "is_right"):
        values = getattr(result, name)
        if values is not None and len(values) != questions:
            raise ContractError(f"{place}: {name} holds {len(values)} questions, and the comparison {questions}")
    if result.sampled is not None and result.extracted is not None:
        for number, (right, given) in enumerate(zip(result.sampled, result.extracted, strict=True), 1):
            if len(right) != len(given) or any(yes and text is None for yes, text in zip(right, given, strict=True)):
                raise ContractError(f"{place}: a right sample of question {number} has no extracted answer, which cannot vote")
    scores = np.asarray(result.scores, dtype=float)
    if scores.ndim != 1:
        raise ContractError(f"{place}: scores must have one value a question, got an array of shape {scores.shape}")
    wrong = next((index for index, value in enumerate(scores) if not is_finite(value)), None)
    if wrong is not None:
        raise ContractError(f"{place}: the score of question {wrong + 1} is {scores[wrong]}, which is no finite number")


def _check_shares(method: MethodResult, result: SeedResult, *, lowest: float) -> None:
    scores = np.asarray(result.scores, dtype=float)
    wrong = next((index for index, value in enumerate(scores) if not lowest <= value <= lowest + 1), None)
    if wrong is not None:
        raise ContractError(
            f"{method.name}, seed {result.seed}: the score of question {wrong + 1} is {scores[wrong]:g}, and a share lies "
            f"between {lowest:g} and {lowest + 1:g}. Say that the unit is score"
        )


def _check_common_seeds(methods: Sequence[MethodResult]) -> None:
    """Refuse two methods that no seed pairs."""
    for place, one in enumerate(methods):
        for other in methods[place + 1 :]:
            if not set(one.by_seed) & set(other.by_seed):
                raise ContractError(
                    f"{one.name} finished the seeds {sorted(one.by_seed)} and {other.name} the seeds {sorted(other.by_seed)}: "
                    "no seed is common to both, so nothing pairs them. Run the missing ones again"
                )


def _check_data(methods: Sequence[MethodResult]) -> None:
    """Refuse runs that were made from different versions of the data."""
    first: tuple[str, str] | None = None
    for method in methods:
        for seed, result in method.by_seed.items():
            md5 = result.run.get("data_md5")
            if md5 is None:
                continue
            place = f"{method.name}, seed {seed}"
            if first is None:
                first = (place, md5)
            elif md5 != first[1]:
                raise ContractError(
                    f"{first[0]} ran on data {first[1]}, and {place} on data {md5}: they do not compare. "
                    "Run both on one version: make compare"
                )
