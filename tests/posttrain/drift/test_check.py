"""A check from samples to record: what counts as a prompt, what is refused, and each verdict on small samples."""

import json
from random import Random

import numpy as np
import pytest

from posttrain.data.near_duplicates import normalised
from posttrain.drift.check import FEWEST_QUESTIONS, _warnings, check, draw, refuse_settings, text_of
from posttrain.drift.two_sample import TwoSample
from posttrain.errors import DataError, RequestError
from posttrain.records import Demonstration, Message, Question, Text
from posttrain.settings.monitor import MonitorSettings

SMALL = MonitorSettings(permutations=99, min_prompts=20)
NAMES, THINGS, VERBS = ("Tom", "Ann", "Ben", "Eva"), ("apples", "coins", "books"), ("finds", "sells", "buys", "loses")


def story(random):
    steps = ", ".join(f"{random.choice(VERBS)} {random.randint(2, 99)}" for _ in range(random.randint(2, 4)))
    return f"{random.choice(NAMES)} has {random.randint(2, 999)} {random.choice(THINGS)}, {steps}. How many?"


def german(random):
    first, second, how = random.randint(2, 999), random.randint(2, 999), random.choice(("nur", "sofort"))
    return f"Bitte rechne {first} mal {second} und nenne {how} das Ergebnis"


def questions(make, count, seed):
    random = Random(seed)
    return [Question(id=f"{seed}-{number}", prompt=make(random)) for number in range(count)]


def sample(records, name="new"):
    return draw(records, name=name, most=100, seed=0)


def checked(new, *, training=None, held_out=None, settings=SMALL):
    training = questions(story, 60, "t") if training is None else training
    held_out = questions(story, 30, "h") if held_out is None else held_out
    drawn = {"new": new, "training": training, "held_out": held_out}
    return check(*(sample(records, name) for name, records in drawn.items()), settings=settings, near_duplicate=0.8, seed=0)


# --- samples ----------------------------------------------------------------------------------------------------------


def test_a_sample_is_of_different_prompts_and_their_order_decides_nothing():
    records = [
        *questions(story, 50, 1),
        *questions(story, 50, 1),
        Question(id="a", prompt="One, two?"),
        Text(id="b", text="one two"),
    ]
    one, other = (draw(given, name="new", most=20, seed=3) for given in (records, records[::-1]))
    assert one.rows == 102 and len(one.numbers) == 51 and len(one.records) == 20
    assert set(map(normalised, one.texts)) == set(map(normalised, other.texts))
    assert set(draw(records, name="new", most=20, seed=4).texts) != set(one.texts)
    assert set(draw(records, name="training", most=20, seed=3).texts) != set(one.texts), "samples are drawn apart"


def test_the_text_of_a_prompt():
    chat = (Message(role="system", content="Be brief."), Message(role="user", content="Hello?"))
    assert text_of(Question(id="q", prompt=chat)) == "Be brief.\nHello?"
    assert text_of(Question(id="q", prompt=chat[1:])) == text_of(Question(id="q", prompt="Hello?")) == "Hello?"
    assert text_of(Demonstration(id="d", prompt="Hello?", completion="Yes.")) == text_of(Text(id="t", text="Hello?"))


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"level": 0.001, "permutations": 998},
            "monitor.permutations must be at least 999 for monitor.level=0.001, got 998: p is never below 1 / (permutations + 1)",
        ),
        *(
            (
                {"score_questions": few},
                f"monitor.score_questions must be at least {FEWEST_QUESTIONS}, or 0 for no score, got {few}: "
                "fewer say nothing of a model",
            )
            for few in (1, FEWEST_QUESTIONS - 1)
        ),
        ({"min_prompts": 51, "max_prompts": 50}, "monitor.max_prompts (50) must be at least monitor.min_prompts (51)"),
    ],
)
def test_settings_that_contradict_one_another(settings, sentence):
    with pytest.raises(RequestError) as refused:
        refuse_settings(MonitorSettings(**settings))
    assert str(refused.value) == sentence


def test_settings_at_the_bound_are_taken():
    refuse_settings(MonitorSettings(level=0.001, permutations=999, max_prompts=50))
    refuse_settings(MonitorSettings(level=0.01, permutations=99))
    refuse_settings(MonitorSettings(score_questions=0))
    refuse_settings(MonitorSettings(score_questions=FEWEST_QUESTIONS))
    refuse_settings(MonitorSettings())


