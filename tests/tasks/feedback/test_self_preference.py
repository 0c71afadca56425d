"""The stage `self_preference`: what a judge makes of its own responses beside samples of another model."""

import pytest

from posttrain.settings.feedback import LabelSettings
from tasks.feedback.labels import read_labels
from tasks.feedback.self_preference import measure
from tasks.feedback.sources import judge as ai
from tasks.workspace.jsonl import read_rows, write_rows
from tests.tasks.judge_servers import completion, faulty
from tests.tasks.judge_sources import judge_of

OWN = "I made this up myself."

pytestmark = pytest.mark.usefixtures("one_thread")


def log(step, metrics):
    raise AssertionError("this stage has no curve")


@pytest.fixture
def samples(tmp_path, world_records):
    folder = tmp_path / "samples"
    folder.mkdir()
    rows = [
        {
            "question": question.model_dump(mode="json"),
            "responses": [[f"Answer: {question.answers[0]}", True], ["So 7777", False]],
        }
        for question in world_records["questions"][:20]
    ]
    write_rows(folder / "samples.jsonl", rows)
    return folder


def measured(tmp_path, tiny_world, samples, *, name="out", seed=0, own_questions=300, **settings):
    out = tmp_path / name
    out.mkdir()
    outcome = measure(
        out,
        log,
        samples=samples,
        judge=judge_of(tiny_world, tmp_path / "cache", **settings),
        questions=own_questions,
        max_new_tokens=24,
        model_uri="stage:sft/abc",
        seed=seed,
    )
    return dict(outcome.metrics), read_labels(out), outcome


def test_a_local_judge_compares_what_it_writes_itself_with_a_sample_of_the_same_question(tmp_path, tiny_world, samples):
    told, labels, _ = measured(tmp_path, tiny_world, samples, own_questions=12)
    assert len({label.question for label in labels}) == len(labels) == told["labels"] <= 12
    rows = {row["question"]["id"]: dict(row["responses"]) for row in read_rows(samples / "samples.jsonl")}
    sides = set()
    for label in labels:
        own_first = label.first_model != "stage:sft/abc"
        own, other = (label.first, label.second) if own_first else (label.second, label.first)
        assert {label.first_model, label.second_model} == {label.annotator, "stage:sft/abc"}
        assert other in rows[label.question] and own not in rows[label.question]
        sides.add(own_first)
    assert sides == {True, False}, "it stands first now and then"
    assert 0 <= told["own_low"] <= told["own"] <= told["own_high"] <= 1
    assert told["own_beyond_gold"] == pytest.approx(told["own"] - told["own_gold"])


def test_the_seed_decides(tmp_path, tiny_world, samples):
    one, again, other = (
        [(label.first, label.second, label.preference) for label in measured(tmp_path, tiny_world, samples, **how)[1]]
        for how in ({"name": "one"}, {"name": "again"}, {"name": "other", "seed": 1})
    )
    assert one == again != other


def server(body, number, *, likes_own=True):
    """Write `OWN` when it is asked to answer; score that 9, or 2, and anything else 5."""
    if "top_logprobs" not in body:
        return 200, completion(OWN)
    score = "5" if OWN not in body["messages"][-1]["content"] else "9" if likes_own else "2"
    return 200, completion(score, logprobs={score: -0.001, "1": -9.0})


@pytest.mark.parametrize(("likes_own", "share", "beyond"), [(True, 1.0, 1.0), (False, 0.0, 0.0)])
def test_a_servers_vanity_is_found_beyond_what_its_responses_are_worth(
    tmp_path, tiny_world, world_records, likes_own, share, beyond
):
    folder = tmp_path / "right"
    folder.mkdir()
    rows = [
        {"question": one.model_dump(mode="json"), "responses": [[f"Answer: {one.answers[0]}", True]]}
        for one in world_records["questions"][:9]
    ]
    write_rows(folder / "samples.jsonl", rows)
    with faulty(lambda body, number: server(body, number, likes_own=likes_own)) as served:
        how = {"backend": "openai", "model": "m", "base_url": served.url, "template": "constitution", "price_completion": 1e6}
        told, labels, outcome = measured(tmp_path, tiny_world, folder, **how)
        asked = len(served.requests)
        measured(tmp_path, tiny_world, folder, name="again", **how)
        assert len(served.requests) == asked, "responses are kept as any reply"
    assert told["labels"] == len(labels) == 9
    assert (told["own"], told["own_gold"], told["own_beyond_gold"]) == (share, 0.0, beyond)
    assert outcome.costs["judge"] == pytest.approx(asked), "a token a reply, each at 1"


def test_a_judge_that_writes_what_was_sampled_too_says_nothing(tmp_path, tiny_world, world_records):
    folder = tmp_path / "same"
    folder.mkdir()
    rows = [{"question": one.model_dump(mode="json"), "responses": [[OWN, True]]} for one in world_records["questions"][:3]]
    write_rows(folder / "samples.jsonl", rows)
    with faulty(server) as served:
        how = {"backend": "openai", "model": "m", "base_url": served.url, "template": "constitution"}
        told, labels, _ = measured(tmp_path, tiny_world, folder, **how)
        assert labels == [] and told == {"labels": 0.0} and len(served.requests) == 3


def test_the_labels_that_are_learnt_from_are_of_the_same_form(tmp_path, tiny_world, samples):
    """What the judge labels names one model on both sides, so nobody takes it for a comparison of two."""
    out = tmp_path / "learnt"
    out.mkdir()
    ai.label(
        out,
        log,
        samples=samples,
        judge=judge_of(tiny_world, tmp_path / "cache", min_conviction=0.0),
        settings=LabelSettings(),
        findings=tmp_path / "findings",
        model_uri="stage:sft/abc",
        seed=0,
    )
    assert {(label.first_model, label.second_model) for label in read_labels(out)} == {("stage:sft/abc", "stage:sft/abc")}
