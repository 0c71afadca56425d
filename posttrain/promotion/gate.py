"""The gate: whether a challenger may become the champion, with every figure that decides.

    promoted where   low(gain) > -margin   and no guard is broken

The gain is paired over the same held-out questions, challenger - champion, and `low` is the lower bound of its two-sided 95 %
interval, so that an equal challenger passes a margin of 0 in 2.5 % of the cases. One training of each: the interval of these two
models over questions. Several: design 5 of posttrain/statistics/comparisons.py, over seeds and questions. The first champion has
to beat the base. docs/decisions/0022-promotion-gate.md has what was measured.
"""

from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any, Literal

from posttrain.comparison.wording import UNITS
from posttrain.errors import ContractError
from posttrain.promotion.evaluated import Evaluated, Pair, paired, refuse_other_questions
from posttrain.promotion.guards import Guard, check_guards
from posttrain.settings.promotion import PromotionSettings
from posttrain.statistics.comparisons import Comparison, compare_with
from posttrain.statistics.intervals import Interval
from posttrain.statistics.planning import reach

SCHEMA = "posttrain.decision/1"
CONFIDENCE = 0.95
POWER = 0.87
"""Chance, by Student's quantiles, that the smallest effect passes. Of the 7 points above 80 %, five are their error where three
seeds leave two degrees of freedom, and the rest is for guards that stop it in vain: it is promoted in 80 % at least."""

Rule = Literal["better", "not worse", "first: beats the base", "not better", "guard"]

COVERS_MODELS = (
    "95 %, over the choice of held-out questions: it speaks of these two models, not of other trainings of their methods"
)
COVERS_METHODS = "95 %, over the choice of held-out questions and of training seeds: it speaks of the methods, not of one model"


@dataclass(frozen=True)
class Decision:
    """What the gate says of a challenger; gain, margin and smallest effect are in the unit of the metric.

    Attributes:
        promoted: whether it may become the champion.
        why: one plain sentence with the figures.
        gain: of the challenger, paired; above 0: it is better. The interval decides.
        rule: which rule decided; `guard` where only a guard was in the way.
        guards: every guard, broken or not.
        smallest_effect: gain that is promoted in 80 % of the cases, guards included; None where no gain is.
        covers: what the interval covers.
        challenger: its name.
        against: name of the champion, or of the base where there is none.
        metric: that decides: that of the scores, or `reference_loss`, whose gain is how much lower it is.
        unit: `share` or `nats`.
        margin: how much worse it may be.
        questions: that both models have the metric of.
        seeds: trainings of each.
        held_out: digest of the held-out questions.
    """

    promoted: bool
    why: str
    gain: Interval
    rule: Rule
    guards: tuple[Guard, ...]
    smallest_effect: float | None
    covers: str
    challenger: str
    against: str
    metric: str
    unit: str
    margin: float
    questions: int
    seeds: int
    held_out: str

    def as_record(self) -> dict[str, Any]:
        """Return plain JSON, schema `posttrain.decision/1` (docs/gate.md has every field)."""
        record = asdict(self) | {"gain": self.gain.as_dict(), "guards": [asdict(guard) for guard in self.guards]}
        return {"schema": SCHEMA, **record}


