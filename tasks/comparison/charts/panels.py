"""Small multiples: panels of one size side by side, as many in a row as the width holds, with axes that agree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.pages.theme import NARROW

FACTORS = {"seconds": 1 / 60, "train_seconds": 1 / 60}
"""By key of the JSON, from its unit to that of its axis: minutes."""

MOST_TICKS = 6
PLAIN = "abs(datum.value) < 1 ? format(datum.value, '~g') : datum.label"
"""Vega's expression for a tick: vega would write 0.1 minutes as 100m, and 0 as 0M."""


@dataclass(frozen=True)
class Axis:
    """A scale with its ends, known here so that labels can be laid out.

    Attributes:
        kind: of vega-lite: linear, log or sqrt.
        low, high: ends of the domain.
    """

    kind: str
    low: float
    high: float

    def place(self, value: float) -> float:
        """Return where a value lies between the ends, from 0 to 1."""
        turn = {"log": math.log, "sqrt": math.sqrt}.get(self.kind, float)
        low, high = turn(self.low), turn(self.high)
        return (turn(value) - low) / (high - low) if high > low else 0.5

    def values(self) -> list[float] | None:
        """Return where a logarithmic axis has ticks: 1, 2 and 5, or where that is crowded powers of ten; None for other axes."""
        if self.kind != "log":
            return None
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        held = [step * 10.0**power for power in powers for step in (1, 2, 5) if self.low <= step * 10.0**power <= self.high]
        whole = [value for value in held if math.log10(value) % 1 < 1e-9]
        return held if len(held) <= MOST_TICKS or len(whole) < 2 else whole

    def scale(self, alt: Any) -> Any:
        """Return the scale for altair."""
        return alt.Scale(type=self.kind, domain=[self.low, self.high], nice=False, zero=False)


def cost_axis(values: Sequence[float]) -> Axis:
    """Return an axis for amounts: by powers of ten where they span more than a factor of 20, by roots where some are nothing."""
    positive = [value for value in values if value > 0]
    largest, smallest = max(positive, default=1.0), min(positive, default=1.0)
    is_wide = largest / smallest > 20
    if is_wide and len(positive) == len(values):
        return Axis("log", smallest / 1.6, largest * 1.6)
    return Axis("sqrt" if is_wide else "linear", 0.0, largest * 1.12)


def level_axis(values: Sequence[float]) -> Axis:
    """Return an axis for levels: from the lowest to the highest, with room."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return Axis("linear", low - room, high + room)


def layout(width: int, panels: int, *, most: int, axis: int = 58) -> tuple[int, int]:
    """Return (panels in a row, inner width of a panel) for a figure of `width` pixels.

    Args:
        width: of the whole figure.
        panels: how many there are.
        most: panels in a row on a desk; a phone has one.
        axis: pixels that the labels of a panel's axis take.
    """
    row = 1 if width <= NARROW else min(most, panels)
    return row, int((width - 10) / row) - axis


def ticks(alt: Any, axis: Axis, *, labels: bool = True) -> Any:
    """Return the axis of an amount: few ticks, with k and M for large numbers."""
    given = {"values": axis.values()} if axis.values() else {"tickCount": 4}
    # vega gives every tick the prefix of the largest, and would write 0M
    return alt.Axis(format="~s", labels=labels, labelOverlap=True, **given, labelExpr=PLAIN)


def arranged(alt: Any, panels: Sequence[Any], row: int, config: dict[str, Any], *, gap: int = 18) -> Any:
    """Return panels as one chart."""
    return alt.concat(*panels, columns=row, spacing=gap).properties(padding=4).configure(**config)
