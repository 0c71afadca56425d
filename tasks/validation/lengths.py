"""How long the rows of a file are, and how many tokens `model.context` would have to be for the gate to let it through."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.data.lengths import Lengths
from tasks.validation.suite import Expectation

LENGTHS = "lengths.json"
"""Of the stage `validate`: by role, how many rows that passed have how many tokens."""
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


def lengths_of(facts: Mapping[str, Any], lines: Collection[int]) -> dict[str, dict[int, int]]:
    """Return how many rows have how many tokens, by `completions` (those that have one) and `prompts`.

    Args:
        facts: a column a fact; none for a file without rows.
        lines: that are put aside, and not counted.
    """
    if "prompt_tokens" not in facts:
        return {}
    is_kept = np.ones(len(facts["prompt_tokens"]), dtype=bool)
    is_kept[[line - 1 for line in lines]] = False
    told = {}
    for kind, column in (("completions", "completion_tokens"), ("prompts", "prompt_tokens")):
        tokens, rows = np.unique(facts[column][is_kept], return_counts=True)
        told[kind] = {int(one): int(many) for one, many in zip(tokens, rows, strict=True) if one}
    return told


def lengths_in(folder: Path) -> Lengths:
    """Return how long completions and prompts are in the rows that a gate let through, by what it wrote."""
    return Lengths.of_roles(json.loads((folder / LENGTHS).read_text(encoding="utf-8")))