NEEDED = "different prompts, near-duplicates counted once, and monitor.min_prompts=20 are needed."


def test_too_few_new_prompts():
    with pytest.raises(DataError) as refused:
        checked(questions(story, 19, "n") * 10)
    assert str(refused.value) == (
        f"the new prompts are 190 rows with 19 {NEEDED} Collect more, or lower it and see only large drifts"
    )


def test_a_prompt_that_is_asked_in_nearly_equal_words_counts_once():
    long = " ".join(f"word{number}" for number in range(60))
    twins = [Question(id=str(number), prompt=f"{long} {number}") for number in range(4)]
    with pytest.raises(DataError, match="22 rows with 19 different prompts, near-duplicates counted once"):
        checked([*questions(story, 18, "n"), *twins])


def test_too_few_training_prompts():
    with pytest.raises(DataError) as refused:
        checked(questions(story, 30, "n"), training=questions(story, 5, "t"))
    assert str(refused.value) == (
        f"the training prompts of the dataset are 5 rows with 5 {NEEDED} Import more, or lower it and see only large drifts"
    )


def test_as_many_prompts_as_are_needed_are_enough():
    assert checked(questions(story, 20, "n"))["prompts"]["new"]["families"] == 20


def test_nothing_at_all():
    with pytest.raises(DataError, match="the new prompts are 0 rows with 0 different prompts"):
        checked([], training=[], held_out=[])


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_prompts_of_the_same_kind():
    record = checked(questions(story, 40, "n"))
    assert (record["rule"], record["is_drift"], record["warnings"]) == ("alike", False, [])
    assert record["test"]["p"] > 0.05 and record["calibration"]["p"] > 0.05
    assert record["test"]["smallest_auc"] > 0.55
    assert sum(bar["count"] for bar in record["permuted"]) == 99
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_prompts_of_another_kind():
    new = [*questions(story, 20, "n"), *questions(german, 20, "g"), *questions(story, 5, "t")]
    record = checked(new)
    assert (record["rule"], record["test"]["p"]) == ("drift", 0.01)
    told = record["prompts"]["new"]
    # five of the training prompts stand among them
    assert (told["rows"], told["different"], told["in_training"]) == (45, 45, 5 / 45)
    assert all("Bitte" in one["prompt"] for one in record["unlike"][:5])
    assert record["words"][0]["z"] > 0 and {"bitte", "und"} <= {one["word"] for one in record["words"]}
    assert record["figures"]["new"]["unseen_words"] > 0.2


def test_without_held_out_prompts_nothing_is_calibrated():
    record = checked(questions(story, 40, "n"), held_out=questions(story, 19, "h"))
    assert record["calibration"] is None and record["figures"].keys() == {"training", "new", "held_out"}
    assert record["warnings"] == [
        "The dataset has 19 different held-out prompts, fewer than monitor.min_prompts (20): nothing says how far prompts of the "
        "same source lie apart"
    ]
    record = checked(questions(story, 40, "n"), held_out=[])
    assert record["figures"].keys() == {"training", "new"} and record["prompts"]["held_out"]["in_training"] is None


@pytest.mark.parametrize(("held_out", "is_calibrated"), [(20, True), (19, False)])
def test_as_many_held_out_prompts_as_are_needed_calibrate(held_out, is_calibrated):
    record = checked(questions(story, 20, "n"), held_out=questions(story, held_out, "h"))
    assert (record["calibration"] is not None) is is_calibrated
    few = f"The dataset has {held_out} different held-out prompts, fewer than monitor.min_prompts (20)"
    assert any(one.startswith(few) for one in record["warnings"]) is not is_calibrated


@pytest.mark.parametrize(("p", "is_told"), [(0.05, True), (0.051, False)])
def test_held_out_prompts_that_are_told_apart_at_the_level_are_warned_of(p, is_told):
    apart = TwoSample(auc=0.62, p=p, permuted=np.array([0.46, 0.54]), scores=np.zeros(3), first=60, second=30)
    assert bool(_warnings({"held_out": 30}, apart, SMALL)) is is_told


def test_a_dataset_that_is_uneven_itself_raises_no_alarm_for_prompts_like_its_held_out_ones():
    record = checked(questions(german, 40, "n"), held_out=questions(german, 40, "h"))
    assert record["calibration"]["p"] == 0.01 and record["rule"] == "as held out"
    assert record["warnings"][0].startswith("The held-out prompts are told from those of training as well, AUC ")
