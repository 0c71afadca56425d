"""Labels of simulated annotators: gold with a set share of errors, spread over annotators, pairs and questions."""

import json
from collections import Counter

import pytest

from posttrain.errors import DataError
from posttrain.feedback.labels import by_pair
from posttrain.graders.answer import grade
from posttrain.records import Question
from posttrain.settings.feedback import LabelSettings
from tasks.feedback.labels import read_labels
from tasks.feedback.sources import simulated
from tasks.workspace.jsonl import write_rows

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
    chosen = LabelSettings(**{"overlap": 0.0, **settings})
    return simulated.label(out, log, samples=samples, settings=chosen, model_uri="models:/m/1", seed=seed), read_labels(out)


def better(label):
    return label.first if label.preference > 0.5 else label.second


def worse(label):
    return label.second if label.preference > 0.5 else label.first


def is_right(text):
    return grade(text, ["4"]).is_right


def test_without_noise_right_is_preferred_to_wrong_and_finished_to_unfinished(tmp_path):
    samples = samples_of(
        tmp_path / "samples",
        [[WRONG, True], [RIGHT, True]],
        [[RIGHT + " ", False], [RIGHT, True]],
        [[WRONG, True], [WRONG + " 6", True]],  # a tie
        [[RIGHT, False], [WRONG, True]],  # right, though cut off
    )
    outcome, labels = labelled(tmp_path, samples, flip_rate=0.0)
    (tie,) = (label for label in labels if label.preference == 0.5)
    assert (tie.prompt, tie.gold) == ("What? 2", 0.5)
    assert {(label.prompt, better(label), worse(label)) for label in labels if label is not tie} == {
        ("What? 0", RIGHT, WRONG),
        ("What? 1", RIGHT, RIGHT + " "),
        ("What? 3", RIGHT, WRONG),
    }
    ended = {text: is_finished for label in labels for text, is_finished in ((label.first, label.first_finished),)}
    ended |= {label.second: label.second_finished for label in labels}
    assert ended[RIGHT + " "] is False and ended[WRONG] is True
    assert outcome.metrics["pairs"] == outcome.metrics["labels"] == 4 and outcome.metrics["flipped_share"] == 0.0
    assert outcome.costs == {"labels": 4}
    assert len({label.id for label in labels}) == 4
    for label in labels:
        number = label.prompt[-1]
        assert (label.question, label.group, label.family) == (f"q{number}", f"q{number}", f"f{number}")
        assert (label.source, label.at, label.first_model, label.second_model) == ("simulated", "", "models:/m/1", "models:/m/1")
        assert label.gold == label.preference


def test_ties_are_decided_by_brevity_where_that_is_asked_for_and_gold_says_so(tmp_path):
    samples = samples_of(tmp_path / "samples", [[WRONG + " or more", True], [WRONG, True]])
    _, (label,) = labelled(tmp_path, samples, flip_rate=0.0, ties="shorter")
    assert (better(label), worse(label), label.gold) == (WRONG, WRONG + " or more", 0.5)


@pytest.mark.parametrize("flip_rate", [0.1, 0.25, 0.4])
def test_labels_are_wrong_as_often_as_set_and_as_told(tmp_path, flip_rate):
    """2,000 labels by 100 annotators whose rates average to the one set: 5 points are more than four standard errors."""
    outcome, labels = labelled(tmp_path, many(tmp_path / "samples", 2_000), flip_rate=flip_rate, annotators=100)
    wrong = sum(is_right(worse(label)) for label in labels) / len(labels)
    assert outcome.metrics["flipped_share"] == wrong
    assert wrong == pytest.approx(flip_rate, abs=0.05)
    assert all((label.gold == 1.0) == is_right(label.first) for label in labels), "gold is free of noise"


def test_either_response_is_shown_first_whatever_is_chosen(tmp_path):
    """2,000 labels: 5 points are more than four standard errors of a half."""
    _, labels = labelled(tmp_path, many(tmp_path / "samples", 2_000), flip_rate=0.25)
    assert sum(is_right(label.first) for label in labels) / 2_000 == pytest.approx(0.5, abs=0.05)
    flipped = [label for label in labels if label.gold != label.preference]
    assert sum(label.preference for label in flipped) / len(flipped) == pytest.approx(0.5, abs=0.1)


def test_annotators_take_turns(tmp_path):
    _, labels = labelled(tmp_path, many(tmp_path / "samples", 40), annotators=4)
    assert Counter(label.annotator for label in labels) == {f"simulated-{n}": 10 for n in range(4)}


