"""The verdicts of a record: every family of pairs, and the gains over the reference by group of questions."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from posttrain.comparison.groups import Grouping
from posttrain.comparison.results import Design
from posttrain.comparison.wording import Voice, pair_words
from posttrain.statistics.clusters import Array
from posttrain.statistics.comparisons import Comparison, as_family, compare_best, compare_pairs, compare_with, needed

OPEN = ("undecided", "disagree")
"""Verdicts that more seeds or questions would settle."""

SeedValues = Mapping[str, Mapping[int, Array]]


def all_pairs(values: SeedValues, design: Design, voice: Voice) -> list[dict[str, Any]]:
    """Return the pairs of the three families, as `Pair` has them; [] for one method alone.

    Args:
        values: higher is better, by method and seed. (questions,) each.
        design: reference, margin, confidence and unit.
        voice: in which they are told.
    """
    if len(values) < 2:
        return []
    how: dict[str, Any] = {
        "margin": design.margin,
        "confidence": design.confidence,
        "is_share": design.unit == "share",
    }
    families = {
        "reference": compare_with(values, design.reference, **how),
        "best": compare_best(values, **how),
        "all": compare_pairs(values, **how),
    }
    return [_pair(one, family, design, voice) for family, found in families.items() for one in found]


def _pair(one: Comparison, family: str, design: Design, voice: Voice) -> dict[str, Any]:
    seeds = list(one.seed_names)
    pair = {
        "a": one.a,
        "b": one.b,
        "methods": [one.a, one.b],
        "family": family,
        "seeds": seeds,
        **{name: getattr(one, name) for name in ("estimate", "low", "high", "low_decides", "high_decides", "p", "p_holm")},
        "smallest_effect": one.smallest_effect if one.error > 0 and isfinite(one.smallest_effect) else None,
        "degrees": one.degrees if one.error > 0 and isfinite(one.degrees) else None,
        "verdict": str(one.verdict),
        "per_seed": [{"seed": seed, **interval.as_dict()} for seed, interval in zip(seeds, one.per_seed, strict=True)],
        "needs": _needs(one, design) if one.verdict in OPEN else [],
    }
    return pair | {"words": pair_words(pair, voice)}


def _needs(one: Comparison, design: Design) -> list[dict[str, Any]]:
    """Return designs that would show an effect of the margin, and one as large as the estimate."""
    effects = [effect for effect in dict.fromkeys((design.margin, abs(one.estimate))) if 0 < effect < one.smallest_effect]
    return [
        {"effect": effect, "seeds": plan.seeds, "questions": plan.questions} for effect in effects for plan in needed(one, effect)
    ]


def group_gains(values: SeedValues, grouping: Grouping | None, design: Design) -> dict[str, Any] | None:
    """Return the gain of each method over the reference in each group, corrected over all of them, as `Groups` has it."""
    if grouping is None or len(values) < 2:
        return None
    found: list[tuple[str, Comparison]] = []
    for name, places in grouping.members.items():
        inside = {method: {seed: row[list(places)] for seed, row in rows.items()} for method, rows in values.items()}
        how: dict[str, Any] = {"margin": design.margin, "confidence": design.confidence, "is_share": design.unit == "share"}
        found += [(name, one) for one in compare_with(inside, design.reference, **how)]
    family = as_family([one for _, one in found], margin=design.margin, confidence=design.confidence)
    gains: dict[str, dict[str, Any]] = {name: {} for name in grouping.members}
    for (name, _), one in zip(found, family, strict=True):
        gains[name][one.a] = {
            **{field: getattr(one, field) for field in ("estimate", "low", "high", "p", "p_holm")},
            "verdict": str(one.verdict),
        }
    rows = [{"name": name, "questions": len(places), "methods": gains[name]} for name, places in grouping.members.items()]
    return {"by": grouping.by, "title": grouping.title, "groups": rows}


def missing_seeds(seeds: Mapping[str, Sequence[int]]) -> list[str]:
    """Return a sentence for each method that lacks seeds which others have."""
    whole = sorted({seed for own in seeds.values() for seed in own})
    return [
        f"{name} has no result on {_named(lacks)}, so its comparisons use {_named([seed for seed in whole if seed in own])} alone"
        for name, own in seeds.items()
        if (lacks := [seed for seed in whole if seed not in own])
    ]


def _named(seeds: Sequence[int]) -> str:
    *before, last = [str(seed) for seed in seeds]
    return f"seeds {', '.join(before)} and {last}" if before else f"seed {last}"
