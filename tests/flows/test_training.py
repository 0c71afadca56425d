"""What the checks before any training refuse by the method's row, and which settings its trainer gets."""

from pathlib import Path

import pytest

from flows.training import check_groups, check_roles, trainer_settings
from posttrain.errors import DataError, RequestError
from posttrain.settings.config import merge
from tasks.workspace.jsonl import write_rows


def dataset(folder: Path, *, answers: tuple[str, ...] = ("2",), has_demonstrations: bool = True) -> Path:
    if has_demonstrations:
        write_rows(folder / "demonstrations.jsonl", [{"kind": "demonstration", "id": "d", "prompt": "1 + 1", "completion": "2"}])
    asked = [{"kind": "question", "id": f"q{number}", "prompt": f"{number} + 1", "answers": answers} for number in range(3)]
    for role in ("questions", "held_out"):
        write_rows(folder / f"{role}.jsonl", asked)
    return folder


def refused(method: str, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        check_roles(merge({}, [f"method={method}", "data.name=mine"]), folder)
    return str(caught.value)


@pytest.mark.parametrize("method", ["self_training", "few_shot"])
def test_data_that_hold_what_the_method_wants_are_taken(tmp_path: Path, method: str) -> None:
    check_roles(merge({}, [f"method={method}"]), dataset(tmp_path))


def test_self_training_needs_questions_with_answers(tmp_path: Path) -> None:
    assert refused("self_training", dataset(tmp_path, answers=())) == (
        "the questions of mine have no answers, so nobody can tell which samples self-training is to learn from. "
        "Import questions with answers; without them, METHOD=dpo learns from preferences"
    )
    (tmp_path / "questions.jsonl").unlink()
    assert refused("self_training", tmp_path).startswith("the dataset has no questions, which self-training asks. Import data")


def test_few_shot_needs_demonstrations_and_no_answers(tmp_path: Path) -> None:
    check_roles(merge({}, ["method=few_shot"]), dataset(tmp_path, answers=()))
    (tmp_path / "demonstrations.jsonl").unlink()
    assert refused("few_shot", tmp_path).startswith("the dataset has no demonstrations, which few-shot shows. Import data")


def test_a_method_that_is_rewarded_names_what_asks(tmp_path: Path) -> None:
    (dataset(tmp_path) / "questions.jsonl").unlink()
    assert refused("reft", tmp_path).startswith("the dataset has no questions, which PPO asks. Import data")


def test_an_update_is_a_whole_number_of_groups():
    for fits in ("method=ppo", "method=grpo", "method=rloo", "method=dpo grpo.num_generations=7"):
        check_groups(merge({}, fits.split()))
    with pytest.raises(RequestError, match=r"^ppo\.episodes must be a multiple of grpo\.num_generations \(7\), got 256$"):
        check_groups(merge({}, ["method=grpo", "grpo.num_generations=7"]))


def test_a_trainer_gets_its_own_settings_and_those_of_its_loop():
    def given(method, *words):
        return trainer_settings(merge({}, [f"method={method}", *words]))

    config = merge({}, [])
    assert given("dpo") == {"settings": config.dpo} and given("reft") == {"settings": config.ppo}
    assert given("grpo") == {"settings": config.ppo, "grpo": config.grpo}
    adjusted = given("rlhf", "rlhf.kl_coef=0.7")["settings"]
    assert (adjusted.kl_coef, adjusted.reward_scale) == (0.7, "running") and adjusted.updates == config.ppo.updates
    assert given("drlaif")["settings"].kl_coef == config.rlhf.kl_coef != config.ppo.kl_coef