def decide(champion: Evaluated | None, challenger: Evaluated, base: Evaluated | None, settings: PromotionSettings) -> Decision:
    """Decide whether a challenger may become the champion.

    Args:
        champion: the model that serves; None where there is none.
        challenger: the model that wants to.
        base: the model before any training, which the first champion must beat; not read where there is a champion.
        settings: margin and limits.

    Raises:
        ContractError: there is nothing to compare with; the two models were evaluated on other held-out questions, by other
            metrics, or with another number of seeds; no two questions have a metric; or a figure is none.
    """
    baseline = base if champion is None else champion
    if baseline is None:
        raise ContractError(
            f"there is neither a champion nor an evaluation of the base that {challenger.name} could be compared with. "
            "Evaluate the base on the same held-out questions: make pipeline does"
        )
    refuse_other_questions(challenger, baseline)
    is_first = champion is None
    margin = 0.0 if is_first else settings.margin
    metric, pair = _metric(challenger, baseline)
    unit = "nats" if metric == "reference_loss" else "share"
    one = _compared(pair, unit)
    guards = check_guards(challenger, baseline, metric=metric, pair=pair, is_first=is_first, settings=settings)
    rule = _rule(one.low_decides, margin, is_first=is_first, is_stopped=any(guard.is_broken for guard in guards))
    effect = reach(1 - CONFIDENCE, one.degrees, power=POWER) * one.error - margin
    decision = Decision(
        promoted=rule not in ("not better", "guard"),
        why="",
        gain=Interval(one.estimate, one.low_decides, one.high_decides),
        rule=rule,
        guards=guards,
        smallest_effect=effect if isfinite(effect) and not (unit == "share" and effect >= 1) else None,
        covers=COVERS_MODELS if one.speaks_of_models_only else COVERS_METHODS,
        challenger=challenger.name,
        against=baseline.name,
        metric=metric,
        unit=unit,
        margin=margin,
        questions=one.questions,
        seeds=one.seeds,
        held_out=challenger.held_out,
    )
    return replace(decision, why=_why(decision))


def _metric(challenger: Evaluated, baseline: Evaluated) -> tuple[str, Pair]:
    """Return the metric that decides, and its values of both models, higher is better: a loss is negated."""
    scores = paired("scores", challenger, baseline)
    if scores is not None:
        return challenger.metric, scores
    losses = paired("reference_loss", challenger, baseline)
    if losses is not None:
        return "reference_loss", Pair(-losses.ours, -losses.theirs, losses.places)
    raise ContractError(
        f"{challenger.name} and {baseline.name} have no two held-out questions with an answer, nor two with a reference "
        "completion, so nothing tells which is better. Import some of either: make import"
    )


def _compared(pair: Pair, unit: str) -> Comparison:
    values = {"challenger": pair.ours, "baseline": pair.theirs}
    (one,) = compare_with(values, "baseline", margin=0.0, confidence=CONFIDENCE, is_share=unit == "share")
    return one


def _rule(low: float, margin: float, *, is_first: bool, is_stopped: bool) -> Rule:
    if not low > -margin:
        return "not better"
    if is_stopped:
        return "guard"
    if is_first:
        return "first: beats the base"
    return "better" if low > 0 else "not worse"


def _why(one: Decision) -> str:
    """Return the decision in one sentence: what, by how much, on what, and what stands in the way."""
    unit = UNITS[one.unit]
    low, high = (unit.number(bound, sign=True) for bound in (one.gain.low, one.gain.high))
    gain = "gain in held-out loss" if one.unit == "nats" else one.metric.replace("_", " ")
    told = f"{gain} {unit.amount(one.gain.estimate, sign=True)} [{low}, {high}] on the same {one.questions:,} held-out questions"
    told += f" and {one.seeds} seeds each" if one.seeds > 1 else ""
    broken = [guard for guard in one.guards if guard.is_broken]
    stopped = f"{len(broken)} of {len(one.guards)} guards broken: {'; '.join(guard.says for guard in broken)}"
    if one.promoted:
        within = f", not worse by {unit.amount(one.margin)}" if one.rule == "not worse" else ""
        return f"{one.challenger} is promoted over {one.against}: {told}{within}; no guard is broken"
    head = f"{one.challenger} is not promoted over {one.against}: {told}"
    if one.rule == "guard":
        return f"{head}, but {stopped}"
    allowed = unit.amount(one.margin)
    if one.gain.high < -one.margin:
        wanted = f"worse by more than {allowed}" if one.margin else "worse"
    else:
        wanted = f"not shown to lose less than {allowed}" if one.margin else "not shown to be better"
        effect = one.smallest_effect
        wanted += " (no gain would be seen)" if effect is None else f" (a gain of {unit.amount(effect)} would be)"
    return f"{head}, {wanted}" + (f"; {stopped}" if broken else "")
