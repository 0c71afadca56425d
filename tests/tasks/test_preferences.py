"""Sampling and labelling: who prefers what, how often wrongly, and what is refused."""

import json
from collections import Counter

import pytest

from posttrain.config import LabelSettings, ModelSettings, SampleSettings
from posttrain.errors import DataError
from posttrain.graders.answer import grade
from posttrain.records import Preference, Question
from tasks.preferences import label_from_dataset, label_simulated, sample
from tasks.records import read_records, read_rows, write_rows

RIGHT, WRONG = "2 + 2 = 4. Answer: 4", "2 + 2 = 5. Answer: 5"


def log(step, metrics):
    raise AssertionError("these stages have no curve")


def samples_of(folder, *rows):
    """Write samples.jsonl: for each question its responses, as (text, finished) pairs."""
    folder.mkdir(exist_ok=True)
    questions = [Question(id=f"q{n}", family=f"f{n}", prompt=f"What? {n}", answers=("4",)) for n in range(len(rows))]
    write_rows(
        folder / "samples.jsonl",
        (
            {"question": question.model_dump(mode="json"), "responses": given}
            for question, given in zip(questions, rows, strict=True)
        ),
    )
    return folder


def many(folder, questions=400):
    """Questions of one right and one wrong response, different in each."""
    return samples_of(folder, *([[f"{n}: {RIGHT}", True], [f"{n}: {WRONG}", True]] for n in range(questions)))


def labelled(tmp_path, samples, *, seed=0, name="out", **settings):
    out = tmp_path / name
    out.mkdir(exist_ok=True)
    outcome = label_simulated(out, log, samples=samples, settings=LabelSettings(**settings), seed=seed)
    return outcome, list(read_records(out / "preferences.jsonl", Preference))


def is_right(text):
    return grade(text, ["4"]).is_right


def test_without_noise_right_is_preferred_to_wrong_and_finished_to_unfinished(tmp_path):
    samples = samples_of(
        tmp_path / "samples",
        [[WRONG, True], [RIGHT, True]],
        [[RIGHT + " ", False], [RIGHT, True]],
        [[WRONG, True], [WRONG + " 6", True]],  # a tie: dropped
        [[RIGHT, False], [WRONG, True]],  # right, though cut off
    )
    outcome, pairs = labelled(tmp_path, samples, flip_rate=0.0)
    assert {(pair.prompt, pair.chosen, pair.rejected) for pair in pairs} == {
        ("What? 0", RIGHT, WRONG),
        ("What? 1", RIGHT, RIGHT + " "),
        ("What? 3", RIGHT, WRONG),
    }
    assert outcome.metrics == {"pairs": 3, "flipped_share": 0.0} and outcome.costs == {"labels": 3}
    assert all(pair.family == f"f{pair.prompt[-1]}" for pair in pairs)
    assert len({pair.id for pair in pairs}) == 3


def test_ties_are_decided_by_brevity_where_that_is_asked_for(tmp_path):
    samples = samples_of(tmp_path / "samples", [[WRONG + " or more", True], [WRONG, True]])
    _, pairs = labelled(tmp_path, samples, flip_rate=0.0, ties="shorter")
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [(WRONG, WRONG + " or more")]


@pytest.mark.parametrize("flip_rate", [0.1, 0.25, 0.4])
def test_labels_are_wrong_as_often_as_set_and_as_told(tmp_path, flip_rate):
    """2,000 labels by 100 annotators whose rates average to the one set: 5 points are more than four standard errors."""
    outcome, pairs = labelled(tmp_path, many(tmp_path / "samples", 2_000), flip_rate=flip_rate, annotators=100)
    wrong = sum(is_right(pair.rejected) for pair in pairs) / len(pairs)
    assert outcome.metrics["flipped_share"] == wrong
    assert wrong == pytest.approx(flip_rate, abs=0.05)


def test_annotators_take_turns(tmp_path):
    _, pairs = labelled(tmp_path, many(tmp_path / "samples", 40), annotators=4)
    assert Counter(pair.annotator for pair in pairs) == {f"simulated-{n}": 10 for n in range(4)}


def test_a_budget_buys_so_many_labels_spread_over_the_questions(tmp_path):
    samples = many(tmp_path / "samples", 100)
    outcome, pairs = labelled(tmp_path, samples, budget=10)
    assert outcome.costs == {"labels": 10} and outcome.metrics["pairs"] == len(pairs) == 10
    assert max(int(pair.prompt.split()[-1]) for pair in pairs) > 20, "not simply the first ten"
    assert labelled(tmp_path, samples, budget=1_000)[0].costs == {"labels": 100}
    assert labelled(tmp_path, samples, budget=0)[0].costs == {"labels": 100}


