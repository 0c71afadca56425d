"""Which blocks are gathered one at a time, and what is whole already; on processes: tests/tasks/test_launch_sharded_ppo.py."""

import torch

from models.lora import adapted
from models.policy import policy_and_critic
from models.policy_layout import ReplicatedPolicy, laid_out
from models.sharding import block_names, full, part_like, whole
from posttrain.settings.model import ModelSettings
from tests.tiny_ppo import llama


def test_blocks_are_those_of_policy_and_critic_with_adapters_or_without():
    made = policy_and_critic(llama(), critic="separate")
    assert block_names(made) == block_names(made.critic) == ["LlamaDecoderLayer"]
    assert block_names(adapted(llama(), ModelSettings(lora_rank=2), task="CAUSAL_LM", seed=0)) == ["LlamaDecoderLayer"]
    assert block_names(torch.nn.Linear(2, 2)) == []


def test_one_process_holds_all_weights_however_they_are_to_be_shared():
    made = policy_and_critic(llama(), critic="shared")
    held = laid_out(made, ModelSettings(sharding="fsdp"))
    assert isinstance(held, ReplicatedPolicy)
    with held.policy() as policy:
        assert policy is made.policy


def test_what_is_whole_stays_as_it_is():
    figure = torch.arange(3.0)
    assert whole(figure) is figure and part_like(torch.zeros(3), figure) is figure
    state = {"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.1, "foreach": None}]}
    assert full(state) == state
