"""How many tokens `model.context` would have to be for the gate to let a file through: told where rows are too long for it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.validation.suite import Expectation

STEP = 64
"""A context is proposed in whole steps of so many tokens."""


def context_needed(
    facts: Mapping[str, Any], suite: Sequence[Expectation], reasons: Mapping[int, list[str]], *, share: float
) -> int:
    """Return the smallest `model.context`, in steps of `STEP`, that holds enough rows; 0 where none would open the gate.

    Args:
        facts: a column a fact.
        suite: the expectations; those whose `max_value` is the parameter `context` are limits.
        reasons: against each critical line, as the judge gives them. Lines that something else speaks against use up the share.
        share: of the rows that may be critical.
    """
    limits = [one for one in suite if one.kwargs.get("max_value") == {"$PARAMETER": "context"}]
    too_long = tuple(one.says for one in limits)
    others = sum(any(not reason.startswith(too_long) for reason in of_line) for of_line in reasons.values())
    needed = 0
    for limit in limits:
        lengths = np.sort(facts[limit.kwargs["column"]])[::-1]
        allowed = int(share * len(lengths)) - others
        if allowed < 0:
            return 0
        if allowed < len(lengths):
            needed = max(needed, int(lengths[allowed]) + bool(limit.kwargs.get("strict_max")))
    return -(-needed // STEP) * STEP
