"""What is told of a judge, and when its labels are refused."""

import random

import pytest

from posttrain.errors import ContractError
from posttrain.judges.opinions import both_orders
from posttrain.judges.quality import JudgedPair, check_judge, figures_of

LIMITS = {"max_flips": 0.9, "min_conviction": 0.01, "max_unreadable": 0.1}


def pair(question, forward, backward, gold=None, lengths=(10, 10)):
    said = {"entropies": (0.5, 0.7), "masses": (1.0, 0.8), "gold": gold}
    return JudgedPair(question, *lengths, both_orders(forward, backward), forward, backward, **said)


def swapped(one):
    return JudgedPair(
        one.question, one.second_length, one.first_length, None if one.preference is None else 1 - one.preference, one.backward,
        one.forward, one.entropies[::-1], one.masses[::-1], None if one.gold is None else 1 - one.gold,
    )  # fmt: skip


PAIRS = [
    pair("q0", 0.9, 0.2, gold=1.0, lengths=(20, 10)),  # 0.85, right, no flip, longer
    pair("q0", 0.8, 0.6, gold=0.0, lengths=(10, 30)),  # 0.6, wrong, flip, shorter
    pair("q1", 0.4, 0.7, gold=0.0, lengths=(10, 12)),  # 0.35, right, no flip, longer
    pair("q2", 0.6, 0.6, gold=0.5, lengths=(10, 20)),  # 0.5: says nothing, flip
    JudgedPair("q3", 10, 20, None, masses=(0.0, 1.0)),
]


def test_figures_by_hand():
    figures = figures_of(PAIRS)
    assert figures.pairs == 4 and figures.unreadable_share == pytest.approx(1 / 5)
    # q0 is right in 1 of 2, q1 in 1 of 1, q2 has no better one: 2 of 3
    assert figures.accuracy.estimate == pytest.approx(2 / 3)
    assert figures.flip_share == pytest.approx(2 / 4)
    # means of both orders 0.55, 0.7, 0.55, 0.6: 0.6 in all
    assert figures.position_bias == pytest.approx(0.1)
    assert figures.longer_share == pytest.approx(2 / 3), "of the three that differ in length and are decided"
    assert figures.conviction == pytest.approx((0.35 + 0.1 + 0.15 + 0) / 4)
    assert figures.entropy == pytest.approx(0.6) and figures.option_mass == pytest.approx((4 * 1.8 + 1.0) / 10)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_a_pair_is_in_no_figure(seed):
    draw = random.Random(seed)
    turned = figures_of([swapped(one) if draw.random() < 0.5 else one for one in PAIRS])
    for name, value in vars(figures_of(PAIRS)).items():
        other = getattr(turned, name)
        assert (
            other.as_dict() == pytest.approx(value.as_dict()) if name == "accuracy" else other == pytest.approx(value, abs=1e-12)
        )


def test_what_cannot_be_told_is_left_out():
    figures = figures_of([JudgedPair("q", 5, 5, 0.8), JudgedPair("r", 5, 5, 0.7)])
    assert figures.accuracy is figures.flip_share is figures.position_bias is figures.longer_share is None
    assert set(figures.as_dict()) == {"pairs", "unreadable_share", "conviction", "entropy", "option_mass"}
    with pytest.raises(ValueError, match=r"^a judge is known by the pairs that it labelled, got none$"):
        figures_of([])


def test_a_label_of_half_is_half_right():
    figures = figures_of([pair("q0", 0.5, 0.5, gold=1.0), pair("q1", 0.9, 0.1, gold=1.0)])
    assert figures.accuracy.estimate == pytest.approx(0.75)


def test_a_judge_that_always_says_a_is_refused():
    figures = figures_of([pair(f"q{number}", 1.0, 1.0, gold=float(number % 2)) for number in range(10)])
    assert figures.conviction == 0 and figures.flip_share == 1
    with pytest.raises(ContractError) as caught:
        check_judge(figures, name="parrot", **LIMITS)
    assert str(caught.value) == (
        "the judge parrot is not fit to label 10 pairs: the winner of 100.0% of the pairs is another when the order is swapped, "
        "allowed are 90.0% (judge.max_flips): it looks at the place and not at the text; its labels lie 0.0000 from 0.5 on "
        "average, at least 0.01 is needed (judge.min_conviction): it has no opinion. All in all: accuracy against gold 0.500 "
        "[0.354–0.646], position bias +0.500, entropy 0.600 nats, options' probability 0.900. Take another judge (judge.model), "
        "mode (judge.mode) or template (judge.template): docs/judges.md"
    )
    assert caught.value.exit_code == 3


def test_a_judge_that_cannot_be_read_is_refused():
    figures = figures_of([pair("q0", 0.9, 0.1), JudgedPair("q1", 5, 5, None, masses=(0.0, 0.0))])
    with pytest.raises(ContractError, match=r"50\.0% of the pairs have a reply that is none of the options, allowed are 10\.0%"):
        check_judge(figures, name="mumbler", **LIMITS)
    check_judge(figures, name="mumbler", **(LIMITS | {"max_unreadable": 0.5}))


def test_a_judge_at_its_limits_is_accepted():
    figures = figures_of([pair("q0", 0.9, 0.1), pair("q1", 0.6, 0.6)])
    check_judge(figures, name="fair", max_flips=figures.flip_share, min_conviction=figures.conviction, max_unreadable=0.0)
    with pytest.raises(ContractError, match=r"judge\.max_flips"):
        check_judge(figures, name="fair", max_flips=0.49, min_conviction=0.0, max_unreadable=0.0)
    with pytest.raises(ContractError, match=r"judge\.min_conviction"):
        check_judge(figures, name="fair", max_flips=1.0, min_conviction=0.21, max_unreadable=0.0)
