"""Figures by name, as metrics and reports hold them."""

from collections.abc import Mapping, Sequence

from posttrain.statistics.intervals import Interval


def mean(values: Sequence[float]) -> float:
    """Return the mean, added up in the order of the values, so that it rounds the same everywhere.

    Raises:
        ZeroDivisionError: there is none; undefined is never 0.
    """
    return sum(values) / len(values)


def flattened(figures: Mapping[str, Interval | float | None]) -> dict[str, float]:
    """Return figures as metrics: an interval becomes `name`, `name_low` and `name_high`, what is None is left out."""
    flat: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, Interval):
            flat |= {name: value.estimate, f"{name}_low": value.low, f"{name}_high": value.high}
        elif value is not None:
            flat[name] = value
    return flat
