"""A run's parameters are what something of it read: no more, whatever became of it, and the same for the stages' own runs."""

import pytest

from posttrain.methods import METHODS
from posttrain.settings.config import merge
from tasks.tracking.ledger import Ledger
from tasks.tracking.parameters import parameters_from_stage, parameters_of_request, parameters_of_stage
from tests.tasks.tracking.test_ledger import KEY, _quiet, artifact, ledger, start

__all__ = ["_quiet", "ledger"]

ASKING = {"backend", "model", "template", "samples"}
"""Some of the judge's settings that decide what it says."""
ASKED = {"method": "dpo", "seed": "0", "data.name": "world", "labels.source": "auto"}


def test_a_pipeline_lists_what_its_stages_read_and_nothing_else(ledger: Ledger, tmp_path) -> None:
    run_id = start(ledger)
    ledger.log_cached_stage(run_id, artifact(tmp_path / "a"))
    ledger.start_stage(
        run_id, "sample", key=KEY, settings={"sample.per_prompt": 8, "max_new_tokens": 40, "device": "cpu", "seed": 0}
    )
    told = ledger.client.get_run(run_id).data.params
    assert told == ASKED | {"sft.epochs": "10.0", "sample.per_prompt": "8", "device": "cpu"}


def test_a_failed_pipeline_keeps_what_was_read_until_then(ledger: Ledger) -> None:
    run_id = start(ledger)
    ledger.start_stage(run_id, "sft", key=KEY, settings={"sft.epochs": 3.0, "context": 512}).fail("no")
    ledger.fail_pipeline(run_id, "no")
    assert ledger.client.get_run(run_id).data.params == ASKED | {"sft.epochs": "3.0"}


def test_a_value_that_another_stage_gave_is_not_given_again(ledger: Ledger) -> None:
    """MLflow would refuse the second, and the run with it."""
    run_id = start(ledger)
    for seed in (0, 1):
        stage = ledger.start_stage(run_id, "sft", key=KEY, settings={"model.context": 512 + seed, "seed": seed})
        assert ledger.client.get_run(stage.run_id).data.params == {"model.context": str(512 + seed), "seed": str(seed)}
    assert ledger.client.get_run(run_id).data.params == ASKED | {"model.context": "512"}


def test_the_run_of_an_older_version_that_lists_everything_takes_stages_all_the_same(ledger: Ledger) -> None:
    run_id = start(ledger)
    ledger._log(run_id, params={"sft.epochs": "10", "kto.beta": "0.1"})
    ledger.start_stage(run_id, "sft", key=KEY, settings={"sft.epochs": 3.0})
    assert ledger.client.get_run(run_id).data.params["sft.epochs"] == "10"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("method=sft", set()),
        ("method=reft", set()),
        ("method=dpo labels.file=x.jsonl labels.source=people", {"labels.source", "labels.file"}),
        ("method=sft evaluate.judge=true", {"evaluate.judge", *ASKING}),
        ("method=rlaif", {"labels.source", *ASKING}),
        ("method=drlaif", ASKING),
        ("method=dpo labels.source=judge", {"labels.source", *ASKING}),
    ],
)
def test_the_judge_and_labels_are_told_where_they_decide(words: str, names: set[str]) -> None:
    told = parameters_of_request(merge({}, words.split()))
    judge = {name.removeprefix("judge.") for name in told if name.startswith("judge.")}
    assert {"method", "seed", "data.name"} <= told.keys()
    others = {name for name in told if not name.startswith("judge.")} - {"method", "seed", "data.name"}
    assert others | (judge & ASKING) == names
    assert told.get("evaluate.judge", True) is True
    assert not judge & {"timeout", "retries", "price_prompt", "practice_steps", "own_questions"}, (
        "they decide nothing, or a stage's"
    )


def test_a_reward_that_is_named_for_another_method_is_not_told() -> None:
    settings = {"ppo.reward": "answer", "ppo.partial_credit": 0.0, "ppo.updates": 3}
    assert parameters_of_stage(settings, METHODS["rlhf"]) == {"ppo.updates": 3}
    for name in ("reft", "ppo", "grpo"):
        assert parameters_of_stage(settings, METHODS[name]) == settings
    assert parameters_of_stage(settings, None) == settings


def test_what_only_repeats_a_setting_stays_with_the_stage() -> None:
    settings = {"context": 512, "is_policy": True, "dataset": "world", "seed": 0, "question_share": 0.5, "dpo.beta": 0.2}
    assert parameters_from_stage(settings) == {"seed": 0, "question_share": 0.5, "dpo.beta": 0.2}
