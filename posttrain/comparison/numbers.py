"""How the numbers of a comparison are written: one form for each kind of quantity, in a table, on an axis and in a sentence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Form = Callable[[Any], str]
"""Writes a value of the comparison's JSON: a number, or an interval `{estimate, low, high}`."""

NOTHING = "–"
"""Stands where the JSON has null."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Scale:
    """How values of the primary metric are written.

    Attributes:
        factor: by which a value of the JSON is multiplied.
        digits: behind the decimal point.
        level_unit: of a level: "%", "nats" or "".
        gain_unit: of a difference: "points", "nats" or "".
    """

    factor: float
    digits: int
    level_unit: str
    gain_unit: str

    def plain(self, value: float) -> str:
        """Return a level without its unit: "95.1"."""
        return _fixed(value * self.factor, self.digits)

    def signed(self, value: float) -> str:
        """Return a difference without its unit: "+3.1", "−0.4"; what rounds to nothing has no sign."""
        return _fixed(value * self.factor, self.digits, sign=True)

    def level(self, value: Mapping[str, float] | float) -> str:
        """Return a level, with its interval if it has one: "95.1 [94.0, 96.1]"."""
        return _ranged(value, self.plain)

    def gain(self, value: Mapping[str, float] | float) -> str:
        """Return a difference, with its interval if it has one: "+3.1 [1.0, 5.2]"; bounds bear a sign where they need one."""
        if not isinstance(value, Mapping):
            return self.signed(value)
        return f"{self.signed(value['estimate'])} {bounds(value, self.plain)}".rstrip()

    def effect(self, value: float) -> str:
        """Return the size of a difference with its unit: "4.1 points"."""
        return f"{self.plain(value)} {self.gain_unit}".rstrip()


def scale_of(comparison: Mapping[str, Any]) -> Scale:
    """Return how the primary metric of a comparison is written.

    A share is told in per cent and its differences in points; nats have three digits; any other score has as many as leave three
    or four figures in its largest level.
    """
    unit = comparison["design"]["unit"]
    if unit == "share":
        return Scale(100, 1, "%", "points")
    if unit == "nats":
        return Scale(1, 3, "nats", "nats")
    largest = max((abs(one["mean"]["estimate"]) for one in comparison["methods"] if one.get("mean")), default=1.0)
    return Scale(1, 3 if largest < 2 else 2 if largest < 20 else 1, "", "")


def share(value: Mapping[str, float] | float) -> str:
    """Return a share in per cent: "62.5 %", or "62.5 [60.1, 64.9] %"."""
    return f"{_ranged(value, lambda one: _fixed(one * 100, 1))} %"


def percent(value: Mapping[str, float] | float) -> str:
    """Return a share in per cent without the sign, for a column whose head has it: "62.5 [60.1, 64.9]"."""
    return share(value).removesuffix(" %")


def count(value: float) -> str:
    """Return a number of things: "3,991"; a mean over seeds that is small and not whole has one digit."""
    return f"{value:,.0f}" if abs(value) >= 100 or abs(value - round(value)) < 0.05 else f"{value:,.1f}"


def amount(value: float) -> str:
    """Return a large number of things with three figures: "480 k", "1.23 M", "950"."""
    if abs(value) >= 1e15:
        return power(value)
    # 999.6 thousand would be written 1000 k, so the next prefix takes what rounds up to it
    for size, prefix in _PREFIXES:
        if abs(value) >= 0.9995 * size:
            return f"{_figures(value / size)} {prefix}"
    return _figures(value)


def power(value: float) -> str:
    """Return a number as a power of ten: "1.23 × 10¹⁵"; nothing is "0"."""
    if not value:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def minutes(seconds: float) -> str:
    """Return seconds as minutes: "0.04", "0.4", "12.3", "210"; none are "0"."""
    if not seconds:
        return "0"
    return _fixed(seconds / 60, 2 if seconds < 6 else 1 if seconds < 6_000 else 0)


def duration(seconds: float) -> str:
    """Return a time with its unit: "34 s", "12.3 min", "2.4 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3_600 else f"{seconds / 3_600:.1f} h"


def probability(value: float) -> str:
    """Return a p-value: "0.032", or "< 0.001"."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def decimal(value: Mapping[str, float] | float) -> str:
    """Return a number of no particular unit with three figures, such as a KL divergence in nats."""
    return _ranged(value, _figures)


def bounds(value: Mapping[str, float], form: Form) -> str:
    """Return the two ends of an interval: "[1.0, 5.2]"; "" where they are undefined."""
    if value.get("low") is None or value.get("high") is None:
        return ""
    return f"[{form(value['low'])}, {form(value['high'])}]"


def _ranged(value: Mapping[str, float] | float, form: Form) -> str:
    return f"{form(value['estimate'])} {bounds(value, form)}".rstrip() if isinstance(value, Mapping) else form(value)


def _fixed(value: float, digits: int, *, sign: bool = False) -> str:
    """Return a number with a true minus; zero is never negative, and never signed."""
    rounded = round(value, digits) + 0.0
    if not rounded:
        return f"{0:.{digits}f}"
    text = f"{rounded:+.{digits}f}" if sign else f"{rounded:.{digits}f}"
    return text.replace("-", "−")


def _figures(value: float) -> str:
    """Return three significant figures, without an exponent for what tables hold."""
    if not value:
        return "0"
    rounded = float(f"{value:.3g}")
    is_whole = abs(rounded) >= 100 or (rounded == value and value == round(value))
    return (f"{rounded:.0f}" if is_whole else f"{rounded:#.3g}").replace("-", "−")
