"""The stages of PPO's loop whose estimator compares the responses to one question: no critic, whole groups, a signal or none."""

import pytest
import torch

from models.load import load_model
from models.size import size_of
from posttrain.errors import ContractError, RequestError
from posttrain.settings.grpo import GRPOSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.rloo import RLOOSettings
from tasks.training import grpo, loop, rloo
from tasks.workspace.artifacts import file_digest
from tasks.workspace.jsonl import read_rows
from tests.tasks.training.test_ppo import digest, train

TRAINERS = {"grpo": grpo, "rloo": rloo}
ESTIMATORS = [{"grpo": GRPOSettings(num_generations=4)}, {"rloo": RLOOSettings()}]


@pytest.mark.slow
@pytest.mark.parametrize("own", ESTIMATORS, ids=lambda own: next(iter(own)))
def test_the_stage_needs_no_critic_for_estimators_that_have_none(tiny_world, tmp_path, rewards, own):
    body = "def score(prompts, completions, records):\n    return [-float(len(text)) / 9 for text in completions]\n"
    points = []
    outcome = train(
        tiny_world,
        tmp_path / "out",
        tmp_path / "kept",
        reward=rewards(body),
        trainer=TRAINERS[next(iter(own))],
        own=own,
        log=lambda step, figures: points.append(figures),
    )
    assert {"ppo/reward", "ppo/kl", "ppo/groups_without_signal", "ppo/gold"} <= points[-1].keys()
    assert not {"ppo/value_loss", "ppo/explained_variance"} & points[-1].keys()
    assert points[0]["ppo/kl_coef"] == next(iter(own.values())).kl_coef
    assert digest(tmp_path / "out") != file_digest(tiny_world.base / "model" / "model.safetensors")
    # four responses to each question, one after the other; two epochs of the policy, which reads as it samples, and the reference
    prompts = [row["prompt"] for row in read_rows(tmp_path / "out" / loop.SAMPLES)]
    assert [len(set(prompts[place : place + 4])) for place in range(0, len(prompts), 4)] == [1] * (len(prompts) // 4)
    costs = outcome.costs
    whole = costs["trained_tokens"] / 2
    assert costs["critic_tokens"] == 0 and costs["forward_tokens"] == 2 * whole
    policy = size_of(load_model(str(tiny_world.base / "model"), ModelSettings(), on=torch.device("cpu"))).weights
    assert costs["flops"] == 6 * policy * 2 * whole + 2 * policy * 2 * whole


@pytest.mark.slow
def test_groups_without_a_signal_leave_nothing_to_learn(tiny_world, tmp_path, rewards):
    name = rewards("def score(prompts, completions, records):\n    return [1.0] * len(prompts)\n")
    with pytest.raises(ContractError, match=r"Raise ppo\.learning_rate, or see whether ppo/groups_without_signal is 1: then"):
        train(tiny_world, tmp_path / "out", tmp_path / "kept", reward=name, trainer=grpo, own=ESTIMATORS[0])


def test_groups_that_do_not_fit_an_update_are_refused(tiny_world, tmp_path):
    with pytest.raises(RequestError) as error:
        train(tiny_world, tmp_path / "out", tmp_path / "kept", trainer=grpo, own={"grpo": GRPOSettings(num_generations=5)})
    assert str(error.value) == "ppo.episodes must be a multiple of the 5 responses to a prompt that grpo compares, got 16"
