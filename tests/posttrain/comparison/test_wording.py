"""What a comparison says in words."""

import pytest

from posttrain.comparison import wording
from posttrain.comparison.wording import UNITS, Voice, covers, pair_words, verdict_sentence

TITLES = {"sft": "SFT", "dpo": "DPO", "reft": "ReFT", "rlhf": "RLHF"}


def voice(unit="share", **changes):
    return Voice(**{"unit": UNITS[unit], "titles": TITLES, "reference": "sft", "margin": 0.02, "is_one_seed": False} | changes)


def pair(a, b, verdict, family="reference", **changes):
    return {
        "a": a,
        "b": b,
        "family": family,
        "verdict": verdict,
        "seeds": [0, 1, 2],
        "estimate": 0.312,
        "low": 0.279,
        "high": 0.344,
        "low_decides": 0.24,
        "high_decides": 0.384,
        "smallest_effect": 0.041,
        "per_seed": [{"seed": seed, "estimate": value} for seed, value in enumerate((0.03, -0.05, 0.01))],
        "needs": [],
    } | changes


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        ("share", 0.3124, "31.2 points"),
        ("share", -0.0004, "0.0 points"),
        ("nats", 0.1234, "0.123 nats"),
        ("score", 12345.678, "1.235e+04 score units"),
        ("score", 0.25, "0.25 score units"),
    ],
)
def test_amounts(unit, value, shown):
    assert UNITS[unit].amount(value) == shown


def test_a_sign_is_shown_where_it_matters():
    assert [UNITS["share"].number(value, sign=True) for value in (0.0, -0.0001, 0.1, -0.1)] == ["+0.0", "+0.0", "+10.0", "-10.0"]


def test_words_of_pairs():
    def say(verdict, **changes):
        return pair_words(pair("reft", "sft", verdict, **changes), voice())

    assert say("better") == "better by at least 24.0 points"
    assert say("worse", low_decides=-0.4, high_decides=-0.1) == "worse by at least 10.0 points"
    assert say("equal") == "within ±2.0 points"
    assert say("undecided") == "not told apart; this design sees 4.1 points"
    assert say("undecided", smallest_effect=None) == "not told apart"
    # two accuracies differ by 100 points at most
    assert say("undecided", smallest_effect=1.0) == "not told apart; this design sees no effect, however large"
    assert pair_words(pair("reft", "sft", "undecided", smallest_effect=4.6), voice("nats")).endswith("sees 4.600 nats")
    needs = [{"effect": 0.02, "seeds": 12, "questions": 1000}, {"effect": 0.02, "seeds": 3, "questions": 9000}]
    assert say("undecided", needs=needs) == (
        "not told apart; this design sees 4.1 points, an effect of 2.0 points would need 12 seeds and 1,000 questions "
        "or 3 seeds and 9,000 questions"
    )
    assert say("disagree") == "the seeds disagree: +3.0 on seed 0, -5.0 on seed 1; this design sees 4.1 points"
    assert say("better", seeds=[4]) == (
        "better by at least 24.0 points (one seed: this speaks of these two models, not of methods)"
    )
    loss = pair_words(pair("reft", "sft", "better", low_decides=0.1), voice("nats", of_logs=True))
    assert loss == "better by at least 0.100 nats"


def sentence(over, rest, **changes):
    return verdict_sentence([*over, *(one | {"family": "best"} for one in rest)], voice(**changes))


def test_sentences_of_two_methods():
    def of_two(verdict, **changes):
        found = pair("dpo", "sft", verdict, **changes)
        return sentence([found], [found])

    gain = "+31.2 points [+27.9, +34.4]"
    assert of_two("better") == f"DPO is better than SFT: {gain}, at least +24.0."
    assert of_two("equal") == f"DPO and SFT do equally well: {gain}, within ±2.0 points."
    assert of_two("undecided") == f"DPO and SFT are not told apart: {gain}; this design sees 4.1 points."
    assert (
        of_two("worse", low_decides=-0.4, high_decides=-0.1) == f"DPO is worse than SFT: {gain}, worse by at least 10.0 points."
    )
    assert of_two("disagree").startswith(f"DPO and SFT are not told apart: {gain}; the seeds disagree: +3.0 on seed 0, -5.0")


def test_sentences_of_many_methods():
    over = [pair(name, "sft", "better") for name in ("dpo", "reft", "rlhf")]
    rest = [pair("reft", name, "better") for name in ("sft", "dpo", "rlhf")]
    gain = "+31.2 points over SFT [+27.9, +34.4]"
    assert sentence(over, rest) == f"ReFT is the best of 4 methods: {gain}, at least +24.0."
    rest[2] = pair("reft", "rlhf", "undecided")
    assert sentence(over, rest) == (
        f"ReFT has the highest mean of 4 methods: {gain}, at least +24.0; not told apart from RLHF (this design sees 4.1 points)."
    )
    rest[1] = pair("reft", "dpo", "equal")
    assert sentence(over, rest, of_logs=True).endswith("(this design sees 4.1 points); within ±2.0 points of DPO.")
    over[1] = pair("reft", "sft", "undecided")
    assert sentence(over, rest).startswith(
        f"ReFT has the highest mean of 4 methods but is not told apart from SFT: {gain}; this design sees 4.1 points; "
        "better than SFT: DPO and RLHF; not told apart from RLHF"
    )
    over[1] = pair("reft", "sft", "equal")
    assert f"ReFT has the highest mean of 4 methods and does as well as SFT: {gain}, within ±2.0 points" in sentence(over, rest)


def test_several_pairs_see_from_the_least_to_the_largest():
    over = [pair(name, "sft", "better") for name in ("dpo", "reft", "rlhf")]
    rest = [
        pair("reft", "sft", "better"),
        pair("reft", "dpo", "undecided"),
        pair("reft", "rlhf", "undecided", smallest_effect=0.45),
    ]
    assert sentence(over, rest).endswith("not told apart from DPO and RLHF (this design sees 4.1 to 45.0 points).")
    rest[2]["smallest_effect"] = 0.0411  # which is written as the other one is
    assert sentence(over, rest).endswith("(this design sees 4.1 points).")
    rest[2]["smallest_effect"] = 1.0
    assert sentence(over, rest).endswith("(this design sees 4.1 points, and for some of them no difference, however large).")
    rest[1]["smallest_effect"] = 1.2
    assert sentence(over, rest).endswith("(this design sees no effect, however large).")


def test_names_with_a_comma_stay_whole():
    assert wording._listed(["ReFT", "RLAIF, direct", "DPO"]) == "ReFT; RLAIF, direct and DPO"
    assert wording._listed(["ReFT", "DPO", "SFT"]) == "ReFT, DPO and SFT" and wording._listed(["SFT"]) == "SFT"


def test_the_reference_leads():
    over = [pair(name, "sft", "worse") for name in ("dpo", "reft")]
    rest = [pair("sft", name, "better") for name in ("dpo", "reft")]
    assert sentence(over, rest) == "No method is better than SFT, the reference, which is the best of 3 methods."
    rest[0] = pair("sft", "dpo", "undecided")
    assert sentence(over, rest, is_one_seed=True) == (
        "No method is better than SFT, the reference, which has the highest mean of 3 methods; "
        "not told apart from DPO (this design sees 4.1 points); one seed: this speaks of these models, not of methods."
    )


def test_what_intervals_cover():
    assert covers(seeds=1, confidence=0.9, voice=voice()).startswith("90 % intervals cover the choice of held-out questions only")
    assert "over all systems" in covers(seeds=3, confidence=0.95, voice=voice(of_logs=True))
