"""Which blocks are gathered one at a time, and what is whole already; on processes: tests/tasks/test_launch_sharded_ppo.py."""

from collections.abc import Iterator

import pytest
import torch
from torch import distributed

from models.lora import adapted
from models.policy import policy_and_critic
from models.policy_layout import ReplicatedPolicy, laid_out
from models.sharding import block_names, full, part_like, shard, whole
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


@pytest.fixture
def a_group_of_one() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("a_group_of_one")
@pytest.mark.parametrize("products", [None, torch.bfloat16])
def test_blocks_are_gathered_in_the_format_of_products_and_heads_in_their_own(products: torch.dtype | None) -> None:
    made = policy_and_critic(llama(), critic="separate")
    shard(made, products=products)
    used: dict[str, torch.dtype] = {}
    for name in ("policy.model.layers.0.mlp.up_proj", "critic.layers.1.self_attn.q_proj", "value_head", "policy.lm_head"):
        made.get_submodule(name).register_forward_pre_hook(lambda module, _, name=name: used.update({name: module.weight.dtype}))
    ids, two = torch.arange(12).reshape(2, 6), torch.tensor([3, 3])
    with torch.autocast("cpu", torch.bfloat16, enabled=products is not None):
        told = made(ids, two, two, temperature=1.0, want=frozenset({"logprob", "value"}))
    (told.logprob.sum() + told.value.sum()).backward()
    block = products or torch.float32
    assert used == {
        "policy.model.layers.0.mlp.up_proj": block,
        "critic.layers.1.self_attn.q_proj": block,
        "value_head": torch.float32,
        "policy.lm_head": torch.float32,
    }
    assert {figure.dtype for weight in made.parameters() for figure in (weight, weight.grad)} == {torch.float32}
