"""Another engine than the policy draws nearly what the policy would, always of its present weights, and leaves it as it was."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from models.engines import ENGINES
from models.sampler import sample
from posttrain.settings.ppo import PPOSettings
from tests.tiny_ppo import CONTEXT, EOS, PAD, QUESTIONS, llama

SETTINGS = PPOSettings()
HOW = {"temperature": 1.0, "end_ids": (EOS,), "pad_id": PAD, "context": CONTEXT, "batch_size": 5}


@pytest.fixture
def chance():
    return torch.rand(len(QUESTIONS), 6, generator=torch.Generator().manual_seed(0))


def adapted():
    model = get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    return model.eval()


@pytest.mark.parametrize("make", [llama, adapted])
def test_a_copy_in_bfloat16_draws_nearly_what_the_policy_does(chance, make):
    policy = make().eval()
    before = copy.deepcopy(policy.state_dict())
    exact, other = sample(policy, QUESTIONS, chance, **HOW), ENGINES["bfloat16"](SETTINGS)(policy, QUESTIONS, chance, **HOW)
    same = [left == right for left, right in zip(exact.responses, other.responses, strict=True)]
    assert sum(same) >= 0.5 * len(same)
    apart = torch.cat(
        [left - right for is_same, left, right in zip(same, exact.logprobs, other.logprobs, strict=True) if is_same]
    ).abs()
    assert 1e-5 < apart.mean() < 0.05, "it is another distribution, and a near one"
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
    assert all(weight.dtype == torch.float32 for weight in policy.parameters())


@pytest.mark.parametrize("make", [llama, adapted])
def test_the_copy_has_the_weights_that_the_policy_has_now(chance, make):
    policy, engine = make().eval(), ENGINES["bfloat16"](SETTINGS)
    first = engine(policy, QUESTIONS, chance, **HOW)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    second, fresh = engine(policy, QUESTIONS, chance, **HOW), ENGINES["bfloat16"](SETTINGS)(policy, QUESTIONS, chance, **HOW)
    assert second.responses == fresh.responses != first.responses
    for mine, theirs in zip(second.logprobs, fresh.logprobs, strict=True):
        torch.testing.assert_close(mine, theirs, atol=0, rtol=0)


def test_positions_keep_their_precision(chance):
    engine = ENGINES["bfloat16"](SETTINGS)
    engine(llama().eval(), QUESTIONS, chance, **HOW)
    angles = [buffer for name, buffer in engine._copy.named_buffers() if "inv_freq" in name]
    assert angles and all(buffer.dtype == torch.float32 for buffer in angles)
    assert engine._copy.config._attn_implementation == "eager"


def test_the_policy_itself_is_the_plain_sampler():
    assert ENGINES["transformers"](SETTINGS) is sample
