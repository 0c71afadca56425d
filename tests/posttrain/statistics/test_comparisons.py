"""Comparisons of methods: recomputed by other code, at their edges, by refusal. test_verdict_rates.py has how often they err."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from posttrain.statistics.comparisons import (
    Comparison,
    Verdict,
    as_family,
    compare_best,
    compare_pairs,
    compare_with,
    needed,
    turned,
)
from posttrain.statistics.intervals import Interval, paired_difference, paired_gain

pytestmark = pytest.mark.usefixtures("no_collection")

MARGIN = 0.02


def drawn(seed: int, *, methods: int = 4, seeds: int = 3, questions: int = 60, noise: float = 0.3) -> dict[str, np.ndarray]:
    """Unbounded values, such as losses; method m is m tenths better."""
    random = np.random.default_rng(seed)
    question, method_seed = random.normal(size=questions), noise * random.normal(size=(methods, seeds, 1))
    cells = question + method_seed + random.normal(size=(methods, seeds, questions))
    return {name: cells[place] + 0.1 * place for place, name in enumerate("abcdefgh"[:methods])}


def answers(seed: int, *, methods: int = 4, seeds: int = 3, questions: int = 200, shares: float = 0.7) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: (random.random((seeds, questions)) < shares).astype(float) for name in "abcdefgh"[:methods]}


def by_other_code(values: dict[str, np.ndarray], a: str, b: str, *, share: bool) -> dict[str, float]:
    """Estimate, both intervals and p, from least squares and plain loops."""
    seeds, questions = values[a].shape
    rows = [(name, seed, cells[seed].mean()) for name, cells in values.items() for seed in range(seeds)]
    table = smf.ols("value ~ C(method) + C(seed)", pd.DataFrame(rows, columns=["method", "seed", "value"])).fit()
    d = values[a] - values[b]
    estimate = sum(d[seed, question] for seed in range(seeds) for question in range(questions)) / (seeds * questions)
    cells = pd.DataFrame([(s, q, d[s, q]) for s in range(seeds) for q in range(questions)], columns=["seed", "question", "value"])
    mean_question = cells.groupby("question").value.mean()
    mean_seed = cells.groupby("seed").value.mean()
    fitted = cells.value - cells.question.map(mean_question) - cells.seed.map(mean_seed) + estimate
    residual = (fitted**2).sum() / ((seeds - 1) * (questions - 1))
    of_questions = max(seeds * mean_question.var() - residual, 0) / seeds
    if share:
        added = 2 if questions * mean_question.var() < 10 else 1
        of_questions = ((questions - 1) * of_questions + added) / (questions - 1 + added)
    found = {"estimate": estimate}
    own, pooled = (mean_seed.var(), seeds - 1), (2 * table.mse_resid, table.df_resid)
    for name, (variance, freedom) in {"drawn": pooled, "decides": max(own, pooled)}.items():
        of_seed, of_question = variance / seeds, of_questions / questions
        v = of_seed + of_question
        degrees = v**2 / (of_seed**2 / freedom + of_question**2 / (questions - 1))
        low, high = stats.t.interval(0.95, degrees, loc=estimate, scale=sqrt(v))
        found |= {f"{name}_low": low, f"{name}_high": high, "error": sqrt(v), "degrees": degrees}
        found["p"] = 2 * stats.t.sf(abs(estimate) / sqrt(v), degrees)
    return found


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("share", [False, True])
def test_every_number_is_that_of_other_code(seeds: int, share: bool) -> None:
    wider = 0
    for draw in range(2):
        values = (answers if share else drawn)(draw, seeds=seeds)
        compared = compare_with(values, "a", margin=MARGIN)
        assert [(one.a, one.b, one.seeds, one.questions) for one in compared] == [
            (name, "a", seeds, values["a"].shape[1]) for name in "bcd"
        ]
        for one in compared:
            other = by_other_code(values, one.a, one.b, share=share)
            ours = (one.estimate, one.low, one.high, one.low_decides, one.high_decides, one.p, one.error, one.degrees)
            names = ("estimate", "drawn_low", "drawn_high", "decides_low", "decides_high", "p", "error", "degrees")
            assert ours == pytest.approx([other[name] for name in names], rel=1e-9)
            wider += one.high_decides > one.high
        assert [one.p_holm for one in compared] == pytest.approx(multipletests([one.p for one in compared], method="holm")[1])
    assert wider, "no pair varied more than the others did, so nothing showed that its own variance decides"


def test_the_larger_variance_decides_with_its_own_degrees_by_hand() -> None:
    # means by seed: a 0, 0, 0; b 0, 0, 0; c 3, 0, -3 about a mean of 0. c - a: own 9 with 2 degrees
    # residuals of the table: c less the means of seeds 1, 0, -1: 2, 0, -2; a and b: -1, 0, 1 each: squares 8 + 2 + 2 = 12 over 4
    quiet = np.zeros((3, 4)) + np.array([1.0, -1.0, 2.0, -2.0])
    noisy = quiet + np.array([[3.0], [0.0], [-3.0]])
    c_a, b_a = (
        one for name in "cb" for one in compare_with({"a": quiet, "b": quiet, "c": noisy}, "a", margin=0) if one.a == name
    )
    assert (c_a.spread.seed, c_a.degrees, c_a.error) == pytest.approx((9.0, 2.0, sqrt(9 / 3)))
    assert c_a.high_decides == pytest.approx(4.302653 * sqrt(3), rel=1e-6)
    assert c_a.high == pytest.approx(2.776445 * sqrt(2 * 3 / 3), rel=1e-6)
    # b - a has no variance of its own, and takes that of all
    assert (b_a.spread.seed, b_a.degrees, b_a.p) == (pytest.approx(6.0), pytest.approx(4.0), 1.0)


def test_equivalence_is_statsmodels_two_one_sided_tests() -> None:
    random = np.random.default_rng(5)
    a = random.normal(size=(1, 80))
    b = a + 0.05 * random.normal(size=(1, 80)) + 0.01
    for margin in (0.005, 0.015, 0.02, 0.05):
        (one,) = compare_with({"a": a, "b": b}, "b", margin=margin)
        assert one.p_equal == pytest.approx(ttost_paired(a[0], b[0], -margin, margin)[0])
        assert (one.verdict is Verdict.EQUAL) == (one.p_equal < 0.05 <= one.p)


def test_equivalence_is_corrected_within_the_family_too() -> None:
    values = drawn(2, noise=0.0, questions=400)
    alone = [compare_with({"a": values["a"], name: values[name]}, "a", margin=0.3) for name in "b"]
    compared = compare_with(values, "a", margin=0.3)
    raw = [float(stats.t.cdf((abs(one.estimate) - 0.3) / one.error, one.degrees)) for one in compared]
    assert [one.p_equal for one in compared] == pytest.approx(multipletests(raw, method="holm")[1])
    assert alone[0][0].p_equal < 1


def test_the_smallest_effect_is_seen_with_80_percent_power_after_the_correction() -> None:
    for one in compare_with(drawn(1), "a", margin=MARGIN):
        t = stats.t.ppf([1 - one.level / 2, 0.8], one.degrees)
        assert one.smallest_effect == pytest.approx(t.sum() * one.error)
    (alone,) = compare_with(drawn(1, methods=2), "a", margin=MARGIN)
    assert alone.level == pytest.approx(0.05)


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3, 5]), st.booleans(), st.sampled_from([0.9, 0.95, 0.99]))
@settings(deadline=None, max_examples=30)
def test_p_is_small_exactly_where_the_deciding_interval_leaves_out_0(
    draw: int, seeds: int, share: bool, confidence: float
) -> None:
    random = np.random.default_rng(draw)
    values = answers(draw, methods=3, seeds=seeds, questions=int(random.integers(2, 40)), shares=random.random())
    if not share:
        values = {name: cells + random.normal(size=cells.shape) for name, cells in values.items()}
    for one in compare_pairs(values, margin=MARGIN, confidence=confidence):
        out = one.low_decides > 0 or one.high_decides < 0
        assert out == (one.p < 1 - confidence)
        assert one.low_decides <= one.estimate <= one.high_decides and one.low <= one.estimate <= one.high
        # below that, Satterthwaite's degrees can make up for a larger variance
        if one.questions >= 20:
            assert one.low_decides <= one.low and one.high <= one.high_decides
        assert one.p <= one.p_holm <= 1


def test_every_pair_and_the_best_are_one_family() -> None:
    values = drawn(4)
    pairs = compare_pairs(values, margin=MARGIN)
    assert [(one.a, one.b) for one in pairs] == [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]
    best = compare_best(values, margin=MARGIN)
    means = {name: cells.mean() for name, cells in values.items()}
    highest = max(means, key=means.get)
    assert {one.a for one in best} == {highest}
    assert [one.b for one in best] == [name for name in values if name != highest]
    by_pair = {frozenset((one.a, one.b)): one for one in pairs}
    assert all(one.p_holm == by_pair[frozenset((one.a, one.b))].p_holm and one.estimate >= 0 for one in best)
    # the same numbers as against a reference, apart from the family
    against = {one.a: one for one in compare_with(values, highest, margin=MARGIN)}
    for one in best:
        other = turned(against[one.b])
        assert (one.low, one.high, one.p) == pytest.approx((other.low, other.high, other.p))
        assert one.per_seed == other.per_seed


def test_turned_says_the_opposite() -> None:
    better = np.linspace(0, 1, 50) + np.array([[0.3], [0.31], [0.29]])
    values = {"low": np.tile(np.linspace(0, 1, 50), (3, 1)), "high": better}
    (one,) = compare_with(values, "low", margin=MARGIN)
    back = turned(one)
    assert (one.verdict, back.verdict) == (Verdict.BETTER, Verdict.WORSE)
    assert (back.a, back.b, back.estimate, back.low, back.high) == ("low", "high", -one.estimate, -one.high, -one.low)
    assert (back.low_decides, back.high_decides) == (-one.high_decides, -one.low_decides)
    assert turned(back) == one


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("questions", [2, 20, 1_000])
def test_two_copies_of_one_model_are_never_called_different(share: bool, seeds: int, questions: int) -> None:
    for draw in range(10):
        values = (answers if share else drawn)(draw, seeds=seeds, questions=questions, methods=3)
        for held in (values | {"copy": values["a"].copy()}, {"a": values["a"], "copy": values["a"].copy()}):
            (one,) = (each for each in compare_with(held, "a", margin=MARGIN) if each.a == "copy")
            assert (one.estimate, one.p, one.p_holm) == (0.0, 1.0, 1.0)
            assert one.low <= 0 <= one.high and not one.is_told_apart and one.verdict is not Verdict.DISAGREE


def test_rounding_is_no_difference() -> None:
    a = np.tile([0.1, 0.2, 0.7], (3, 1))
    b = a + 1e-16 * np.array([[1.0], [2.0], [-1.0]])
    (one,) = compare_with({"a": a, "b": b * (1 + 1e-16)}, "a", margin=0.0)
    assert (one.estimate, one.p) == (0.0, 1.0)


def test_all_right_and_nothing_differs() -> None:
    for one in compare_pairs({name: np.ones((3, 50)) for name in "abc"}, margin=MARGIN):
        assert (one.estimate, one.p, one.verdict) == (0.0, 1.0, Verdict.UNDECIDED)
        # 50 questions without a difference still allow some: two all-or-nothing ones, 2 / (49 + 2) / 50 = 0.028²
        assert one.error == pytest.approx(sqrt(2 / 51 / 50)) and one.low < 0 < one.high


def test_a_constant_gain_of_shares_keeps_a_width_and_one_of_losses_has_none() -> None:
    right, wrong = np.ones((3, 20)), np.zeros((3, 20))
    (shares,) = compare_with({"a": right, "b": wrong}, "b", margin=MARGIN)
    # two all-or-nothing questions beside 20 that are alike: V = 2 / (19 + 2) / 20
    assert (shares.estimate, shares.error, shares.degrees) == (1.0, pytest.approx(sqrt(2 / 21 / 20)), pytest.approx(19.0))
    assert shares.verdict is Verdict.BETTER and 0.8 < shares.low < 1 == shares.high
    (losses,) = compare_with({"a": right * 5, "b": wrong - 2}, "b", margin=MARGIN)
    assert (losses.estimate, losses.p, losses.low, losses.high) == (7.0, 0.0, 7.0, 7.0)


@pytest.mark.parametrize("questions", [2, 3])
def test_a_few_questions_tell_nothing_apart(questions: int) -> None:
    (one,) = compare_with({"a": np.ones((1, questions)), "b": np.zeros((1, questions))}, "b", margin=MARGIN)
    # Wilson's z = 2 · ½ · √n: p = 0.157 for 2, 0.083 for 3
    assert one.p == pytest.approx(2 * stats.norm.sf(sqrt(questions)))
    assert one.verdict is Verdict.UNDECIDED and one.low < 0
    for seeds in (2, 3, 5):
        for one in compare_pairs({"a": np.ones((seeds, 2)), "b": np.zeros((seeds, 2))}, margin=MARGIN):
            assert one.verdict is Verdict.UNDECIDED and one.low_decides < 0 and one.p > 0.3


def test_one_seed_is_the_paired_interval_of_two_models() -> None:
    values = answers(3, seeds=1, questions=30)
    for one in compare_with(values, "a", margin=MARGIN):
        expected = paired_gain(values[one.a][0], values["a"][0])
        assert (one.low, one.high) == (expected.low, expected.high) == (one.low_decides, one.high_decides)
        assert one.per_seed == (expected,) and one.speaks_of_models_only and one.seeds == 1
    losses = drawn(3, seeds=1)
    for one in compare_with(losses, "a", margin=MARGIN):
        expected = paired_difference(losses[one.a][0], losses["a"][0])
        assert (one.low, one.high) == pytest.approx((expected.low, expected.high))
        assert one.p == pytest.approx(stats.ttest_rel(losses[one.a][0], losses["a"][0]).pvalue)


def test_each_seed_has_its_own_interval_over_questions() -> None:
    values = answers(6)
    (one, *_) = compare_with(values, "a", margin=MARGIN)
    assert one.per_seed == tuple(paired_gain(values["b"][seed], values["a"][seed]) for seed in range(3))
    assert one.seed_names == (0, 1, 2) and not one.speaks_of_models_only


def test_the_seeds_disagree() -> None:
    base = np.tile(np.linspace(0, 1, 200), (3, 1))
    moved = base + np.array([[0.4], [-0.3], [0.05]])
    (one,) = compare_with({"a": moved, "b": base}, "b", margin=MARGIN)
    assert one.verdict is Verdict.DISAGREE
    # signs that differ within their own intervals are no disagreement
    noise = np.random.default_rng(0).normal(size=(3, 200))
    (two,) = compare_with({"a": base + noise + [[0.01], [-0.01], [0.0]], "b": base}, "b", margin=1e-6)
    assert len({seed.estimate > 0 for seed in two.per_seed}) == 2 and two.verdict is Verdict.UNDECIDED


def test_a_difference_is_named_before_the_margin_is() -> None:
    base = np.random.default_rng(0).normal(size=(3, 500))
    better = base + 0.01 + 0.001 * np.random.default_rng(1).normal(size=(3, 500))
    (one,) = compare_with({"a": better, "b": base}, "b", margin=MARGIN)
    assert one.p_equal < 0.05 and one.verdict is Verdict.BETTER and 0 < one.low_decides < one.high_decides < MARGIN


def test_a_missing_run_leaves_the_common_seeds() -> None:
    values = answers(7, seeds=4)
    held = {name: {seed + 10: row for seed, row in enumerate(cells)} for name, cells in values.items()}
    full = compare_with(values, "a", margin=MARGIN)
    for one, other in zip(compare_with(held, "a", margin=MARGIN), full, strict=True):
        assert replace(one, seed_names=other.seed_names) == other and one.seed_names == (10, 11, 12, 13)
    del held["c"][12]
    by_name = {one.a: one for one in compare_with(held, "a", margin=MARGIN)}
    assert by_name["c"].seed_names == (10, 11, 13) and by_name["b"].seed_names == (10, 11, 12, 13)
    kept = [0, 1, 3]
    assert by_name["c"].estimate == pytest.approx((values["c"][kept] - values["a"][kept]).mean())
    # the order in which runs finished means nothing
    shuffled = {name: dict(reversed(rows.items())) for name, rows in held.items()}
    assert compare_with(shuffled, "a", margin=MARGIN) == compare_with(held, "a", margin=MARGIN)
    # one common seed says nothing of others, whatever the other methods know
    held["c"] = {11: values["c"][1]}
    (alone,) = (one for one in compare_with(held, "a", margin=MARGIN) if one.a == "c")
    expected = paired_gain(values["c"][1], values["a"][1])
    assert alone.speaks_of_models_only and (alone.low, alone.high) == (expected.low, expected.high)


def test_any_family_can_be_made_of_comparisons() -> None:
    gains = [one for group in range(3) for one in compare_with(answers(group, questions=50), "a", margin=MARGIN)]
    together = as_family(gains, margin=MARGIN)
    assert [one.p_holm for one in together] == pytest.approx(multipletests([one.p for one in gains], method="holm")[1])
    assert all(one.smallest_effect >= other.smallest_effect for one, other in zip(together, gains, strict=True))
    assert as_family([], margin=MARGIN) == ()


def test_holm_decides_and_not_p_alone() -> None:
    # over many draws some p lies between alpha / 3 and alpha; alone it is told apart, in its family it is not
    seen = 0
    for draw in range(60):
        for one in compare_with(drawn(draw, questions=200), "a", margin=0.0):
            assert (one.verdict is Verdict.BETTER) == (one.p_holm < 0.05 and one.estimate > 0)
            if one.p < 0.05 <= one.p_holm:
                seen += 1
                assert not one.is_told_apart and as_family([one], margin=0.0)[0].is_told_apart
    assert seen


def test_needed_sees_the_effect_and_one_less_does_not() -> None:
    (one, *_) = compare_with(drawn(8, questions=300, noise=0.1), "a", margin=MARGIN)

    def sees(seeds: int, questions: int, effect: float) -> bool:
        plan = one.spread.planned(seeds, questions)
        return stats.t.ppf([1 - one.level / 2, 0.8], plan.degrees).sum() * sqrt(plan.variance) <= effect

    effect = one.smallest_effect * 0.7
    found = needed(one, effect)
    assert found and found[0].questions == 300 and found[0].seeds > 3
    for design in found:
        assert sees(design.seeds, design.questions, effect)
        fewer = (design.seeds, design.questions - 1) if design.seeds == 3 else (design.seeds - 1, design.questions)
        assert not sees(*fewer, effect)
    # what is seen already needs no more than there is
    assert needed(one, one.smallest_effect * 1.0001)[-1].questions <= 300
    # an effect that the noise of three trainings hides is not reached by questions
    assert all(design.seeds > 3 for design in needed(one, 0.02))
    with pytest.raises(ValueError, match="effect must be greater than 0, got 0"):
        needed(one, 0.0)


def test_needed_of_one_seed_speaks_of_questions() -> None:
    (one,) = compare_with(answers(9, methods=2, seeds=1), "a", margin=MARGIN)
    (design,) = needed(one, one.smallest_effect / 2)
    # half the effect needs about four times the questions, or a little fewer, since Student's quantile falls
    assert design.seeds == 1 and 3.9 * 200 < design.questions <= 4 * 200


def test_what_is_refused() -> None:
    good = np.zeros((3, 4))
    cases = {
        "a comparison needs at least two methods, got 1": {"a": good},
        r"values of b must have the axes \(seeds, questions\), got shape \(4,\)": {"a": good, "b": good[0]},
        "values of b must be finite, got 1 that are not": {"a": good, "b": np.where(np.eye(3, 4) * [1, 0, 0, 0], np.nan, 0)},
        "methods must hold the same questions, got {'a': 4, 'b': 5}": {"a": good, "b": np.zeros((3, 5))},
        "methods must hold the same seeds, got {'a': 3, 'b': 2}: name the seeds": {"a": good, "b": good[:2]},
        "values must hold at least two problems, got 1": {"a": good[:, :1], "b": good[:, :1]},
        "values of b must hold at least one seed, got none": {"a": {0: good[0]}, "b": {}},
        r"each seed of b must hold one value a question, got shapes \[\(3,\), \(4,\)\]": {
            "a": good,
            "b": {0: good[0], 1: [0, 0, 0]},
        },
        r"b \(seeds \[5\]\) and a \(seeds \[0\]\) have no seed in common": {"a": {0: good[0]}, "b": {5: good[0]}},
    }
    for message, values in cases.items():
        with pytest.raises(ValueError, match=message):
            compare_with(values, "a", margin=MARGIN)
    two = {"a": good, "b": good + 2}
    with pytest.raises(ValueError, match=r"reference must be one of the methods \(a, b\), got sft"):
        compare_with(two, "sft", margin=MARGIN)
    with pytest.raises(ValueError, match="shares must lie between 0 and 1"):
        compare_with(two, "a", margin=MARGIN, is_share=True)
    for margin in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="margin must be a number of at least 0, got"):
            compare_pairs(two, margin=margin)
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1, got 1"):
        compare_best(two, margin=MARGIN, confidence=1.0)


def test_losses_that_happen_to_lie_within_0_and_1_can_be_said_to_be_no_shares() -> None:
    values = {"a": np.full((3, 4), 0.5), "b": np.full((3, 4), 0.4)}
    (losses,) = compare_with(values, "b", margin=MARGIN, is_share=False)
    (shares,) = compare_with(values, "b", margin=MARGIN)
    assert losses.error == pytest.approx(0.0, abs=1e-15) and shares.error > 0.1


def test_a_comparison_is_plain_data() -> None:
    (one,) = compare_with(answers(0, methods=2), "a", margin=MARGIN)
    assert isinstance(one, Comparison) and isinstance(one.per_seed[0], Interval)
    numbers = [value for value in vars(one).values() if isinstance(value, float)]
    assert np.isfinite(numbers).all() and one.verdict == str(one.verdict)
