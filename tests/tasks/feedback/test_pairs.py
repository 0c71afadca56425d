"""Which pairs are labelled: equal ones whoever labels, random ones unless gold is asked for."""

from collections import Counter
from pathlib import Path

import pytest

from posttrain.errors import DataError
from posttrain.records import Question
from posttrain.settings.feedback import LabelSettings
from tasks.feedback.labels import read_labels
from tasks.feedback.pairs import draw_pairs, of_questions
from tasks.feedback.sources import judge as ai
from tasks.feedback.sources import simulated
from tasks.workspace.jsonl import write_rows
from tests.tasks.feedback.sources.test_simulated import RIGHT, WRONG, log, samples_of
from tests.tasks.judge_sources import judge_of

ROOT = Path(__file__).resolve().parents[3]


def drawn(samples, *, seed=0, **settings):
    return draw_pairs(samples, LabelSettings(**settings), model_uri="models:/m/1", seed=seed)


def mixed(folder, questions=30):
    """Of each question two right responses, one of them cut off, and two wrong ones."""
    rows = (
        [[f"{n} {RIGHT}", True], [f"{n}; {RIGHT}", False], [f"{n} {WRONG}", True], [f"{n}; {WRONG}", True]]
        for n in range(questions)
    )
    return samples_of(folder, *rows)


def shown(pairs):
    return [(pair.question.id, pair.first, pair.second) for pair in pairs]


def test_people_and_judge_are_shown_the_same_pairs_in_the_same_order(tmp_path, tiny_world):
    """Else RLHF and RLAIF differ in what they learn from, and not in who said it."""
    samples = mixed(tmp_path / "samples")
    (tmp_path / "people").mkdir(), (tmp_path / "judge").mkdir()
    chosen = LabelSettings(overlap=0.0, pairs_per_prompt=3)
    simulated.label(tmp_path / "people", log, samples=samples, settings=chosen, model_uri="m", seed=5)
    ai.label(
        tmp_path / "judge",
        log,
        samples=samples,
        judge=judge_of(tiny_world, tmp_path / "cache", min_conviction=0.0, max_flips=1.0, max_unreadable=1.0),
        settings=chosen,
        findings=tmp_path / "findings",
        model_uri="m",
        seed=5,
    )
    people, judge = (read_labels(tmp_path / who) for who in ("people", "judge"))
    seen = [
        [(one.question, one.first, one.second, one.gold, one.first_finished, one.second_finished) for one in who]
        for who in (people, judge)
    ]
    assert len(people) == 90 and seen[0] == seen[1]
    assert {one.source for one in people} == {"simulated"} and {one.source for one in judge} == {"judge"}


def test_pairs_of_some_questions_are_all_of_those_that_come_first(tmp_path):
    pairs = drawn(mixed(tmp_path / "samples"), pairs_per_prompt=3)
    first = list(dict.fromkeys(pair.question.id for pair in pairs))[:4]
    some = of_questions(pairs, most=4)
    assert some == [pair for pair in pairs if pair.question.id in first] and len(some) == 12
    assert of_questions(pairs, most=0) == of_questions(pairs, most=99) == pairs


def test_random_pairs_are_those_of_a_team_without_answers(tmp_path):
    """Of the six pairs of a question gold decides five (right before wrong, finished before cut off) and not one."""
    pairs = drawn(mixed(tmp_path / "samples"), pairs_per_prompt=6)
    assert Counter(pair.gold == 0.5 for pair in pairs) == {False: 150, True: 30}
    without = [row.question.model_copy(update={"answers": ()}) for row in pairs[:1]]
    write_rows(
        tmp_path / "samples.jsonl", [{"question": without[0].model_dump(mode="json"), "responses": [["a", True], ["b", True]]}]
    )
    (pair,) = drawn(tmp_path)
    assert pair.gold is None


def test_answers_change_nothing_about_which_pairs_are_drawn(tmp_path):
    rows = [[[RIGHT, True], [WRONG, True], [WRONG + " 6", True], [RIGHT + " 4", True]]] * 20
    one = drawn(samples_of(tmp_path / "one", *rows), pairs_per_prompt=3)
    changed = [
        {
            "question": Question(id=f"q{n}", family=f"f{n}", prompt=f"What? {n}", answers=("5",)).model_dump(mode="json"),
            "responses": row,
        }
        for n, row in enumerate(rows)
    ]
    (tmp_path / "other").mkdir()
    write_rows(tmp_path / "other" / "samples.jsonl", changed)
    other = drawn(tmp_path / "other", pairs_per_prompt=3)
    assert shown(one) == shown(other) and [pair.gold for pair in one] != [pair.gold for pair in other]


def test_decided_pairs_are_drawn_only_where_that_is_named_and_answers_are_there(tmp_path):
    samples = mixed(tmp_path / "samples")
    assert all(pair.gold != 0.5 for pair in drawn(samples, pairs="decided", pairs_per_prompt=6))
    question = Question(id="q7", prompt="Write a poem.").model_dump(mode="json")
    write_rows(tmp_path / "samples.jsonl", [{"question": question, "responses": [["a", True], ["b", True]]}])
    with pytest.raises(
        DataError, match=r"labels.pairs=decided takes pairs of which one response is better, .* question q7 has none"
    ):
        drawn(tmp_path, pairs="decided")


def test_each_response_is_used_as_evenly_as_possible_and_never_against_itself(tmp_path):
    """Two of the six pairs of four responses can use each once."""
    rows = [[["a", True], ["b", True], ["a", False], ["c", True], ["d", True]]] * 20
    pairs = drawn(samples_of(tmp_path / "samples", *rows), pairs_per_prompt=2)
    for number in range(20):
        used = [text for pair in pairs if pair.question.id == f"q{number}" for text in (pair.first, pair.second)]
        assert sorted(used) == ["a", "b", "c", "d"]


def test_either_is_shown_first_questions_are_mixed_and_the_seed_decides(tmp_path):
    samples = samples_of(tmp_path / "samples", *([[["a", True], ["b", True]]] * 400))
    pairs = drawn(samples)
    assert 160 < sum(pair.first == "a" for pair in pairs) < 240  # four standard errors of 10 about 200
    order = [pair.question.id for pair in pairs]
    assert order != sorted(order, key=lambda name: int(name[1:])) and sorted(order) == sorted(f"q{n}" for n in range(400))
    assert shown(pairs) == shown(drawn(samples)) != shown(drawn(samples, seed=1))


@pytest.mark.parametrize("rows", [[], [[["a", True], ["a", True]]]])
def test_where_there_is_nothing_to_compare_it_is_refused(tmp_path, rows):
    with pytest.raises(DataError) as caught:
        drawn(samples_of(tmp_path / "samples", *rows))
    assert str(caught.value) == (
        "no question has two samples to compare (different responses; labels.pairs=random), so there is nothing to label. "
        "Sample more (sample.per_prompt), or hotter (sample.temperature)"
    )