@pytest.mark.parametrize(("most", "pairs"), [(1, 1), (4, 4), (100, 8)])
def test_no_more_pairs_of_a_prompt_than_asked_for(tmp_path, most, pairs):
    rights, wrongs = [[f"{n} {RIGHT}", True] for n in range(2)], [[f"{n} {WRONG}", True] for n in range(4)]
    outcome, _ = labelled(tmp_path, samples_of(tmp_path / "samples", rights + wrongs), pairs_per_prompt=most)
    assert outcome.metrics["pairs"] == pairs


def test_the_same_seed_gives_the_same_labels_byte_for_byte_and_another_does_not(tmp_path):
    samples = many(tmp_path / "samples", 50)
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        labelled(tmp_path, samples, seed=seed, name=name, flip_rate=0.25)
    first, again, other = ((tmp_path / name / "preferences.jsonl").read_bytes() for name in ("first", "again", "other"))
    assert first == again != other


def test_questions_without_answers_are_refused(tmp_path):
    question = Question(id="q7", prompt="Write a poem.").model_dump(mode="json")
    write_rows(tmp_path / "samples.jsonl", [{"question": question, "responses": [["a", True], ["b", True]]}])
    with pytest.raises(DataError) as caught:
        labelled(tmp_path, tmp_path)
    assert str(caught.value) == (
        "question q7 has no answers, and simulated annotators prefer right responses to wrong ones. "
        'Use imported preferences instead: SET="label.source=dataset"'
    )


@pytest.mark.parametrize("rows", [[], [[[RIGHT, True], [RIGHT, True]]], [[[WRONG, True], [WRONG + " 6", True]], [[RIGHT, True]]]])
def test_where_nothing_is_better_than_anything_it_is_refused(tmp_path, rows):
    with pytest.raises(DataError) as caught:
        labelled(tmp_path, samples_of(tmp_path / "samples", *rows))
    assert str(caught.value) == (
        "label: no prompt has both a better and a worse response, so there is nothing to prefer. "
        "Sample more (sample.per_prompt), or train the SFT model to answer some questions right"
    )


@pytest.mark.parametrize(("budget", "count"), [(0, 5), (3, 3), (9, 5)])
def test_a_datasets_own_preferences_are_taken_as_they_are(tmp_path, budget, count):
    pairs = [Preference(id=str(n), prompt="p", chosen=f"c{n}", rejected="r", annotator="ann", margin=2.0) for n in range(5)]
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir(), out.mkdir()
    write_rows(data / "preferences.jsonl", (pair.model_dump(mode="json") for pair in pairs))
    outcome = label_from_dataset(out, log, data=data, settings=LabelSettings(budget=budget))
    assert list(read_records(out / "preferences.jsonl", Preference)) == pairs[:count]
    assert outcome.metrics == {"pairs": count} and outcome.costs == {"labels": count}


def test_a_dataset_without_preferences_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"^the dataset has no preferences, which label\.source=dataset takes labels from\. Import"
    ):
        label_from_dataset(tmp_path, log, data=tmp_path, settings=LabelSettings())


# --- sampling ---------------------------------------------------------------------------------------------------------


def sampled(out, tiny_world, *, seed=0):
    out.mkdir()
    outcome = sample(
        out,
        log,
        data=tiny_world.data,
        start=tiny_world.base,
        tokenizer=tiny_world.tokenizer,
        model=ModelSettings(context=tiny_world.context),
        settings=SampleSettings(per_prompt=3, batch_size=32),
        max_new_tokens=12,
        context=tiny_world.context,
        seed=seed,
    )
    return outcome, list(read_rows(out / "samples.jsonl"))


def test_every_question_gets_its_samples_in_order(tmp_path, tiny_world, world_records):
    outcome, rows = sampled(tmp_path / "out", tiny_world)
    assert [Question.model_validate(row["question"]) for row in rows] == world_records["questions"]
    assert all(len(row["responses"]) == 3 for row in rows)
    assert outcome.metrics["responses"] == 3 * len(rows)
    assert 1 <= outcome.metrics["response_tokens"] <= 12
    assert outcome.costs["generated_tokens"] == pytest.approx(outcome.metrics["response_tokens"] * 3 * len(rows))


def test_the_same_seed_samples_the_same(tmp_path, tiny_world):
    assert sampled(tmp_path / "first", tiny_world)[1] == sampled(tmp_path / "again", tiny_world)[1]
    assert sampled(tmp_path / "other", tiny_world, seed=1)[1] != json.loads(json.dumps(sampled(tmp_path / "more", tiny_world)[1]))
