"""Units by one name each. They are compared, never converted: 5 km is not 5000 m, 50 cents are not $0.50, 2 dozen are not 24."""

import re

CURRENCIES = {
    "$": "dollar",
    "€": "euro",
    "£": "pound",
    "¥": "yen",
    "₹": "rupee",
    "₩": "won",
    "₽": "rouble",
    "₺": "lira",
    "₫": "dong",
}
CODES = {"us": "dollar", "usd": "dollar", "eur": "euro", "gbp": "pound", "jpy": "yen", "inr": "rupee", "rs": "rupee"}
"""Names before an amount; others (CHF, kr) are their own unit."""

_ENDS = re.compile(
    r"(?:^|\s)(?:\(|(?:in|left|total|altogether|each|of|for|to|that|and|remaining|on|at|from|by|because|since|as|which|so|is|are|was)\b)"
)
"""What follows a unit without being part of it: "14 apples in all"."""
_DROPPED_E = ("xe", "she", "che", "sse", "ze", "oe")
"""How a plural in -es ends without its s: boxe(s), dishe(s)."""

UNITS = {
    **dict.fromkeys(("metre", "meter", "m"), "m"),
    **dict.fromkeys(("centimetre", "centimeter", "cm"), "cm"),
    **dict.fromkeys(("millimetre", "millimeter", "mm"), "mm"),
    **dict.fromkeys(("kilometre", "kilometer", "km"), "km"),
    **dict.fromkeys(("gram", "gramme", "g"), "g"),
    **dict.fromkeys(("milligram", "mg"), "mg"),
    **dict.fromkeys(("kilogram", "kilo", "kg"), "kg"),
    **dict.fromkeys(("litre", "liter", "l"), "l"),
    **dict.fromkeys(("millilitre", "milliliter", "ml"), "ml"),
    **dict.fromkeys(("second", "sec", "s"), "s"),
    **dict.fromkeys(("minute", "min"), "min"),
    **dict.fromkeys(("hour", "hr", "h"), "h"),
    **dict.fromkeys(("kilometre per hour", "kilometer per hour", "km/h", "kph", "kmh", "km/hr", "km per hour"), "km/h"),
    **dict.fromkeys(("mile per hour", "mph", "mile/hour"), "mph"),
    **dict.fromkeys(("pound", "lb", "£"), "pound"),
    **dict.fromkeys(("ounce", "oz"), "ounce"),
    **dict.fromkeys(("inch", "inches", '"'), "inch"),
    **dict.fromkeys(("foot", "feet", "ft"), "foot"),
    **dict.fromkeys(("yard", "yd"), "yard"),
    **dict.fromkeys(("degree", "deg", "°"), "degree"),
    **dict.fromkeys(("dollar", "usd", "buck", "$"), "dollar"),
    **dict.fromkeys(("euro", "eur", "€"), "euro"),
    **dict.fromkeys(("cent", "ct"), "cent"),
    **dict.fromkeys(("yen", "¥"), "yen"),
    **dict.fromkeys(("rupee", "₹"), "rupee"),
}
"""Spellings of one unit."""


def normalised_unit(text: str) -> str:
    """Return a unit in lower case, singular and by one name: "Kilometers" and "km" are one, so are "box" and "boxes"."""
    unit = " ".join(text.casefold().strip(" \t.,;:!?'`*_~)]}").split())
    if unit == "in":
        return "inch"
    ends = _ENDS.search(unit)
    unit = (unit[: ends.start()] if ends else unit).rstrip(" .,;:!?")
    if not unit:
        return ""
    unit = unit.replace("^{", "^").replace("²", "^2").replace("³", "^3").rstrip("}")
    if unit in UNITS:
        return UNITS[unit]
    if " per " in unit:
        first, _, last = unit.partition(" per ")
        unit = f"{first[:-1] if first.endswith('s') else first} per {last}"
        return UNITS.get(unit, unit)
    singular = unit[:-1] if len(unit) > 2 and unit.endswith("s") and not unit.endswith("ss") else unit
    return UNITS[singular] if singular in UNITS else _stem(singular)


def _stem(singular: str) -> str:
    """Return one form for both numbers of a noun in -x, -sh, -ch, -ss, -o or -y: only ever compared, never shown."""
    if len(singular) > 3 and singular.endswith("ie"):
        return singular[:-2] + "y"
    return singular[:-1] if len(singular) > 3 and singular.endswith(_DROPPED_E) else singular
