"""Numbers as people write them: read exactly, as a fraction and what stands behind it."""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

LONGEST_NUMBER = 400
"""Characters of a number; a longer one is no answer, and slow to compute with."""
LARGEST_EXPONENT = 400

_GLYPHS = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5"}
_GLYPHS |= {"⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅑": "1/9", "⅒": "1/10"}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee"}

_GROUPED = r"""
    [1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?                                       # 1,234.5
  | [1-9]\d?(?:,\d{2})+,\d{3}(?:\.\d+)?                                     # 12,34,567
  | [1-9]\d{0,2}(?:\.\d{3}){2,}(?:,\d+)? | [1-9]\d{0,2}(?:\.\d{3})+,\d+     # 1.234.567 and 1.234,5
  | [1-9]\d{0,2}(?P<apart>[ _'’\u00a0\u2009\u202f])\d{3}(?:(?P=apart)\d{3})*(?:[.,]\d+)?   # 1 234 567.8
"""
_PLAIN = r"\d+\.\d+ | \d+ | \.\d+"
_DECIMAL_COMMA = r"0,\d+ | \d+,(?:\d{1,2}|\d{4,})"
_IS_DECIMAL_COMMA = re.compile(_DECIMAL_COMMA, re.VERBOSE)
_QUANTITY = re.compile(
    rf"""
    (?P<sign>[-+]?) \s* (?:us|usd|eur)? (?P<currency>[$€£¥₹]?) \s* (?P<late_sign>[-+]?)
    (?: (?P<whole>\d+) (?:\s+|(?=[½-⅞¼-¾])) (?P<above>\d+) \s*/\s* (?P<below>\d+)                   # 1 1/2
      | (?P<number>{_GROUPED} | {_DECIMAL_COMMA} | {_PLAIN})
        (?: e(?P<exponent>[-+]?\d+)
          | \s*(?:[x×*·]|\\times|\\cdot)\s*10\s*(?:\^|\*\*)\s*[{{(]?\s*(?P<power>[-+]?\d+)\s*[}})]?
          | \s*(?:[x×*·]|\\times|\\cdot)\s*10(?P<raised>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)
          | (?P<of_ten>(?<![\d.,]10)(?<=10)\s*(?:\^|\*\*)\s*[{{(]?\s*[-+]?\d+\s*[}})]?) )?
        (?: \s*/\s* (?P<divisor>\d[\d,]*(?:\.\d+)?) )?
    )
    (?![\d:/^]|[.,]\d|\s*/\s*\d)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SIMPLE = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
"""What most answers are; read without the search below, three times as quickly."""
_PERCENT = re.compile(r"\s*(?:%|per\s?cent\b|pct\b\.?)", re.IGNORECASE)
_SCALE = re.compile(r"\s*\b(thousand|million|billion|trillion)\b", re.IGNORECASE)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_TAIL = re.compile(
    r"(?:^|\s+)(?:\(|(?:in|left|total|altogether|each|of|for|to|that|and|or|remaining|on|at|from|by|because|since|as|which|so|is|are|was)\b).*$",
    re.DOTALL,
)
"""What follows a unit without being part of it: "14 apples in all"."""
_SENTENCE = re.compile(r"[.!?;]\s+(?=[^\W\d])|\n")
_UNIT_EXPONENT = re.compile(r"(?<=[a-z])(?:\^\{?[-+]?\d\}?|[-+]?[23](?![\d.]))|[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]")
_ARITHMETIC = re.compile(r"[\d=+*<>\\^_√π∞]|\s-\s|^\s?[einxyzk]\b(?!\.)|\bpi\b|\bsqrt\b")

_UNITS = {
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
    **dict.fromkeys(("pound", "lb"), "pound"),
    **dict.fromkeys(("ounce", "oz"), "ounce"),
    **dict.fromkeys(("inch", "inches", '"'), "inch"),
    **dict.fromkeys(("foot", "feet", "ft"), "foot"),
    **dict.fromkeys(("yard", "yd"), "yard"),
    **dict.fromkeys(("degree", "deg", "°"), "degree"),
    **dict.fromkeys(("dollar", "usd", "buck"), "dollar"),
    **dict.fromkeys(("euro", "eur"), "euro"),
    **dict.fromkeys(("cent", "ct"), "cent"),
}
"""Spellings of one unit. Units are compared, never converted: 5 km is not 5000 m."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and what stands behind it.

    Attributes:
        value: exact, per cent not divided: "12.5 %" is 25/2.
        unit: normalised ("%", "km", "apple"); "" where the number stands alone.
        is_clean: behind the number there is at most a unit: no more numbers ("5 or 6"), no arithmetic, no variable.
    """

    value: Fraction
    unit: str
    is_clean: bool


def quantity(text: str) -> Quantity | None:
    """Return the number that `text` starts with and its unit; None where it starts with none.

    Read are signs, currencies, thousands apart by comma, space, apostrophe, underscore or (where another mark shows that they
    are no decimals) points, decimal commas that can be no thousands, fractions, mixed numbers, 1.5e3 and 1.5 × 10³.
    """
    return _remembered(text) if len(text) <= 64 else _read(text)


def _read(text: str) -> Quantity | None:
    text = text.strip()
    if _SIMPLE.fullmatch(text):
        whole, _, decimals = text.partition(".")
        value = Fraction(int(whole + decimals), 10 ** len(decimals)) if decimals else Fraction(int(whole))
        return Quantity(value, "", True)
    text = _without_glyphs(text)
    found = _QUANTITY.match(text)
    if found is None or found.end() > LONGEST_NUMBER:
        return None
    read = _value(found)
    if read is None:
        return None
    value = read
    rest = _SENTENCE.split(text[found.end() :], maxsplit=1)[0]
    if scale := _SCALE.match(rest):
        value, rest = value * _SCALES[scale[1].lower()], rest[scale.end() :]
    percent = _PERCENT.match(rest)
    behind = rest[percent.end() :] if percent else rest
    unit = "%" if percent else _CURRENCIES.get(found["currency"], "") or normalised_unit(behind)
    is_clean = not behind or not _ARITHMETIC.search(_UNIT_EXPONENT.sub("", behind.casefold()))
    return Quantity(value, unit, is_clean)


_remembered = lru_cache(maxsize=65_536)(_read)


def _without_glyphs(text: str) -> str:
    if text.isascii():
        return text
    text = text.replace("\N{MINUS SIGN}", "-").replace("\N{FRACTION SLASH}", "/")
    if text[:1] in ("\N{EN DASH}", "\N{HYPHEN}", "\N{NON-BREAKING HYPHEN}"):
        text = "-" + text[1:]
    for glyph, written in _GLYPHS.items():
        if glyph in text:
            text = re.sub(rf"(?<=\d)\s*{glyph}", f" {written}", text).replace(glyph, written)
    return text


def _value(found: "re.Match[str]") -> Fraction | None:
    if found["sign"] and found["late_sign"]:
        return None
    is_negative = "-" in (found["sign"], found["late_sign"])
    if found["whole"]:
        above, below = int(found["above"]), int(found["below"])
        if not above < below:
            return None
        value = int(found["whole"]) + Fraction(above, below)
    else:
        value = _decimal(found["number"], found["apart"])
        written = found["exponent"] or found["power"] or (found["raised"] or "").translate(_SUPERSCRIPTS)
        if found["of_ten"]:  # 10 itself is the mantissa
            written = str(int(re.sub(r"[^-+\d]", "", found["of_ten"])) - 1)
        if written:
            if abs(int(written)) > LARGEST_EXPONENT:
                return None
            value *= Fraction(10) ** int(written)
        if found["divisor"]:
            divisor = Fraction(found["divisor"].rstrip(",").replace(",", ""))
            if not divisor:
                return None
            value /= divisor
    return -value if is_negative else value


def _decimal(text: str, apart: str | None) -> Fraction:
    """Return the number that digits and separators write."""
    if apart:
        text = text.replace(apart, "").replace(",", ".")
    elif "," in text:
        if 0 <= text.find(".") < text.find(",") or _IS_DECIMAL_COMMA.fullmatch(text):
            text = text.replace(".", "").replace(",", ".")  # points, where there are any, group the thousands
        else:
            text = text.replace(",", "")
    elif text.count(".") > 1:
        text = text.replace(".", "")
    if "." not in text:
        return Fraction(int(text))
    whole, _, decimals = text.partition(".")
    return Fraction(int(whole + decimals), 10 ** len(decimals))


def normalised_unit(text: str) -> str:
    """Return a unit in lower case, singular and by one name: "Kilometers" and "km" are one, so are "apple" and "apples"."""
    unit = " ".join(text.casefold().strip(" \t.,;:!?'`*_~)]}").split())
    if unit == "in":
        return "inch"
    unit = _TAIL.sub("", unit).rstrip(" .,;:!?")
    if not unit:
        return ""
    unit = unit.replace("^{", "^").replace("²", "^2").replace("³", "^3").rstrip("}")
    if unit in _UNITS:
        return _UNITS[unit]
    singular = unit[:-1] if len(unit) > 2 and unit.endswith("s") and not unit.endswith("ss") else unit
    if " per " in unit:
        first, _, last = unit.partition(" per ")
        singular = f"{first[:-1] if first.endswith('s') else first} per {last}"
    return _UNITS.get(singular, singular)
