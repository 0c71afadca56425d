"""Guards: each by hand, corrected together, and what decides nothing."""

from typing import Any

import numpy as np
import pytest

from posttrain.errors import ContractError
from posttrain.promotion.evaluated import RewardCurve, paired
from posttrain.promotion.guards import FALSE_ALARMS, Guard, check_guards
from posttrain.settings.promotion import PromotionSettings
from posttrain.statistics.comparisons import compare_with
from tests.posttrain.promotion.evaluations import model, right

SETTINGS = PromotionSettings()
SCORES = right(of=100, count=50)


def guards(
    ours: dict[str, Any], theirs: dict[str, Any], *, settings: PromotionSettings = SETTINGS, is_first: bool = False
) -> dict[str, Guard]:
    challenger, champion = model("version 7", **{"scores": SCORES, **ours}), model("version 5", **{"scores": SCORES, **theirs})
    pair = paired("scores", challenger, champion)
    assert pair is not None
    found = check_guards(challenger, champion, metric="accuracy", pair=pair, is_first=is_first, settings=settings)
    return {one.name: one for one in found}


def ended(*, cut: int, of: int = 100) -> np.ndarray:
    """Return one seed's shares of responses that end: none of the first `cut` questions, all of the others."""
    return 1 - right(of=of, count=cut)


def test_a_loss_of_responses_that_end_by_hand() -> None:
    found = guards({"finished": ended(cut=10)}, {"finished": ended(cut=0)})["finished"]
    # 10 of 100 differ, all one way: variance between questions 0.1 · 0.9 · 100 / 99 = 0.0909; 100 · 0.0909 < 10 · (1 - 0.1²), so
    # two questions that are all or nothing are added: (9 + 2 · 0.99) / 101 = 0.10871; error √(0.0010871 / 0.99) = 0.033138
    # t = (0.10 - 0.02) / 0.033138 = 2.4142 with 99 degrees: p = 0.0088; bound 0.10 - 1.6604 · 0.033138 = 0.04498
    # sees 0.02 + (1.6604 + 0.8452) · 0.033138 = 0.1030
    assert (found.value, found.limit, found.is_broken) == (pytest.approx(0.10), 0.02, True)
    assert (found.p_holm, found.low, found.sees) == pytest.approx((0.0088, 0.04498, 0.1030), abs=1e-4)
    assert found.says == "responses that end: down by 10.0 points, at least 4.5, beyond the limit of 2.0 points"


def test_beyond_the_limit_by_chance_is_said_and_breaks_nothing() -> None:
    found = guards({"finished": ended(cut=4)}, {"finished": ended(cut=0)})["finished"]
    assert found.value == pytest.approx(0.04) and not found.is_broken and found.is_decided
    # variance 0.04 · 0.96 · 100 / 99 = 0.03879, two added: (3.84 + 2 · 0.9984) / 101 = 0.05779; error √(0.0005779 / 0.9984) =
    # 0.02406: bound 0.04 - 1.6604 · 0.02406 = 0.00005; sees 0.02 + 2.5056 · 0.02406 = 0.0803
    assert found.says == (
        "responses that end: down by 4.0 points, beyond the limit of 2.0 points, but chance explains that (at least 0.0); "
        "8.0 would be seen"
    )


def test_a_gain_is_never_a_harm() -> None:
    found = guards({"finished": ended(cut=0)}, {"finished": ended(cut=60)})["finished"]
    assert found.value == pytest.approx(-0.6) and not found.is_broken
    assert found.says.startswith("responses that end: up by 60.0 points; the limit is 2.0 points, ")
    same = guards({"finished": ended(cut=3)}, {"finished": ended(cut=3)})["finished"]
    assert same.says.startswith("responses that end: no change; the limit is 2.0 points, ") and not same.is_broken


def test_the_limit_is_no_harm_yet_and_what_is_beyond_it_for_certain_is() -> None:
    # every response is longer by the same factor, so that the ratio has no spread
    tokens = np.full((1, 100), 10.0)
    assert not guards({"tokens": 1.5 * tokens}, {"tokens": tokens})["length"].is_broken
    found = guards({"tokens": 2 * tokens}, {"tokens": tokens})["length"]
    assert (found.value, found.limit, found.low, found.p_holm, found.is_broken) == (2.0, 1.5, 2.0, 0.0, True)
    assert found.says == "tokens a response: 2.00 times those of version 5, at least 2.00, beyond the limit of 1.50 times"


