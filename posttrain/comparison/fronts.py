"""Cost against quality: which methods no other method beats on both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.comparison.numbers import Form, amount, count, minutes, power

COST_AXES: tuple[tuple[str, str, Form], ...] = (
    ("train_seconds", "minutes of training", minutes),
    ("flops", "FLOPs", power),
    ("trained_tokens", "tokens trained", amount),
    ("generated_tokens", "tokens generated", amount),
    ("labels", "labels", count),
)
"""Key in `costs`, title of the axis, how a value on it is written."""


@dataclass(frozen=True)
class Priced:
    """A method with one of its costs.

    Attributes:
        name: of the method.
        cost: mean over its seeds, in the unit of the JSON.
        value: mean level of the primary metric, in the unit of the JSON.
    """

    name: str
    cost: float
    value: float


def priced(comparison: Mapping[str, Any], key: str) -> list[Priced]:
    """Return the methods whose cost `key` was measured, as the JSON orders them; none where no method paid any."""
    found = []
    for method in comparison["methods"]:
        cost = (method.get("costs") or {}).get(key)
        if cost is not None and method.get("mean"):
            found.append(Priced(method["name"], float(cost), float(method["mean"]["estimate"])))
    return found if any(one.cost > 0 for one in found) else []


def pareto_front(methods: Sequence[Priced], *, higher_is_better: bool) -> list[Priced]:
    """Return the methods that no other beats, from the cheapest to the dearest.

    One beats another if it is as good in both cost and value, and better in one. Two methods that are equal in both stay.
    Means are compared as they are: an interval may still hold the order of two neighbours open.
    """
    sign = 1 if higher_is_better else -1

    def beats(one: Priced, other: Priced) -> bool:
        gain, saving = sign * (one.value - other.value), other.cost - one.cost
        return gain >= 0 and saving >= 0 and (gain > 0 or saving > 0)

    kept = [one for one in methods if not any(beats(other, one) for other in methods)]
    return sorted(kept, key=lambda one: (one.cost, sign * one.value))


def cost_axes(comparison: Mapping[str, Any]) -> list[tuple[str, str, Form]]:
    """Return the costs that were measured for any method."""
    return [axis for axis in COST_AXES if priced(comparison, axis[0])]
