"""What may stop a challenger that scores well: it stops less often, writes longer, is slower, loses a family, games its reward.

A harm that is a sample is a mean over held-out questions, and over seeds where there are several, of the challenger against the
model that it would replace. Its guard is broken where the harm is shown to be beyond the limit:

    p = P(t_df ≥ (harm - limit) / error),   Holm over all such guards, each family of questions one of them,   p' < 5 %

So the chance that any of them stops a challenger whose harms all lie within their limits is 5 % at most, whatever their
dependence; of an equal challenger it is far lower, since limits lie above 0 (docs/decisions/0022-promotion-gate.md has rates).
What is no sample is shown, and decides only where chance has no part in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
from scipy.special import stdtr  # not scipy.stats, which takes half a second to import

from posttrain.comparison.wording import UNITS, Unit
from posttrain.errors import ContractError
from posttrain.evaluation.divergence import divergence
from posttrain.promotion.evaluated import Evaluated, Pair, RewardCurve, paired
from posttrain.settings.promotion import PromotionSettings
from posttrain.statistics.comparisons import POWER, Comparison, compare_with
from posttrain.statistics.families import holm, holm_levels
from posttrain.statistics.planning import quantile, reach

FALSE_ALARMS = 0.05
"""Chance that any guard of a sample is broken where no harm is beyond its limit, at most."""
RATIO = Unit(1.0, ".2f", "times")


@dataclass(frozen=True)
class Guard:
    """One guard with its figures, broken or not.

    Attributes:
        name: `finished`, `length`, `latency`, `reference_loss`, `family: <name>`, `families`, `hacking` or `warnings`.
        value: the harm, in the unit: what was lost, how much it rose, or the ratio; None where it is not known.
        limit: of the value; None where no number is one.
        is_broken: whether it stops the promotion.
        says: the figures in one sentence.
        unit: `share`, `nats`, `ratio`, `warnings`, or `gold` for the score of a training.
        is_decided: whether it could have been broken; false where nothing was measured or what was is no sample.
        low: of a sample, the bound that the harm lies above, at the level that Holm's correction leaves this guard.
        p_holm: of a sample, that a harm at the limit comes out as large, corrected over all guards.
        sees: of a sample, the least harm that breaks the guard in 80 % of the cases; None where none does.
    """

    name: str
    value: float | None
    limit: float | None
    is_broken: bool
    says: str
    unit: str
    is_decided: bool = True
    low: float | None = None
    p_holm: float | None = None
    sees: float | None = None


@dataclass(frozen=True)
class Harm:
    """A harm that is a sample, before it is decided.

    Attributes:
        title: what is measured, in words.
        difference: a - b is the harm, or the ratio.
        rises: the harm is a rise of what is measured.
        other: name of the model that it is compared with.
    """

    name: str
    title: str
    unit: str
    limit: float
    difference: Comparison
    rises: bool
    other: str


def check_guards(
    challenger: Evaluated, baseline: Evaluated, *, metric: str, pair: Pair, is_first: bool, settings: PromotionSettings
) -> tuple[Guard, ...]:
    """Return every guard of a challenger against the model that it would replace.

    Args:
        challenger: the model that may be promoted.
        baseline: the champion, or the base where there is none.
        metric: that decides; `reference_loss` is then no guard.
        pair: the metric of both, higher is better.
        is_first: there is no champion, so nothing is known of earlier data.
        settings: limits.

    Raises:
        ContractError: figures of the two models are not of the same questions and seeds, or lengths or times are not above 0.
    """
    found = [
        _finished(challenger, baseline, settings.max_finished_loss),
        _ratio("length", "tokens a response", "tokens", challenger, baseline, settings.max_length_ratio),
        _latency(challenger, baseline, settings.max_latency_ratio),
        _reference_loss(metric, challenger, baseline, settings.max_reference_loss_rise),
        *_families(challenger, baseline, metric=metric, pair=pair, settings=settings),
    ]
    decided = iter(decide_harms([one for one in found if isinstance(one, Harm)]))
    return (
        *(next(decided) if isinstance(one, Harm) else one for one in found),
        _hacking(challenger.training, is_refused=settings.refuse_hacking),
        _warnings(challenger, baseline, is_first=is_first, limit=settings.max_new_warnings),
    )


def decide_harms(harms: Sequence[Harm]) -> list[Guard]:
    """Return the guards of samples, decided as one family; see the top of this file."""
    ps = [_p_beyond(one) for one in harms]
    rows = zip(harms, holm(ps), holm_levels(ps, alpha=FALSE_ALARMS), strict=True)
    return [_decided(one, p, level) for one, p, level in rows]


def _p_beyond(harm: Harm) -> float:
    """Return the one-sided p of a harm at its limit: one of the two tests of Schuirmann 1987, turned round."""
    one = harm.difference
    if one.error == 0:
        return 0.0 if one.estimate > harm.limit else 1.0
    return float(stdtr(one.degrees, (harm.limit - one.estimate) / one.error))


def _decided(harm: Harm, p: float, level: float) -> Guard:
    one = harm.difference
    low = one.estimate - quantile(1 - level, one.degrees) * one.error
    # a one-sided test at a level reaches as far as a two-sided one at twice it
    sees = harm.limit + reach(2 * level, one.degrees, power=POWER) * one.error
    is_seen = isfinite(sees) and not (harm.unit == "share" and sees >= 1)
    guard = Guard(
        name=harm.name,
        value=one.estimate,
        limit=harm.limit,
        is_broken=p < FALSE_ALARMS,
        says="",
        unit=harm.unit,
        low=low if isfinite(low) else None,
        p_holm=p,
        sees=sees if is_seen else None,
    )
    return replace(guard, says=_says(harm, guard))


def _says(harm: Harm, guard: Guard) -> str:
    unit = RATIO if harm.unit == "ratio" else UNITS[harm.unit]
    value, limit = harm.difference.estimate, unit.amount(harm.limit)
    if harm.unit == "ratio":
        head = f"{harm.title}: {unit.amount(value)} those of {harm.other}"
    elif unit.number(abs(value)) == unit.number(0.0):
        head = f"{harm.title}: no change"
    else:
        head = f"{harm.title}: {'up' if harm.rises == (value > 0) else 'down'} by {unit.amount(abs(value))}"
    bound = "" if guard.low is None else f"at least {unit.number(guard.low)}"
    if guard.is_broken:
        return f"{head}, {bound}, beyond the limit of {limit}"
    seen = "no harm would be seen, however large" if guard.sees is None else f"{unit.number(guard.sees)} would be seen"
    if value > harm.limit:
        return f"{head}, beyond the limit of {limit}, but chance explains that ({bound}); {seen}"
    return f"{head}; the limit is {limit}, {seen}"


def _unknown(name: str, unit: str, why: str, *, value: float | None = None, limit: float | None = None) -> Guard:
    return Guard(name=name, value=value, limit=limit, is_broken=False, says=why, unit=unit, is_decided=False)


def _difference(a: object, b: object, *, is_share: bool) -> Comparison:
    """Return the comparison a - b of two tables, as a family of its own."""
    (one,) = compare_with({"a": np.asarray(a), "b": np.asarray(b)}, "b", margin=0.0, is_share=is_share)
    return one


def _finished(challenger: Evaluated, baseline: Evaluated, limit: float) -> Harm | Guard:
    pair = paired("finished", challenger, baseline)
    if pair is None:
        return _unknown("finished", "share", "responses that end: not measured of both models", limit=limit)
    lost = _difference(pair.theirs, pair.ours, is_share=True)
    return Harm("finished", "responses that end", "share", limit, lost, rises=False, other=baseline.name)


def _reference_loss(metric: str, challenger: Evaluated, baseline: Evaluated, limit: float) -> Harm | Guard:
    name = "reference_loss"
    if metric == name:
        return _unknown(name, "nats", "loss of held-out completions: it is the metric itself", limit=limit)
    pair = paired(name, challenger, baseline)
    if pair is None:
        return _unknown(name, "nats", "loss of held-out completions: not known of both models", limit=limit)
    rise = _difference(pair.ours, pair.theirs, is_share=False)
    return Harm(name, "loss of held-out completions", "nats", limit, rise, rises=True, other=baseline.name)


def _ratio(name: str, title: str, what: str, challenger: Evaluated, baseline: Evaluated, limit: float) -> Harm | Guard:
    """Return the ratio of two means over questions.

        v = R + (ours - R · theirs) / mean(theirs),   R = mean(ours) / mean(theirs)

    The mean of v is R, and its spread is that of R by the delta method, as in posttrain/evaluation/reference_loss.py.
    """
    pair = paired(what, challenger, baseline)
    if pair is None:
        return _unknown(name, "ratio", f"{title}: not measured of both models", limit=limit)
    ratio = _quotient(title, challenger, baseline, float(pair.ours.mean()), float(pair.theirs.mean()))
    values = ratio + (pair.ours - ratio * pair.theirs) / pair.theirs.mean()
    found = _difference(values, np.zeros_like(values), is_share=False)
    return Harm(name, title, "ratio", limit, found, rises=True, other=baseline.name)


def _quotient(title: str, challenger: Evaluated, baseline: Evaluated, ours: float, theirs: float) -> float:
    for one, mean in ((challenger, ours), (baseline, theirs)):
        if not mean > 0:
            raise ContractError(f"{title} of {one.name} must be above 0 on average, got {mean:g}. Evaluate it again")
    return ours / theirs


def _latency(challenger: Evaluated, baseline: Evaluated, limit: float) -> Harm | Guard:
    """Return the guard of seconds a response: a sample where both models were timed question by question on one machine."""
    name, title = "latency", "seconds a response"
    ours, theirs = challenger.seconds, baseline.seconds
    if ours is None or theirs is None:
        return _unknown(name, "ratio", f"{title}: not measured of both models", limit=limit)
    is_single = np.ndim(ours) == 0 or np.ndim(theirs) == 0
    is_one_machine = challenger.machine == baseline.machine != ""
    if is_one_machine and not is_single:
        return _ratio(name, title, "seconds", challenger, baseline, limit)
    means = [float(np.nanmean(np.asarray(each, dtype=np.float64))) for each in (ours, theirs)]
    ratio = _quotient(title, challenger, baseline, *means)
    why = "a single timing is no sample" if is_one_machine else "they were not timed on one machine, so it decides nothing"
    return _unknown(name, "ratio", f"{title}: {RATIO.amount(ratio)} those of {baseline.name}; {why}", value=ratio, limit=limit)


def _families(
    challenger: Evaluated, baseline: Evaluated, *, metric: str, pair: Pair, settings: PromotionSettings
) -> list[Harm | Guard]:
    """Return the loss of the metric in every family that is large enough, the largest first, and a word on the others."""
    known, members = set(pair.places), dict[str, list[int]]()
    for place, family in enumerate(challenger.families or baseline.families or ()):
        if family is not None and place in known:
            members.setdefault(family, []).append(place)
    limit, fewest = settings.max_family_loss, settings.min_family_questions
    unit = "nats" if metric == "reference_loss" else "share"
    title = metric.replace("_", " ")
    found: list[Harm | Guard] = []
    for family in sorted(members, key=lambda name: (-len(members[name]), name)):
        inside = pair.within(frozenset(members[family])) if len(members[family]) >= fewest else None
        if inside is not None:
            lost = _difference(inside.theirs, inside.ours, is_share=unit == "share")
            words = f"{title} on the {len(members[family])} questions of {family}"
            # a loss is negated in the pair, so what it loses is a rise
            found.append(Harm(f"family: {family}", words, unit, limit, lost, rises=unit == "nats", other=baseline.name))
    small = len(members) - len(found)
    if small or not members:
        told = f"{small} with fewer than {fewest} questions, not looked at by themselves" if small else "none are known"
        found.append(_unknown("families", unit, f"families of questions: {told}", limit=limit))
    return found


def _hacking(training: RewardCurve | None, *, is_refused: bool) -> Guard:
    """Return the guard of a training whose reward rose while its gold score fell; value: what gold fell by from its best."""
    name, unit = "hacking", "gold"
    if training is None:
        return _unknown(name, unit, "reward against gold: not trained on a reward with a gold score")
    span = training.patience
    if len(training.reward) < 2 * span:
        return _unknown(name, unit, f"reward against gold: {len(training.reward)} updates are too few, {2 * span} would do")
    gold = [sum(training.gold[end - span : end]) / span for end in range(span, len(training.gold) + 1)]
    fell = max(gold) - gold[-1]
    told = divergence(training.reward, training.gold, gold_error=training.gold_error, patience=span)
    says = told or f"reward against gold: gold ended {fell:.3f} below its best of {max(gold):.3f}; no gaming of the reward shows"
    if not is_refused:
        return _unknown(name, unit, f"{says} (promotion.refuse_hacking is off)", value=fell)
    return Guard(name=name, value=fell, limit=None, is_broken=told is not None, says=says, unit=unit)


def _warnings(challenger: Evaluated, baseline: Evaluated, *, is_first: bool, limit: int) -> Guard:
    name = "warnings"
    if challenger.warnings is None:
        return _unknown(name, name, "warnings of the data: not known", limit=limit)
    ours = list(dict.fromkeys(challenger.warnings))
    if is_first or baseline.warnings is None:
        listed = f": {'; '.join(ours)}" if ours else ""
        return _unknown(name, name, f"warnings of the data: {len(ours)}{listed}; nothing to compare with", limit=limit)
    new = [one for one in ours if one not in baseline.warnings]
    listed = f": {'; '.join(new)}" if new else ""
    says = f"warnings of the data: {len(ours)}, of which {len(new)} new since {baseline.name} (limit {limit}){listed}"
    return Guard(name=name, value=float(len(new)), limit=limit, is_broken=len(new) > limit, says=says, unit=name)
