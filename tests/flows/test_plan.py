"""Which stages are announced. Whole pipelines hold it to what runs: `check_lines` in tests/flows/houses.py."""

import json

import pytest

from flows.plan import plan
from posttrain.methods import METHODS
from posttrain.settings.config import merge

FIRST = ("tokenizer", "validate", "base")
SFT = ("sft", "evaluate-sft", "evaluate-base")
JUDGED = ("sample", "judge", "label", "second_opinion", "self_preference")


@pytest.fixture
def data(tmp_path):
    """A dataset with three demonstrations, two questions and five held-out ones."""
    for role, count in {"demonstrations": 3, "questions": 2, "held_out": 5}.items():
        (tmp_path / f"{role}.jsonl").write_text("".join(json.dumps({"answers": ["1"]}) + "\n" for _ in range(count)))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("method=sft", (*FIRST, *SFT)),
        ("method=dpo", (*FIRST, *SFT, "sample", "label", "dpo", "evaluate-dpo")),
        ("method=kto", (*FIRST, *SFT, "sample", "label", "kto", "evaluate-kto")),
        ("method=few_shot", (*FIRST, "evaluate-base", "few_shot", "evaluate-few_shot")),
        ("method=self_training", (*FIRST, *SFT, "sample", "self_training", "evaluate-self_training")),
        ("method=reft", (*FIRST, *SFT, "ppo", "evaluate-reft", "audit")),
        ("method=grpo", (*FIRST, *SFT, "grpo", "evaluate-grpo", "audit")),
        ("method=rloo", (*FIRST, *SFT, "rloo", "evaluate-rloo", "audit")),
        ("method=ppo", (*FIRST, "evaluate-base", "ppo", "evaluate-ppo", "audit")),
        ("method=rlhf", (*FIRST, *SFT, "sample", "label", "reward_model", "ppo", "evaluate-rlhf", "audit")),
        ("method=rlaif", (*FIRST, *SFT, *JUDGED, "reward_model", "ppo", "evaluate-rlaif", "audit")),
        ("method=drlaif", (*FIRST, *SFT, "judge", "ppo", "evaluate-drlaif", "audit")),
        ("method=dpo labels.source=judge", (*FIRST, *SFT, *JUDGED, "dpo", "evaluate-dpo")),
        ("method=dpo labels.source=dataset", (*FIRST, *SFT, "label", "dpo", "evaluate-dpo")),
        ("method=sft evaluate.judge=true", (*FIRST, *SFT, "judge", "judge-base")),
        ("method=sft evaluate.part=reported", ("tokenizer", "validate", "part", "base", *SFT)),
        ("method=reft evaluate.judge=true", (*FIRST, *SFT, "ppo", "evaluate-reft", "judge", "judge-reft", "audit")),
    ],
)
def test_the_stages_of_each_method(data, words, names):
    assert plan(merge({}, words.split()), data).names == names


def test_what_is_asked_of_a_part_is_told(data):
    told = plan(merge({}, ["method=sft", "evaluate.part=reported"]), data)
    assert told.doing("part") == "choosing the held-out questions that are reported"
    assert told.doing("evaluate-sft") == "sft answers the reported ones of 5 held-out questions"
    assert plan(merge({}, ["method=sft"]), data).doing("evaluate-sft") == "sft answers 5 held-out questions"


def test_how_many_questions_are_sampled_for_is_told(data):
    assert plan(merge({}, ["method=dpo"]), data).doing("sample") == "drawing 8 responses to each question"
    told = plan(merge({}, ["method=dpo", "sample.max_questions=500"]), data).doing("sample")
    assert told == "drawing 8 responses to each of 500 questions at most"


def test_every_method_has_its_training_stages(data):
    for name, method in METHODS.items():
        to_come = plan(merge({}, [f"method={name}"]), data).names
        assert [stage for stage in to_come if stage in method.stages] == list(method.stages)


def test_labels_of_the_dataset_spare_the_samples(data):
    (data / "preferences.jsonl").write_text("{}\n")
    assert "sample" not in plan(merge({}, ["method=dpo"]), data).names


def test_without_answers_nobody_is_asked_about_the_judges_pairs(data):
    (data / "questions.jsonl").write_text('{"answers": []}\n{}\n')
    config = ["method=rlaif"]
    assert "second_opinion" not in plan(merge({}, config), data).names
    assert "second_opinion" in plan(merge({}, [*config, "labels.file=people.jsonl"]), data).names


@pytest.mark.parametrize("content", ["not json\n", "[]\n", ""])
def test_a_dataset_that_is_wrong_is_the_gates_to_refuse(data, content):
    for file in data.iterdir():
        file.write_text(content)
    assert plan(merge({}, ["method=rlaif"]), data).names[:3] == FIRST


def test_a_judge_with_a_budget_does_not_compare_its_own(data):
    assert "self_preference" not in plan(merge({}, ["method=rlaif", "judge.budget=5"]), data).names


def test_a_judge_that_needs_no_practice(data):
    asked = ["method=rlaif", "judge.backend=openai", "judge.model=x", "judge.base_url=http://127.0.0.1:1/v1"]
    assert "judge" not in plan(merge({}, asked), data).names


def test_what_stages_do(data):
    to_come = plan(merge({}, ["method=dpo", "evaluate.max_questions=4", "pretrain.steps=1200"]), data)
    assert to_come.doing("sft") == "imitating 3 demonstrations"
    assert to_come.doing("base") == "pretraining for 1,200 steps"
    assert to_come.doing("evaluate-sft") == "sft answers 4 held-out questions"
    assert to_come.doing("label") == "simulated annotators compare samples"
    samples = plan(merge({}, ["method=self_training", "self_training.per_question=2"]), data)
    assert samples.doing("self_training") == "imitating up to 2 right samples a question"
    shots = plan(merge({}, ["method=few_shot", "few_shot.shots=8"]), data)
    assert shots.doing("few_shot") == "choosing 8 demonstrations to put before each question"
    assert to_come.doing("a stage of the future") == ""
    assert plan(merge({}, ["method=kto"]), data).doing("kto") == "learning from the labels"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_stage_has_its_words(data, method):
    to_come = plan(merge({}, [f"method={method}"]), data)
    assert all(to_come.doing(name) for name in to_come.names)
