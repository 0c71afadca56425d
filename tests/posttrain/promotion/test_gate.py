"""The gate: what is promoted, what is not, and what it says of it."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posttrain.errors import ContractError
from posttrain.promotion.evaluated import Evaluated
from posttrain.promotion.gate import COVERS_METHODS, COVERS_MODELS, Decision, decide
from posttrain.promotion.guards import Guard
from posttrain.settings.promotion import PromotionSettings
from posttrain.statistics.comparisons import compare_with
from posttrain.statistics.intervals import paired_gain
from tests.posttrain.promotion.evaluations import HELD_OUT, model, right, two_alike

SETTINGS = PromotionSettings()
ROOT = Path(__file__).resolve().parents[3]
THEIRS, OURS = right(of=100, count=88), right(of=100, first=2, count=98)
"""86 questions that both models answer; of the others the challenger answers 12, and the champion the first two."""


def better(**ours: Any) -> Decision:
    """Return the decision on a challenger with 12 more right answers of 100 and 2 fewer."""
    return decide(model("version 5", THEIRS), model("version 7", OURS, **ours), None, SETTINGS)


def test_a_challenger_that_is_better_by_hand() -> None:
    found = better()
    # d = 0.12 - 0.02 = 0.10; p = 0.55 over values 1 (12 times), 0 (twice) and 1/2: variance (12 · 0.45² + 2 · 0.55² + 86 · 0.05²)
    # / 99 = 0.032828; one question is added: V = (99 · 0.00032828 + 0.2475 / 100) / 100 = 0.00034975; n = 0.2475 / V · (1.95996 /
    # 1.98422)² = 690.5; Wilson's bounds of 0.55: 0.51272 and 0.58673; twice that less 1: 0.0254 and 0.1735
    assert (found.gain.estimate, found.gain.low, found.gain.high) == pytest.approx((0.10, 0.0254, 0.1735), abs=2e-4)
    assert found.promoted and found.rule == "better" and found.covers == COVERS_MODELS
    assert (found.challenger, found.against, found.metric, found.unit) == ("version 7", "version 5", "accuracy", "share")
    assert (found.questions, found.seeds, found.margin, found.held_out) == (100, 1, 0.0, HELD_OUT)
    assert found.why == (
        "version 7 is promoted over version 5: accuracy +10.0 points [+2.5, +17.3] on the same 100 held-out questions; "
        "no guard is broken"
    )


def test_the_interval_is_that_of_paired_gains() -> None:
    gain, same = better().gain, paired_gain(OURS[0], THEIRS[0])
    assert (gain.low, gain.high, gain.estimate) == (same.low, same.high, pytest.approx(same.estimate))


def test_turned_round_it_is_worse_and_not_promoted() -> None:
    found = decide(model("version 7", OURS), model("version 5", THEIRS), None, SETTINGS)
    assert not found.promoted and found.rule == "not better"
    assert found.smallest_effect == pytest.approx(better().smallest_effect)
    assert found.why == (
        "version 5 is not promoted over version 7: accuracy -10.0 points [-17.3, -2.5] on the same 100 held-out questions, worse"
    )


def test_the_smallest_effect_by_hand() -> None:
    # differences: variance 4 · 0.032828 = 0.131313; one all or nothing is added, 1 - 0.1² = 0.99 (100 · 0.1313 ≥ 10 · 0.99):
    # (99 · 0.131313 + 0.99) / 100 = 0.1399; error √(0.001399 / 0.99) = 0.037592; (1.98422 + 1.13269) · 0.037592 = 0.11717
    assert better().smallest_effect == pytest.approx(0.11717, abs=1e-4)


def test_an_equal_challenger_is_not_promoted_without_a_margin_and_is_with_a_wide_one() -> None:
    challenger, champion = two_alike(100)
    none = decide(champion, challenger, None, SETTINGS)
    # nothing differs, so two all-or-nothing questions are all that is known: V = 2 · 0.25 / 100 / 101 = 4.95e-5 of the share 1/2;
    # n = 0.25 / V · 0.97570 = 4927: ± 1.95996 · √(0.25 / (4927 + 3.84)), twice that: 0.0279
    assert (none.gain.estimate, none.gain.low, none.gain.high) == pytest.approx((0.0, -0.0279, 0.0279), abs=1e-4)
    assert not none.promoted and none.rule == "not better" and "not shown to be better (a gain of 4." in none.why
    wide, narrow = (decide(champion, challenger, None, PromotionSettings(margin=margin)) for margin in (0.03, 0.027))
    assert wide.promoted and wide.rule == "not worse" and wide.margin == 0.03
    assert wide.why.endswith("100 held-out questions, not worse by 3.0 points; no guard is broken")
    assert not narrow.promoted and narrow.rule == "not better" and "not shown to lose less than 2.7 points" in narrow.why
    # a gain of that much less is enough
    assert wide.smallest_effect is not None and none.smallest_effect is not None
    assert wide.smallest_effect == pytest.approx(none.smallest_effect - 0.03)


def test_better_is_said_first_also_with_a_margin() -> None:
    found = decide(model("version 5", THEIRS), model("version 7", OURS), None, PromotionSettings(margin=0.05))
    assert found.promoted and found.rule == "better"


def test_a_challenger_that_is_worse_by_more_than_the_margin() -> None:
    found = decide(model("a", right(of=100, count=100)), model("b", right(of=100, count=50)), None, PromotionSettings(margin=0.1))
    assert not found.promoted and "worse by more than 10.0 points" in found.why


def test_the_first_champion_must_beat_the_base_whatever_the_margin() -> None:
    base, challenger = model("the base", THEIRS), model("version 1", OURS)
    found = decide(None, challenger, base, PromotionSettings(margin=0.5))
    assert found.promoted and found.rule == "first: beats the base" and found.margin == 0.0 and found.against == "the base"
    same = decide(None, model("version 1", THEIRS), base, PromotionSettings(margin=0.5))
    assert not same.promoted and same.rule == "not better" and same.margin == 0.0


def test_with_a_champion_the_base_is_not_read() -> None:
    other = Evaluated(name="the base", held_out="of other data")
    assert decide(model("version 5", THEIRS), model("version 7", OURS), other, SETTINGS).promoted


def test_nothing_to_compare_with_is_refused() -> None:
    with pytest.raises(ContractError, match="neither a champion nor an evaluation of the base that version 1 could be compared"):
        decide(None, model("version 1", OURS), None, SETTINGS)


def test_other_held_out_questions_are_refused_by_name() -> None:
    other = Evaluated(name="version 5", held_out="b2", scores=THEIRS)
    with pytest.raises(ContractError, match="version 7 was evaluated on the held-out questions a1, and version 5 on b2"):
        decide(other, model("version 7", OURS), None, SETTINGS)


def test_without_any_metric_it_is_refused() -> None:
    with pytest.raises(ContractError, match="a and b have no two held-out questions with an answer, nor two with a reference"):
        decide(model("b", tokens=[1.0, 2.0]), model("a", tokens=[1.0, 2.0]), None, SETTINGS)


@pytest.mark.parametrize("scores", [None, np.full((1, 50), np.nan)])
def test_without_answers_the_loss_decides_and_lower_is_better(scores: Any) -> None:
    random = np.random.default_rng(0)
    loss = random.gamma(2.0, 0.3, (1, 50))
    lower = loss - 0.2 + 0.05 * random.normal(size=(1, 50))
    ours, theirs = (model(name, scores, reference_loss=table) for name, table in (("new", lower), ("old", loss)))
    found, turned = decide(theirs, ours, None, SETTINGS), decide(ours, theirs, None, SETTINGS)
    assert found.promoted and not turned.promoted and found.metric == "reference_loss" and found.unit == "nats"
    assert found.gain.estimate == pytest.approx((loss - lower).mean()) and found.gain.low > 0
    assert found.why.startswith("new is promoted over old: gain in held-out loss +0.")
    assert [guard.says for guard in found.guards if guard.name == "reference_loss"] == [
        "loss of held-out completions: it is the metric itself"
    ]


def test_a_family_whose_loss_rises_is_told_as_a_rise() -> None:
    loss = np.full((1, 60), 0.5)
    ours = loss - 0.1
    ours[0, 40:] = 0.6
    families = ["fine"] * 40 + ["lost"] * 20
    found = decide(
        model("old", reference_loss=loss, families=families), model("new", reference_loss=ours, families=families), None, SETTINGS
    )
    assert found.rule == "guard" and "reference loss on the 20 questions of lost: up by 0.100 nats, at least 0.100" in found.why


def test_questions_without_an_answer_are_left_out() -> None:
    ours, theirs = (np.concatenate([table, np.full((1, 20), np.nan)], axis=1) for table in (OURS, THEIRS))
    found = decide(model("version 5", theirs), model("version 7", ours), None, SETTINGS)
    assert found.questions == 100 and found.gain == better().gain


def test_a_broken_guard_is_in_the_way_and_says_why() -> None:
    tokens = np.full((1, 100), 10.0)
    champion = model("version 5", THEIRS, tokens=tokens)
    found = decide(champion, model("version 7", OURS, tokens=2 * tokens), None, SETTINGS)
    assert not found.promoted and found.rule == "guard"
    assert found.why.endswith(
        "held-out questions, but 1 of 7 guards broken: tokens a response: 2.00 times those of version 5, at least 2.00, "
        "beyond the limit of 1.50 times"
    )
    both = decide(champion, model("version 7", THEIRS, tokens=2 * tokens), None, SETTINGS)
    assert both.rule == "not better" and "; 1 of 7 guards broken: tokens a response" in both.why


def test_several_seeds_speak_of_methods() -> None:
    random = np.random.default_rng(0)
    theirs = (random.random((3, 200)) < 0.5).astype(float)
    ours = np.maximum(theirs, random.random((3, 200)) < 0.3)
    found = decide(model("old", theirs), model("new", ours), None, SETTINGS)
    (one,) = compare_with({"new": ours, "old": theirs}, "old", margin=0.0)
    assert (found.gain.estimate, found.gain.low, found.gain.high) == (one.estimate, one.low_decides, one.high_decides)
    assert found.promoted and found.seeds == 3 and found.covers == COVERS_METHODS
    assert "on the same 200 held-out questions and 3 seeds each" in found.why


def test_seeds_of_trainings_that_scatter_are_no_sure_gain() -> None:
    """Three trainings that gain 30, 0 and 0 points: an interval over questions alone would leave out 0."""
    theirs = np.tile(right(of=200, count=100), (3, 1))
    ours = theirs.copy()
    ours[0, 100:160] = 1.0
    assert paired_gain(ours.mean(axis=0), theirs.mean(axis=0)).low > 0
    found = decide(model("old", theirs), model("new", ours), None, SETTINGS)
    assert not found.promoted and found.gain.low < 0 < found.gain.estimate


def test_no_gain_would_be_seen_on_two_questions() -> None:
    found = decide(model("old", [[0, 1]]), model("new", [[1, 1]]), None, SETTINGS)
    assert not found.promoted and found.smallest_effect is None and found.why.endswith("(no gain would be seen)")


def test_the_record_is_plain_json_and_the_page_has_every_field() -> None:
    found = better(finished=np.ones((1, 100)), families=["x"] * 100)
    record = found.as_record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["schema"] == "posttrain.decision/1" and record["gain"] == found.gain.as_dict()
    assert [guard["name"] for guard in record["guards"]] == [guard.name for guard in found.guards]
    page = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))
    assert told >= {"schema", *(one.name for one in fields(Decision)), *(one.name for one in fields(Guard))}


def test_decisions_are_the_same_every_time() -> None:
    assert better() == better()
