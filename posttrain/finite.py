"""Values of others: whether they are numbers, and how they are shown."""

import math


def is_finite(value: float) -> bool:
    """Return whether a number is a float's size, and neither infinite nor NaN.

    `math.isfinite` raises for a whole number of more than 309 digits, which JSON and programs may hold.
    """
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def shown_value(value: object, *, longest: int = 60) -> str:
    """Return a value as an error shows it; Python refuses to write out a whole number of more than 4,300 digits."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