def test_a_ratio_is_that_of_the_means_with_the_spread_of_the_delta_method() -> None:
    # means 18 and 10: R = 1.8; v = R + (ours - R theirs) / 10: 20 - 1.8 · 10 = 2 → 2.0; 16 - 18 = -2 → 1.6; deviation 0.2
    ours = np.where(np.arange(100) % 2, 20.0, 16.0)[None]
    found = guards({"tokens": ours}, {"tokens": np.full((1, 100), 10.0)})["length"]
    # error 0.2 · √(100 / 99) / 10 = 0.020101, bound 1.8 - 1.6604 · 0.0201 = 1.7666
    assert (found.value, found.low, found.is_broken) == (pytest.approx(1.8), pytest.approx(1.7666, abs=1e-4), True)
    # long questions weigh more than short ones: the ratio of means, not the mean of ratios
    weighed = guards({"tokens": [[30.0, 10.0] * 50]}, {"tokens": [[30.0, 5.0] * 50]})["length"]
    assert weighed.value == pytest.approx(40 / 35)


def test_lengths_of_nothing_are_refused() -> None:
    with pytest.raises(ContractError, match="tokens a response of version 5 must be above 0 on average, got 0"):
        guards({"tokens": np.ones((1, 100))}, {"tokens": np.zeros((1, 100))})


def test_guards_are_corrected_together() -> None:
    """The loss of 10 points by hand has p = 0.0088: alone it breaks the guard, as one of six it does not."""
    families = [f"f{place % 5}" for place in range(100)]
    found = guards({"finished": ended(cut=10), "families": families}, {"finished": ended(cut=0)})
    assert len([name for name in found if name.startswith("family: ")]) == 5
    assert not found["finished"].is_broken and found["finished"].p_holm == pytest.approx(6 * 0.0088, abs=6e-4)
    # of six, none of which is told: the bound is that of a level of 5 % / 6: t_{1 - 0.05 / 6}(99) = 2.4344
    assert found["finished"].low == pytest.approx(0.10 - 2.4344 * 0.033138, abs=1e-4)
    assert found["finished"].low < 0.02 and "but chance explains that" in found["finished"].says


def test_a_family_that_loses_is_named() -> None:
    families = ["big"] * 60 + ["small"] * 19 + ["fine"] * 20 + [None]
    ours, theirs = right(of=100, first=30, count=70), right(of=100, count=100)
    found = guards({"scores": ours, "families": families}, {"scores": theirs, "families": families})
    assert [name for name in found if "famil" in name] == ["family: big", "family: fine", "families"]
    big = found["family: big"]
    assert big.is_broken and big.value == pytest.approx(0.5) and big.limit == 0.02 and big.unit == "share"
    assert big.says.startswith("accuracy on the 60 questions of big: down by 50.0 points, at least ")
    assert not found["family: fine"].is_broken
    assert found["families"].says == "families of questions: 1 with fewer than 20 questions, not looked at by themselves"
    fewer = guards(
        {"scores": ours, "families": families},
        {"scores": theirs},
        settings=PromotionSettings(min_family_questions=19, max_family_loss=0.6),
    )
    assert "family: small" in fewer and "families" not in fewer and not fewer["family: big"].is_broken


def test_without_families_the_guard_says_so() -> None:
    found = guards({}, {})["families"]
    assert not found.is_decided and found.says == "families of questions: none are known"


def test_a_family_counts_the_questions_that_have_the_metric() -> None:
    scores = SCORES.copy()
    scores[0, :85] = np.nan
    found = guards({"scores": scores, "families": ["x"] * 100}, {"scores": scores})
    assert found["families"].says == "families of questions: 1 with fewer than 20 questions, not looked at by themselves"


def test_seconds_decide_where_both_were_timed_by_question_on_one_machine() -> None:
    slow, quick = np.full((1, 100), 2.0), np.full((1, 100), 1.0)
    assert guards({"seconds": slow, "machine": "m"}, {"seconds": quick, "machine": "m"})["latency"].is_broken
    elsewhere = guards({"seconds": slow, "machine": "m"}, {"seconds": quick, "machine": "n"})["latency"]
    assert not elsewhere.is_broken and not elsewhere.is_decided and elsewhere.value == 2.0
    assert elsewhere.says == (
        "seconds a response: 2.00 times those of version 5; they were not timed on one machine, so it decides nothing"
    )
    assert not guards({"seconds": slow}, {"seconds": quick})["latency"].is_decided, "nobody knows where"
    single = guards({"seconds": 2.0, "machine": "m"}, {"seconds": quick, "machine": "m"})["latency"]
    assert not single.is_decided and single.says.endswith("; a single timing is no sample")
    assert guards({}, {"seconds": 1.0})["latency"].says == "seconds a response: not measured of both models"


def test_a_rise_of_the_loss_of_held_out_completions() -> None:
    loss = np.full((1, 100), 0.4)
    found = guards({"reference_loss": loss + 2}, {"reference_loss": loss})["reference_loss"]
    assert found.is_broken and found.value == pytest.approx(2.0) and found.unit == "nats"
    assert found.says == "loss of held-out completions: up by 2.000 nats, at least 2.000, beyond the limit of 1.000 nats"
    assert not guards({"reference_loss": loss}, {"reference_loss": loss + 2})["reference_loss"].is_broken
    assert not guards({"reference_loss": loss + 0.9}, {"reference_loss": loss})["reference_loss"].is_broken


