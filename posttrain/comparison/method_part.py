"""A method's part of the record: its levels on each seed and over seeds, its costs, what more samples are worth, its curves."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from posttrain.comparison.method_fields import Costs, Run, Saw
from posttrain.comparison.results import Design, MethodResult, SeedResult
from posttrain.statistics.clusters import Array
from posttrain.statistics.comparisons import mean_over_seeds
from posttrain.statistics.figures import mean
from posttrain.statistics.intervals import Interval
from posttrain.statistics.repeated import best_of, majority_at, pass_at

KS = (1, 2, 4, 8, 16, 32, 64)
"""Samples a question for which pass@k is shown, as far as there are so many."""


def comparable(design: Design, result: SeedResult) -> Array:
    """Return the scores so that higher is better, a share of failures as the share without: shares stay in 0..1."""
    scores = np.asarray(result.scores, dtype=np.float64)
    return scores if design.higher_is_better or design.unit != "share" else 1 + scores


def level(design: Design, values: Array) -> Interval:
    """Return the mean over seeds in the metric's own direction; `values` as `comparable` has them, (seeds, questions)."""
    found = mean_over_seeds(values, confidence=design.confidence, is_share=design.unit == "share")
    if design.higher_is_better:
        return found
    top = 1.0 if design.unit == "share" else 0.0
    return Interval(top - found.estimate, top - found.high, top - found.low)


def method_part(method: MethodResult, design: Design) -> dict[str, Any]:
    """Return the part of one method, as `MethodPart` has it."""
    results = [method.by_seed[seed] for seed in sorted(method.by_seed)]
    values = {one.seed: comparable(design, one) for one in results}
    scores = [{"seed": seed, **level(design, row[None]).as_dict()} for seed, row in values.items()]
    sampled = {one.seed: np.asarray(one.sampled, dtype=np.float64).mean(axis=1) for one in results if one.sampled is not None}
    return {
        "name": method.name,
        "title": method.title,
        "learns_from": method.learns_from,
        "is_reference": method.name == design.reference,
        "simulated": list(method.simulated),
        "when_to_use": method.when_to_use,
        "seeds": list(values),
        "scores": scores,
        "accuracy": scores if design.metric == "accuracy" else None,
        "mean": level(design, np.stack(list(values.values()))).as_dict(),
        "sampled": [{"seed": seed, **_share(design, row[None])} for seed, row in sampled.items()] or None,
        "mean_sampled": _share(design, np.stack(list(sampled.values()))) if sampled else None,
        "costs": _mean_of([one.costs for one in results], Costs.model_fields),
        "costs_per_seed": [{"seed": one.seed, **_known(one.costs, Costs.model_fields)} for one in results],
        "saw": _saw(results),
        **_mean_of([one.metrics for one in results], ("response_tokens", "finished", "kl")),
        "win_rate": _win_rate(results),
        "yardsticks": _yardsticks(results, design),
        "learning": [{"seed": one.seed, "points": [dict(point) for point in one.curves]} for one in results if one.curves],
        "proxy": [{"seed": one.seed, **one.proxy} for one in results if one.proxy is not None] or None,
        "tuned": None if method.tuned is None else dict(method.tuned),
        "budget_used": None if method.budget_used is None else dict(method.budget_used),
        "runs": [{"seed": one.seed, **_known(one.run, Run.model_fields)} for one in results],
    }


def _share(design: Design, values: Array) -> dict[str, float]:
    return mean_over_seeds(values, confidence=design.confidence, is_share=True).as_dict()


def _known(values: Mapping[str, Any], names: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Return what the record has a field for, but the seed, which the result itself knows."""
    return {name: values[name] for name in names if name in values and name != "seed"}


def _mean_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str] | Mapping[str, Any]) -> dict[str, float | None]:
    """Return the mean over the seeds that have a number; None where none has."""
    found = {name: [float(row[name]) for row in rows if row.get(name) is not None] for name in names}
    return {name: mean(values) if values else None for name, values in found.items()}


def _saw(results: Sequence[SeedResult]) -> dict[str, Any]:
    """Return counts as means over seeds, rounded, and words as the first seed that says any has them."""
    counts = {
        name: None if value is None else round(value)
        for name, value in _mean_of(
            [one.saw for one in results], [name for name in Saw.model_fields if name not in WORDS]
        ).items()
    }
    told = {name: next((one.saw[name] for one in results if one.saw.get(name) is not None), None) for name in WORDS}
    return counts | told


WORDS = ("labels_by", "judge")
"""Fields of `Saw` that are no counts."""


def _win_rate(results: Sequence[SeedResult]) -> dict[str, float] | None:
    """Return the means over seeds of estimate and bounds: seeds share questions, so no interval shrinks with them."""
    names = ("win_rate", "win_rate_low", "win_rate_high")
    rows = [one.metrics for one in results if all(one.metrics.get(name) is not None for name in names)]
    if not rows:
        return None
    return {
        field: mean([float(row[name]) for row in rows]) for field, name in zip(("estimate", "low", "high"), names, strict=True)
    }


def _yardsticks(results: Sequence[SeedResult], design: Design) -> dict[str, Any] | None:
    """Return pass@k, majority of k and best of k, each a share of questions with its interval over seeds and questions."""
    having = [one for one in results if one.sampled is not None]
    if not having:
        return None
    right = [np.asarray(one.sampled, dtype=np.float64) > 0.5 for one in having]
    ks = [k for k in KS if k <= min(row.shape[1] for row in right)]

    def over_seeds(rows: Callable[[int], list[Array]], ks: Sequence[int]) -> dict[str, dict[str, float]]:
        return {str(k): _share(design, np.stack(rows(k))) for k in ks}

    found: dict[str, Any] = {"pass": over_seeds(lambda k: [pass_at(row, k) for row in right], ks)}
    texts = [[list(row) for row in one.extracted] for one in having if one.extracted is not None]
    if len(texts) == len(having):
        found["majority"] = over_seeds(
            lambda k: [majority_at(text, row, k) for text, row in zip(texts, right, strict=True)], ks[1:]
        )
    scores = [np.asarray(one.reward, dtype=np.float64) for one in having if one.reward is not None]
    if len(scores) == len(having):
        found["best_of"] = over_seeds(
            lambda k: [best_of(score, row, k) for score, row in zip(scores, right, strict=True)], ks[1:]
        )
        found["best_of_by"] = having[0].reward_by
    return found
