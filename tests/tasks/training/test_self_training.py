"""Which samples self-training learns from: by hand, by identity, by refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.errors import DataError
from posttrain.records import Demonstration, Question
from posttrain.settings.model import ModelSettings
from posttrain.settings.self_training import SelfTrainingSettings
from tasks.training import self_training, sft
from tasks.training.self_training import drawn, right_texts
from tasks.workspace.artifacts import Outcome
from tasks.workspace.jsonl import write_rows


def row(*responses, id="q1", answers=("5",), prompt="2 + 3"):
    question = Question(id=id, prompt=prompt, answers=answers)
    return {"question": question.model_dump(mode="json"), "responses": [list(one) for one in responses]}


def test_right_and_finished_samples_are_kept_each_text_once_in_their_order():
    told = right_texts(
        row(
            ("2 + 3 = 5. So 5", True),
            ("2 + 3 = 6. So 6", True),  # wrong
            ("Total 5", False),  # right as far as it goes, but cut off: EOS behind it would teach to stop there
            ("Answer: 5", True),
            ("2 + 3 = 5. So 5", True),  # a second time
            ("no idea", True),
        )
    )
    assert told == ["2 + 3 = 5. So 5", "Answer: 5"]


def test_a_text_that_was_once_cut_off_and_once_ended_is_kept():
    assert right_texts(row(("Answer: 5", False), ("Answer: 5", True))) == ["Answer: 5"]


def test_a_question_without_answers_gives_nothing():
    assert right_texts(row(("Answer: 5", True), answers=())) == []


TEXTS = st.lists(st.text(max_size=4), max_size=9, unique=True)


@given(TEXTS, st.integers(1, 9), st.integers(0, 3))
def test_a_draw_has_as_many_as_asked_for_in_their_order_and_repeats_itself(texts, most, seed):
    told = drawn(texts, most=most, seed=seed, question="q")
    assert len(told) == min(most, len(texts))
    assert told == [text for text in texts if text in told]
    assert told == drawn(texts, most=most, seed=seed, question="q")


def test_seed_and_question_decide_which_are_drawn():
    texts = [str(n) for n in range(20)]
    draws = {(seed, question): tuple(drawn(texts, most=5, seed=seed, question=question)) for seed in (0, 1) for question in "ab"}
    assert len(set(draws.values())) == 4
    firsts = sum(drawn(texts, most=1, seed=seed, question="q") == ["0"] for seed in range(400))
    assert 5 <= firsts <= 40, "one in twenty, not the first one always"


@pytest.fixture
def learnt(monkeypatch):
    """What would be learnt from, and how."""
    calls = []

    def imitate(out, log, examples, **how):
        calls.append((examples, how))
        return Outcome(metrics={"loss": 0.5, "epochs": 3.0}, costs={"trained_tokens": 9.0})

    monkeypatch.setattr(self_training, "imitate", imitate)
    return calls


def trained(folder, *rows, demonstrations=(), **settings):
    folder.mkdir(exist_ok=True)
    write_rows(folder / "samples.jsonl", rows)
    if demonstrations:
        write_rows(folder / "demonstrations.jsonl", (one.model_dump(mode="json") for one in demonstrations))
    return self_training.train(
        folder / "out",
        lambda *_: None,
        samples=folder,
        data=folder,
        start=folder / "base",
        tokenizer=folder / "tokenizer",
        model=ModelSettings(),
        settings=SelfTrainingSettings(**settings),
        context=64,
        seed=3,
    )


SHOWN = Demonstration(id="d", prompt="1 + 1", completion="Answer: 2")
ROWS = (
    row(("Answer: 5", True), ("So 5", True), ("Now 5", True)),
    row(("Answer: 6", True), id="q2", prompt="3 + 3", answers=("6",)),
    row(("Answer: 9", True), id="q3", prompt="3 + 4", answers=("7",)),
)


def test_demonstrations_and_right_samples_are_learnt_from(tmp_path, learnt):
    told = trained(tmp_path, *ROWS, demonstrations=[SHOWN], per_question=2)
    ((examples, how),) = learnt
    of_first = [text for prompt, text in examples if prompt == "2 + 3"]
    assert of_first == drawn(["Answer: 5", "So 5", "Now 5"], most=2, seed=3, question="q1")
    assert [prompt for prompt, _ in examples] == ["1 + 1", "2 + 3", "2 + 3", "3 + 3"]
    assert (how["stage"], how["start"], how["seed"]) == ("self_training", tmp_path / "base", 3)
    counts = {"questions": 3, "questions_solved": 2, "right_samples": 4, "samples": 3, "demonstrations": 1}
    assert told.metrics == {"loss": 0.5, "epochs": 3.0, **counts}
    assert told.costs == {"trained_tokens": 9.0}


def test_without_demonstrations_only_samples_are(tmp_path, learnt):
    told = trained(tmp_path, *ROWS, with_demonstrations=False)
    assert [prompt for prompt, _ in learnt[0][0]] == ["2 + 3"] * 3 + ["3 + 3"] and told.metrics["demonstrations"] == 0


def test_samples_of_which_none_is_right_are_refused(tmp_path, learnt):
    with pytest.raises(DataError) as caught:
        trained(tmp_path, *ROWS[2:], row(("Answer: 5", False)), demonstrations=[SHOWN])
    assert str(caught.value) == (
        "self-training has nothing to learn from: none of the samples of 2 questions is right and ended with EOS. "
        "Draw more of them (sample.per_prompt, sample.question_share), or train SFT longer (sft.epochs)"
    )
    assert not learnt


def test_demonstrations_that_are_wanted_must_be_there(tmp_path, learnt):
    with pytest.raises(DataError, match=r"^the dataset has no demonstrations, which self_training\.with_demon"):
        trained(tmp_path, *ROWS)


def test_it_is_trained_as_sft_is():
    assert self_training.imitate is sft.imitate
