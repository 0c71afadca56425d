import pytest

from posttrain.comparison import numbers
from posttrain.comparison.numbers import Scale, scale_of
from tests.fabricated_comparison import comparison, logs, loss

POINTS = Scale(100, 1, "%", "points")


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (POINTS.level, 0.9514, "95.1"),
        (POINTS.level, {"estimate": 0.9514, "low": 0.9396, "high": 0.961}, "95.1 [94.0, 96.1]"),
        (POINTS.gain, {"estimate": 0.031, "low": -0.002, "high": 0.064}, "+3.1 [−0.2, 6.4]"),
        (POINTS.gain, {"estimate": -0.031, "low": None, "high": None}, "−3.1"),
        (POINTS.signed, -0.0004, "0.0"),  # rounds to nothing, so it has no sign
        (POINTS.signed, 0.0004, "0.0"),
        (POINTS.effect, 0.041, "4.1 points"),
        (Scale(1, 3, "", "").effect, 0.0412, "0.041"),
        (numbers.share, {"estimate": 0.5, "low": 0.25, "high": 0.75}, "50.0 [25.0, 75.0] %"),
        (numbers.percent, 0.991, "99.1"),
        (numbers.count, 3_991, "3,991"),
        (numbers.count, 3_990.4, "3,990"),
        (numbers.count, 99.4, "99.4"),
        (numbers.amount, 0, "0"),
        (numbers.amount, 950, "950"),
        (numbers.amount, 999_400, "999 k"),
        (numbers.amount, 999_600, "1.00 M"),  # three figures of 999.6 thousand are 1000
        (numbers.amount, 1_234_567, "1.23 M"),
        (numbers.amount, 3.2e15, "3.20 × 10¹⁵"),
        (numbers.power, 1.234e-3, "1.23 × 10⁻³"),
        (numbers.minutes, 738, "12.3"),  # 738 / 60 = 12.3
        (numbers.minutes, 12_600, "210"),
        (numbers.minutes, 5_999, "100.0"),
        (numbers.minutes, 6_000, "100"),
        (numbers.minutes, 6, "0.1"),
        (numbers.minutes, 2.4, "0.04"),  # an SFT of the tiny base is no "0.0"
        (numbers.minutes, 0, "0"),
        (numbers.duration, 34, "34 s"),
        (numbers.duration, 738, "12.3 min"),
        (numbers.duration, 8_640, "2.4 h"),
        (numbers.probability, 0.0004, "< 0.001"),
        (numbers.probability, 0.0321, "0.032"),
        (numbers.decimal, -0.2, "−0.200"),
        (numbers.decimal, 0.03456, "0.0346"),
        (numbers.decimal, 123.4, "123"),
        (numbers.decimal, 7, "7"),
    ],
)
def test_each_form_writes(form, value, text):
    assert form(value) == text


def test_the_scale_is_that_of_the_unit():
    assert scale_of(comparison()) == POINTS
    assert scale_of(loss()) == Scale(1, 3, "nats", "nats")
    assert scale_of(logs()) == POINTS


@pytest.mark.parametrize(("level", "digits"), [(0.8, 3), (7.2, 2), (61.0, 1)])
def test_a_score_has_as_many_digits_as_its_size_leaves(level, digits):
    made = comparison()
    made["design"]["unit"] = "score"
    for one in made["methods"]:
        one["mean"] = {"estimate": level, "low": level, "high": level}
    assert scale_of(made) == Scale(1, digits, "", "")