def test_an_overlap_has_so_many_pairs_labelled_by_a_second_annotator(tmp_path):
    """400 pairs, a quarter of them twice: 100 ± 26 (three standard errors); each twice by two different annotators."""
    outcome, labels = labelled(tmp_path, many(tmp_path / "samples"), overlap=0.25, flip_rate=0.25)
    annotators = [[label.annotator for label, _ in given] for given in by_pair(labels).values()]
    twice = [given for given in annotators if len(given) > 1]
    assert len(annotators) == 400 and 74 < len(twice) < 126
    assert all(len(given) == 2 and given[0] != given[1] for given in twice)
    assert len({tuple(given) for given in twice}) == 20, "anyone may be the second of anyone: 5 · 4"
    assert outcome.metrics["shared_pairs"] == len(twice)
    assert outcome.costs == {"labels": 400 + len(twice)} and outcome.metrics["labels"] == 400 + len(twice)
    assert outcome.metrics["agreement_low"] < outcome.metrics["agreement"] < outcome.metrics["agreement_high"]
    assert outcome.metrics["kappa"] < 0.6 and outcome.metrics["alpha"] < 0.6


def test_every_pair_twice_and_one_annotator_alone(tmp_path):
    samples = many(tmp_path / "samples", 40)
    assert len(labelled(tmp_path, samples, overlap=1.0)[1]) == 80
    outcome, labels = labelled(tmp_path, samples, overlap=1.0, annotators=1)
    assert len(labels) == 40 and "agreement" not in outcome.metrics


def test_agreement_is_written_beside_the_labels(tmp_path):
    outcome, labels = labelled(tmp_path, many(tmp_path / "samples", 200), overlap=0.5, flip_rate=0.25)
    told = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert told["labels"] == len(labels) and told["kappa"] == outcome.metrics["kappa"]
    assert set(told["annotators"]) == {f"simulated-{n}" for n in range(5)}
    rates = [one["flip_rate"]["estimate"] * one["against_gold"] for one in told["annotators"].values()]
    assert sum(rates) / len(labels) == pytest.approx(outcome.metrics["flipped_share"])


def test_a_budget_counts_every_label_and_spreads_over_the_questions(tmp_path):
    samples = many(tmp_path / "samples", 100)
    outcome, labels = labelled(tmp_path, samples, budget=10, overlap=1.0)
    assert outcome.costs == {"labels": 10} and len(labels) == 10 and outcome.metrics["pairs"] == 5
    _, labels = labelled(tmp_path, samples, budget=10)
    assert max(int(label.prompt.split()[-1]) for label in labels) > 20, "not simply the first ten"
    assert labelled(tmp_path, samples, budget=1_000)[0].costs == {"labels": 100}
    assert labelled(tmp_path, samples, budget=0)[0].costs == {"labels": 100}


@pytest.mark.parametrize(("most", "pairs"), [(1, 1), (4, 4), (100, 15)])
def test_no_more_pairs_of_a_prompt_than_asked_for(tmp_path, most, pairs):
    rights, wrongs = [[f"{n} {RIGHT}", True] for n in range(2)], [[f"{n} {WRONG}", True] for n in range(4)]
    outcome, _ = labelled(tmp_path, samples_of(tmp_path / "samples", rights + wrongs), pairs_per_prompt=most)
    assert outcome.metrics["pairs"] == pairs


def test_the_same_seed_gives_the_same_files_byte_for_byte_and_another_does_not(tmp_path):
    samples = many(tmp_path / "samples", 50)
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        labelled(tmp_path, samples, seed=seed, name=name, flip_rate=0.25, overlap=0.5)
    for file in ("labels.jsonl", "agreement.json"):
        first, again, other = ((tmp_path / name / file).read_bytes() for name in ("first", "again", "other"))
        assert first == again != other


def test_questions_without_answers_are_refused(tmp_path):
    question = Question(id="q7", prompt="Write a poem.").model_dump(mode="json")
    write_rows(tmp_path / "samples.jsonl", [{"question": question, "responses": [["a", True], ["b", True]]}])
    with pytest.raises(DataError) as caught:
        labelled(tmp_path, tmp_path)
    assert str(caught.value) == (
        "question q7 has no answers, and simulated annotators prefer right responses to wrong ones. "
        'Use imported feedback instead: SET="labels.source=dataset"'
    )


def test_where_nothing_is_better_than_anything_it_is_refused(tmp_path):
    ties = [[WRONG, True], [WRONG + " 6", True]]
    with pytest.raises(DataError) as caught:
        labelled(tmp_path, samples_of(tmp_path / "samples", ties, ties), flip_rate=0.0)
    assert str(caught.value) == (
        "label: all 2 labels say that both responses are equally good, so there is nothing to prefer. "
        "Sample more (sample.per_prompt), or train the SFT model to answer some questions right"
    )