def test_several_seeds_are_decided_by_the_design_of_comparisons() -> None:
    random = np.random.default_rng(0)
    ours, theirs = random.random((3, 100)) * 0.7, random.random((3, 100))
    found = guards({"finished": ours, "scores": ours}, {"finished": theirs, "scores": theirs})["finished"]
    (one,) = compare_with({"champion": theirs, "challenger": ours}, "challenger", margin=0.0)
    assert found.value == pytest.approx(one.estimate) and one.seeds == 3
    # beside it no guard is a sample, so that its level is 5 %, one-sided: the bound of a two-sided 90 % interval
    (wide,) = compare_with({"champion": theirs, "challenger": ours}, "challenger", margin=0.0, confidence=0.9)
    assert found.low == pytest.approx(wide.low_decides)


RISING = [0.1 * step for step in range(1, 9)]
FALLING = [0.1, 0.3, 0.5, 0.7, 0.7, 0.4, 0.3, 0.0]


def curve(gold: list[float], *, patience: int = 2) -> RewardCurve:
    return RewardCurve(reward=RISING, gold=gold, gold_error=[0.03] * 8, patience=patience)


def test_a_reward_that_is_gamed() -> None:
    found = guards({"training": curve(FALLING)}, {})["hacking"]
    # windows of two: the best is 0.7, the last 0.15
    assert found.is_broken and found.value == pytest.approx(0.55) and found.says.endswith("the reward is being gamed")
    fine = guards({"training": curve(RISING)}, {})["hacking"]
    assert not fine.is_broken and fine.is_decided and fine.value == 0.0
    assert fine.says == "reward against gold: gold ended 0.000 below its best of 0.750; no gaming of the reward shows"
    allowed = guards({"training": curve(FALLING)}, {}, settings=PromotionSettings(refuse_hacking=False))["hacking"]
    assert not allowed.is_broken and not allowed.is_decided
    assert allowed.says.endswith("the reward is being gamed (promotion.refuse_hacking is off)")
    short = guards({"training": curve(FALLING, patience=5)}, {})["hacking"]
    assert not short.is_decided and short.says == "reward against gold: 8 updates are too few, 10 would do"
    assert not guards({}, {"training": curve(FALLING)})["hacking"].is_broken, "the champion's own training is not asked"


def test_new_warnings_of_the_data() -> None:
    old, new = "the row repeats an earlier row", "another annotator prefers the opposite"
    found = guards({"warnings": [old, new, new]}, {"warnings": [old]})["warnings"]
    assert found.is_broken and found.value == 1.0
    assert found.says == f"warnings of the data: 2, of which 1 new since version 5 (limit 0): {new}"
    assert not guards({"warnings": [old]}, {"warnings": [old, new]})["warnings"].is_broken
    assert not guards({"warnings": [new]}, {"warnings": []}, settings=PromotionSettings(max_new_warnings=1))["warnings"].is_broken
    for first in (guards({"warnings": [old]}, {}), guards({"warnings": [old]}, {"warnings": []}, is_first=True)):
        assert not first["warnings"].is_decided
        assert first["warnings"].says == f"warnings of the data: 1: {old}; nothing to compare with"
    assert guards({}, {"warnings": []})["warnings"].says == "warnings of the data: not known"


def test_every_guard_is_there_whatever_was_measured() -> None:
    found = guards({}, {})
    assert list(found) == ["finished", "length", "latency", "reference_loss", "families", "hacking", "warnings"]
    assert not any(one.is_broken or one.is_decided for one in found.values())
    assert all(one.says for one in found.values())


@pytest.mark.parametrize("name", ["finished", "tokens", "reference_loss"])
def test_figures_of_other_questions_are_refused(name: str) -> None:
    with pytest.raises(ContractError, match=f"{name} of version 7 and version 5 must have the same seeds and questions"):
        guards({name: np.full((1, 100), 0.5)}, {name: np.full((1, 99), 0.5)})


def test_the_chance_that_any_is_broken_is_that_of_holm() -> None:
    """Harms exactly at their limits: each p is below 5 % / m in as many cases as it says, so that Holm's bound is 5 %."""
    random = np.random.default_rng(1)
    any_broken = []
    for _ in range(150):
        tokens, loss = random.gamma(20.0, 1.0, (2, 1, 60)), random.normal(size=(2, 1, 60))
        found = guards(
            {"scores": SCORES[:, :60], "tokens": 1.5 * tokens[0], "reference_loss": loss[0] + 1.0},
            {"scores": SCORES[:, :60], "tokens": tokens[1], "reference_loss": loss[1]},
        )
        any_broken.append(any(one.is_broken for one in found.values()))
    # 5 % with a standard error of 1.8 %
    assert np.mean(any_broken) <= FALSE_ALARMS + 2 * 0.018
