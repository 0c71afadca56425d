"""Numbers as people write them: read exactly, as a fraction and what stands behind it.

No pattern here can backtrack: what repeats is possessive (`{0,9}+`), so that a text takes time in proportion to its length.
"""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from posttrain.graders.characters import plain_characters
from posttrain.graders.units import CODES, CURRENCIES, normalised_unit

LONGEST_NUMBER = 400
"""Characters of a number; a longer one is no answer, and slow to compute with."""
LARGEST_EXPONENT = 400
LONGEST_QUANTITY = 1_000
"""Characters that a number, its unit and the rest of its sentence may take; a longer text is no quantity."""

_GLYPHS = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5"}
_GLYPHS |= {"⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅑": "1/9", "⅒": "1/10"}
GLYPHS = "".join(_GLYPHS)
_MIXED = re.compile(rf"(?<=\d)\s{{0,9}}+([{GLYPHS}])")
_GLYPH = re.compile(f"[{GLYPHS}]")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")

_GROUPED = r"""
    [1-9]\d{0,2}+(?:,\d{3}){1,133}+(?:\.\d++)?                                     # 1,234.5
  | [1-9]\d?(?:,\d{2}(?=,)){1,99}+,\d{3}(?:\.\d++)?                        # 12,34,567
  | [1-9]\d{0,2}+(?:\.\d{3}){2,99}+(?:,\d++)?                                # 1.234.567
  | [1-9]\d{0,2}+(?:\.\d{3}){1,99}+,\d++                                     # 1.234,5
  | [1-9]\d{0,2}+(?P<apart>[ _'’\u00a0\u2009\u202f])\d{3}(?:(?P=apart)\d{3}){0,99}+(?:[.,]\d++)?   # 1 234 567.8
"""
_PLAIN = r"\d++\.\d++ | \d++ | \.\d++"
_DECIMAL_COMMA = r"0,\d++ | \d{1,400}+,(?:\d{4,400}+|\d{1,2}+(?!\d))"
_IS_DECIMAL_COMMA = re.compile(_DECIMAL_COMMA, re.VERBOSE)
_TIMES = r"\s{0,9}+(?:[x×*·]|\\times|\\cdot)\s{0,9}+10"
_POWER = r"\s{0,9}+(?:\^|\*\*)\s{0,9}+[{(]?\s{0,9}+"
_QUANTITY = re.compile(
    rf"""
    (?P<sign>[-+]?) \s{{0,9}}+
    (?: (?P<code>usd?|eur|gbp|jpy|inr|chf|cad|aud|rs\.?|kr\.?|[a-z]{{1,2}}(?=\$)) \s{{0,9}}+ )?
    (?P<currency>[{"".join(CURRENCIES)}]?) \s{{0,9}}+ (?P<late_sign>[-+]?)
    (?: (?P<whole>\d++) (?:\s{{1,9}}+|(?=[½-⅞¼-¾])) (?P<above>\d++) \s{{0,9}}+/\s{{0,9}}+ (?P<below>\d++)          # 1 1/2
      | (?P<number>{_GROUPED} | {_DECIMAL_COMMA} | {_PLAIN})
        (?: e(?P<exponent>[-+]?\d++)
          | {_TIMES}{_POWER}(?P<power>[-+]?\d++)\s{{0,9}}+[}})]?
          | {_TIMES}(?P<raised>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]++)
          | {_POWER}(?P<own_power>[-+]?\d++)\s{{0,9}}+[}})]?                                                          # 2^10
          | (?P<own_raised>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]++)
          | (?P<factorial>!)(?=\s{{0,9}}+\Z) )?
        (?: \s{{0,9}}+/\s{{0,9}}+ (?P<divisor>\d{{1,3}}+(?:,\d{{3}}){{1,133}}+(?:\.\d++)? | \d++(?:\.\d++)?) )?
    )
    (?![\d:/^]|[.,]\d|\s{{0,9}}+/\s{{0,9}}+\d|!\s{{0,9}}+!)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SIMPLE = re.compile(r"-?[0-9]{1,15}+(?:\.[0-9]{1,15}+)?")
"""What most answers are; read without the search below, three times as quickly."""
_RADIX = re.compile(r"(-?)0(?:x([0-9a-f]{1,99}+)|b([01]{1,330}+)|o([0-7]{1,130}+))", re.IGNORECASE)
_PERCENT = re.compile(r"\s{0,9}+(?:%|per\s?cent\b|pct\b\.?)", re.IGNORECASE)
_SCALE = re.compile(r"\s{0,9}+\b(hundred|thousand|million|billion|trillion)\b", re.IGNORECASE)
_SHORT_SCALE = re.compile(r"(k|M|mn|bn|tn)(?!\w)")
_SHORT_SCALE_OF_MONEY = re.compile(r"(k|m|mn|b|bn|tn)(?!\w)", re.IGNORECASE)
"""12k and 1.2M without a space; "5 M" may be molar and "300K" kelvin, but "$300K" is money."""
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALES |= {"k": 10**3, "m": 10**6, "mn": 10**6, "b": 10**9, "bn": 10**9, "tn": 10**12}
_SENTENCE = re.compile(r"[.!?;]\s{1,9}+(?=[^\W\d])|\n")
_UNIT_EXPONENT = re.compile(r"(?<=[a-z])(?:\^\{?[-+]?\d\}?|[-+]?[23](?![\d.]))|[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]")
_ARITHMETIC = re.compile(r"[\d=+*<>\\^_√π∞]|\s-\s|^\s?[einxyzk]\b(?!\.)|\bpi\b|\bsqrt\b|\bor\b(?!\sso\b)")
"""What makes a text behind a number more than a unit: further numbers, operators, variables, an alternative."""
_BRACKETED = re.compile(r"\s{0,9}+\(\s{0,9}+=?([^()]{1,80}+)\)[\s.,]{0,9}+")
_STEP = re.compile(r"\s{0,9}+([-+*/×x÷·])?\s{0,9}+[$€£]?(\d{1,15}+(?:\.\d{1,15}+)?)\s{0,9}+")


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
    are no decimals) points, decimal commas that can be no thousands, fractions, mixed numbers, 1.5e3 and 1.5 × 10³, powers
    (2^10), a factorial that ends the text (5!), 0x1F, and 12k, 1.2M, 3 million.
    """
    return _remembered(text) if len(text) <= 64 else _read(text)


def _read(text: str) -> Quantity | None:
    text = text.strip()
    if _SIMPLE.fullmatch(text):
        whole, _, decimals = text.partition(".")
        value = Fraction(int(whole + decimals), 10 ** len(decimals)) if decimals else Fraction(int(whole))
        return Quantity(value, "", True)
    if len(text) > LONGEST_QUANTITY:
        text = _SENTENCE.split(text[: LONGEST_QUANTITY + 1], maxsplit=1)[0]
        if len(text) > LONGEST_QUANTITY:
            return None
    if radix := _RADIX.fullmatch(text):
        return Quantity(_in_radix(radix), "", True)
    text = _without_glyphs(plain_characters(text))
    found = _QUANTITY.match(text)
    if found is None or found.end() > LONGEST_NUMBER:
        return None
    number = _value(found)
    return None if number is None else _with_unit(number, found, text[found.end() :])


def _with_unit(value: Fraction, found: "re.Match[str]", behind: str) -> Quantity:
    currency = _currency(found) if found["currency"] or found["code"] else ""
    if not behind:
        return Quantity(value, currency, True)
    rest = _SENTENCE.split(behind, maxsplit=1)[0]
    if scale := _SCALE.match(rest) or (_SHORT_SCALE_OF_MONEY if currency else _SHORT_SCALE).match(rest):
        value, rest = value * _SCALES[scale[1].lower()], rest[scale.end() :]
    percent = _PERCENT.match(rest)
    rest = rest[percent.end() :] if percent else rest
    if (worked := _BRACKETED.fullmatch(rest)) and worked_out(worked[1]) == value:  # 12 (5 + 7)
        rest = ""
    unit = "%" if percent else currency or normalised_unit(rest)
    return Quantity(value, unit, not rest or not _ARITHMETIC.search(_UNIT_EXPONENT.sub("", rest.casefold())))


_remembered = lru_cache(maxsize=65_536)(_read)


def _currency(found: "re.Match[str]") -> str:
    """Return the currency before a number: A$ and R$ are others than $."""
    code, sign = (found["code"] or "").casefold().rstrip("."), found["currency"]
    if sign == "$" and code not in ("", "us", "usd"):
        return f"{code}$"
    return CURRENCIES.get(sign, "") or CODES.get(code, code)


def _in_radix(found: "re.Match[str]") -> Fraction:
    digits, base = next((group, base) for group, base in zip(found.groups()[1:], (16, 2, 8), strict=True) if group)
    return Fraction(int(found[1] + digits, base))


def _without_glyphs(text: str) -> str:
    if text.isascii() or not _GLYPH.search(text):
        return text
    return _GLYPH.sub(lambda found: _GLYPHS[found[0]], _MIXED.sub(r" \1", text))


def _value(found: "re.Match[str]") -> Fraction | None:
    if found["sign"] and found["late_sign"]:
        return None
    is_negative = "-" in (found["sign"], found["late_sign"])
    value: Fraction | None
    if found["whole"]:
        above, below = int(found["above"]), int(found["below"])
        value = Fraction(int(found["whole"]) * below + above, below) if above < below else None
    elif found.lastgroup == "number":  # nothing behind it: no power, no divisor
        value = _decimal(found["number"], found["apart"])
    else:
        value = _scaled(_decimal(found["number"], found["apart"]), found)
        if value is not None and found["divisor"]:
            divisor = Fraction(found["divisor"].replace(",", ""))
            value = value / divisor if divisor else None
    return -value if is_negative and value is not None else value


def _scaled(value: Fraction, found: "re.Match[str]") -> Fraction | None:
    """Return a number times its power of ten, to its own power, or its factorial; None where that is too large or undefined."""
    of_ten = found["exponent"] or found["power"] or (found["raised"] or "").translate(_SUPERSCRIPTS)
    own = found["own_power"] or (found["own_raised"] or "").translate(_SUPERSCRIPTS)
    if found["factorial"]:
        is_small = value.denominator == 1 and value <= 170
        return Fraction(math.factorial(int(value))) if is_small else None
    if not of_ten and not own:
        return value
    if len(of_ten or own) > 6 or abs(exponent := int(of_ten or own)) > LARGEST_EXPONENT:
        return None
    if of_ten:
        return value * Fraction(10) ** exponent
    is_undefined = not value and exponent <= 0
    return None if is_undefined or len(found["number"]) * abs(exponent) > 4 * LONGEST_NUMBER else value**exponent


def worked_out(text: str) -> Fraction | None:
    """Return the value of a sum of products such as "5 + 7 * 2"; None where a text is anything else."""
    total, product, at, is_first = Fraction(0), Fraction(0), 0, True
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None or (step[1] is None and not is_first) or (is_first and step[1] not in (None, "-", "+")):
            return None
        number, at = Fraction(step[2]), step.end()
        if step[1] in ("/", "÷"):
            if not number:
                return None
            product /= number
        elif step[1] in ("*", "×", "x", "·"):
            product *= number
        else:
            total, product = total + product, -number if step[1] == "-" else number
        is_first = False
    return None if is_first else total + product


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
