"""Reading numbers: every style stands for its value, what is no single number is none, and units are compared, not converted."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.graders.markup import undressed
from posttrain.graders.quantity import normalised_unit, quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("+7", 7),
        ("-7", -7),
        ("\N{MINUS SIGN}7", -7),
        ("\N{EN DASH}7", -7),
        ("- 7", -7),
        ("007", 7),
        ("7.", 7),
        (".5", Fraction(1, 2)),
        ("1,234", 1234),
        ("1,234,567.89", Fraction(123456789, 100)),
        ("12,34,567", 1234567),
        ("1 234", 1234),
        ("1\u202f234\u202f567", 1234567),
        ("1'234", 1234),
        ("1’234.5", Fraction(12345, 10)),
        ("1_234", 1234),
        ("1.234.567", 1234567),
        ("1.234,5", Fraction(12345, 10)),
        ("1.234", Fraction(1234, 1000)),
        ("0,123", Fraction(123, 1000)),
        ("12,5", Fraction(25, 2)),
        ("3,1416", Fraction(31416, 10000)),
        ("3/4", Fraction(3, 4)),
        ("-3 / 4", Fraction(-3, 4)),
        ("1.5/2", Fraction(3, 4)),
        ("1 1/2", Fraction(3, 2)),
        ("-1 1/2", Fraction(-3, 2)),
        ("½", Fraction(1, 2)),
        ("1½", Fraction(3, 2)),
        ("2 ¾", Fraction(11, 4)),
        ("1.5e3", 1500),
        ("1.5E-3", Fraction(15, 10000)),
        ("1.5 × 10^3", 1500),
        ("1.5 x 10^{3}", 1500),
        ("1.5 * 10**3", 1500),
        ("1.5·10³", 1500),
        ("2 × 10⁻²", Fraction(1, 50)),
        ("10^6", 10**6),
        ("10^{-2}", Fraction(1, 100)),
        ("$5", 5),
        ("-$5", -5),
        ("$-5", -5),
        ("US$5", 5),
        ("€5.50", Fraction(11, 2)),
        ("5 million", 5_000_000),
        ("1.5 thousand dollars", 1500),
        ("12.5 %", Fraction(25, 2)),
        ("1/0", None),
        ("--5", None),
        ("-$-5", None),
        ("12:30", None),
        ("2^3", 8),
        ("1/2/3", None),
        ("3/4/2020", None),
        ("1 3/2", None),
        ("1e999999999", None),
        ("10^999999", None),
        ("apples", None),
        ("", None),
        ("v1", None),
    ],
)
def test_a_style_and_its_value(text, value):
    read = quantity(text)
    assert (read and read.value) == value
    if read:
        assert read.is_clean


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("14", ""),
        ("14 apples", "apple"),
        ("14 apples in all", "apple"),
        ("14 in all", ""),
        ("14 in", "inch"),
        ("5 Kilometers", "km"),
        ("5km", "km"),
        ("60 miles per hour", "mph"),
        ("60 mph", "mph"),
        ("5 m^2", "m^2"),
        ("5 m²", "m^2"),
        ("5 m^{2}", "m^2"),
        ("90°", "degree"),
        ("90 degrees", "degree"),
        ("$5", "dollar"),
        ("5 dollars.", "dollar"),
        ("€5", "euro"),
        ("5%", "%"),
        ("5 per cent", "%"),
        ("5 percent", "%"),
        ("5 feet (about)", "foot"),
        ("5. That is all.", ""),
        ("5 glass", "glass"),
    ],
)
def test_units(text, unit):
    assert quantity(text).unit == unit


@pytest.mark.parametrize(
    "text",
    [
        "5 or 6",
        "12 + 2",
        "14 = 7 * 2",
        "5, 6, 7",
        "14 (12 and 2)",
        "5 - 3",
        "3 < 4",
        "2\\pi",
        "2π",
        "2 pi",
        "3x",
        "3 x",
        "3i",
        "2√3",
        "2x^2",
    ],
)
def test_more_numbers_behind_a_number_make_it_no_answer(text):
    assert not quantity(text).is_clean


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("$5$", "5"),
        ("$5", "$5"),
        ("\\$5", "$5"),
        ("$\\$5$", "$5"),
        ("\\(5\\)", "5"),
        ("\\[ 5 \\]", "5"),
        ("\\text{Paris}", "Paris"),
        ("\\textbf{\\text{Paris}}", "Paris"),
        ("\\frac{1}{2}", "1/2"),
        ("\\frac12", "1/2"),
        ("-\\dfrac{3}{4}", "-3/4"),
        ("1\\frac{1}{2}", "1 1/2"),
        ("50\\%", "50%"),
        ("1{,}234\\,", "1,234"),
        ("1,\\!234", "1,234"),
        ("1\\,234", "1 234"),
        ("5\\ \\text{km}", "5 km"),
        ("90^\\circ", "90°"),
        ("90^{\\circ}", "90°"),
        ("\\frac{\\sqrt{3}}{2}", "\\frac{\\sqrt{3}}{2}"),
        ("no markup", "no markup"),
    ],
)
def test_dressing_is_taken_off(text, plain):
    assert undressed(text) == plain


@given(st.text(max_size=80))
def test_no_text_breaks_reading(text):
    read = quantity(undressed(text))
    assert read is None or isinstance(read.value, Fraction)
    assert normalised_unit(normalised_unit(text)) is not None


@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_decimals_are_exact(number, places):
    digits = str(abs(number)).rjust(places + 1, "0")
    text = ("-" if number < 0 else "") + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)
    assert quantity(text).value == Fraction(number, 10**places)


def test_four_hundred_digits_are_a_number_and_one_more_is_none():
    assert quantity("9" * 400).value == 10**400 - 1
    assert quantity("9" * 401) is None
