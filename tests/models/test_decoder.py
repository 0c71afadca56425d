"""The quick path of sampling: it is the module's own function, or it is not taken."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from models import decoder as module
from models.decoder import Decoder, Session, decoder
from models.sampler import _Forward, sample
from tests.models.test_policy import gpt2
from tests.tiny_ppo import EOS, PAD, QUESTIONS, VOCABULARY, llama

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "bos_token_id": None,
    "initializer_range": 0.3,
}


def made(kind, config, **changes):
    torch.manual_seed(1)
    model = kind(config(**{**SIZES, **changes})).eval()
    with torch.no_grad():  # weights of 1 and biases of 0 would hide whether they are read
        for name, weight in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                weight.add_(0.3 * torch.randn_like(weight))
    return model


def adapted(**changes):
    model = get_peft_model(llama(), LoraConfig(r=3, lora_alpha=5, target_modules="all-linear", **changes))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    return model.eval()


FAMILY = {
    "llama": llama,
    "llama, tied": lambda: llama(tie_word_embeddings=True),
    "llama, biases": lambda: made(LlamaForCausalLM, type(llama().config), attention_bias=True, mlp_bias=True),
    "llama 3's positions": lambda: made(
        LlamaForCausalLM,
        type(llama().config),
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 100.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "mistral": lambda: made(MistralForCausalLM, MistralConfig, sliding_window=None),
    "mistral, wide window": lambda: made(MistralForCausalLM, MistralConfig, sliding_window=60),
    "qwen2": lambda: made(Qwen2ForCausalLM, Qwen2Config),
    "qwen3": lambda: made(Qwen3ForCausalLM, Qwen3Config),
    "adapters": adapted,
}
OTHERS = {
    "gpt2": lambda: gpt2().eval(),
    "gemma": lambda: made(GemmaForCausalLM, GemmaConfig),
    "dora": lambda: adapted(use_dora=True),
    "dynamic positions": lambda: llama(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
}


@pytest.fixture(autouse=True)
def every_size(monkeypatch):
    monkeypatch.setattr(module, "LARGE", 0)


@pytest.fixture
def paths(monkeypatch):
    """Note who reads prompts."""
    taken = []
    for kind in (Session, _Forward):
        own = kind.read

        def read(self, prompts, kind=kind, own=own):
            taken.append(kind)
            return own(self, prompts)

        monkeypatch.setattr(kind, "read", read)
    return taken


def drawn(model, prompts=QUESTIONS, *, longest=8, seed=0, context=24, batch_size=64):
    chance = torch.rand(len(prompts), longest, generator=torch.Generator().manual_seed(seed))
    how = {"temperature": 0.8, "end_ids": (EOS,), "pad_id": PAD, "context": context, "batch_size": batch_size}
    return sample(model, prompts, chance, **how)


def plain(model, prompt, response):
    """Log-probabilities of a response by the model's own forward on the whole sequence."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).logits[0, len(prompt) - 1 : -1].float()
    return (logits / 0.8).log_softmax(-1)[torch.arange(len(response)), torch.tensor(response, dtype=torch.long)]


@pytest.mark.parametrize("name", [*FAMILY, *OTHERS])
def test_what_is_drawn_has_the_log_probabilities_of_a_plain_forward_pass(name, paths):
    model = {**FAMILY, **OTHERS}[name]()
    prompts = [*QUESTIONS, QUESTIONS[4], QUESTIONS[4]]
    told = drawn(model, prompts, batch_size=9, longest=21)
    assert paths[-1] is (Session if name in FAMILY else _Forward)
    assert len({len(row) for row in told.responses}) > 1, "rows left the batch at different times"
    for prompt, response, logprob in zip(prompts, told.responses, told.logprobs, strict=True):
        torch.testing.assert_close(logprob, plain(model, prompt, response), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", FAMILY)
def test_the_same_is_drawn_as_by_the_modules_own_forward(name, monkeypatch):
    model = FAMILY[name]()
    quick = drawn(model)
    monkeypatch.setattr(module, "LARGE", 2**40)
    own = drawn(model)
    assert quick.responses == own.responses and quick.is_finished == own.is_finished


def test_a_prompt_of_several_rows_is_read_once_and_each_row_has_its_own_end(monkeypatch):
    widths = []
    own = Session._through
    monkeypatch.setattr(Session, "_through", lambda self, ids, *rest: widths.append(len(ids)) or own(self, ids, *rest))
    model, prompts = llama(), [[3, 4, 5], [6, 7, 8, 9], [3, 4, 5], [3, 4, 5], [3, 4, 5]]
    told = drawn(model, prompts, seed=4, longest=12)
    assert 3 + 4 in widths, "two of the five prompts are read"
    assert len({tuple(told.responses[row]) for row in (0, 2, 3, 4)}) > 1
    for row, prompt in enumerate(prompts):
        torch.testing.assert_close(told.logprobs[row], plain(model, prompt, told.responses[row]), atol=1e-4, rtol=0)


def test_a_window_that_the_rows_outgrow_is_the_modules_own_business(paths):
    model = made(MistralForCausalLM, MistralConfig, sliding_window=6)
    told = drawn(model, [[3, 4, 5, 6, 7], [8]])
    assert paths == [Session, _Forward], "of the comparison, and of the sampling"
    for prompt, response, logprob in zip([[3, 4, 5, 6, 7], [8]], told.responses, told.logprobs, strict=True):
        torch.testing.assert_close(logprob, plain(model, prompt, response), atol=1e-4, rtol=0)


def test_a_module_that_computes_something_else_decodes_by_itself(paths):
    model = llama()
    model.model.layers[1].mlp.register_forward_hook(lambda *given: 1.2 * given[-1])
    told = drawn(model)
    assert paths[-1] is _Forward
    torch.testing.assert_close(told.logprobs[0], plain(model, QUESTIONS[0], told.responses[0]), atol=1e-4, rtol=0)
    odd = llama()
    odd.model.layers[0].mlp.down_proj = nn.Sequential(odd.model.layers[0].mlp.down_proj)
    assert decoder(odd, rows=2) is None


def test_small_models_are_not_worth_it(monkeypatch):
    model = llama()
    assert decoder(model, rows=2) is not None
    monkeypatch.setattr(module, "LARGE", sum(map(torch.Tensor.numel, model.parameters())) + 1)
    assert decoder(model, rows=2) is None


def test_adapters_that_are_off_or_merged_count_once():
    model = adapted()
    with torch.no_grad():
        before = drawn(model)
        with model.disable_adapter():
            off = drawn(model)
        base = drawn(copy.deepcopy(model).unload())
        model.merge_adapter()
        within = drawn(model)
    assert off.responses == base.responses != before.responses
    assert within.responses == before.responses


@pytest.mark.parametrize("name", ["llama", "qwen2", "adapters"])
def test_bfloat16_stays_within_rounding_of_the_modules_own(name, paths):
    model = FAMILY[name]()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        told = drawn(model)
        own = [plain(model, *pair) for pair in zip(QUESTIONS, told.responses, strict=True)]
    assert paths[-1] is Session
    with torch.no_grad():
        whole = [plain(model, *pair) for pair in zip(QUESTIONS, told.responses, strict=True)]
    # a processor with instructions for bfloat16 may give the module's own numbers to the last bit, and never those of float32
    assert (torch.cat(list(told.logprobs)) - torch.cat(own)).abs().mean() < 0.03
    assert 1e-6 < (torch.cat(list(told.logprobs)) - torch.cat(whole)).abs().mean() < 0.03


def test_adapters_smaller_than_a_weights_rounding_act_in_bfloat16():
    """A change far below bfloat16's precision of 2⁻⁸ is gone from W + B A; it must not be gone from the output."""
    layer = adapted().to(torch.bfloat16).get_base_model().model.layers[0].mlp.up_proj
    with torch.no_grad():
        layer.base_layer.weight.fill_(1.0)
        layer.lora_A["default"].weight.fill_(0.01)
        layer.lora_B["default"].weight.fill_(0.1)
    half = torch.bfloat16
    # 3 ranks · 0.01 · 0.1 · (5 / 3): 0.005 a weight, where bfloat16 has nothing between 1 and 1.0078
    kept = module._Linear.of(layer, half)
    assert torch.equal(kept.weight, layer.base_layer.weight) and kept.down is not None
    change = kept.up.float() @ kept.down.float()
    torch.testing.assert_close(change, torch.full_like(change, 0.005), atol=1e-4, rtol=0)
    entries = torch.tensor([[100.0] * 8 + [-99.0] * 8], dtype=half)  # W gives 8, and what the adapters add to it is 0.04
    torch.testing.assert_close(kept.product(1)(entries)[0, 0].float(), torch.tensor(8.04), atol=0.035, rtol=0)
    assert module._Linear.of(layer, torch.float32).down is None, "in float32 W holds it"


def test_training_later_changes_nothing_of_what_was_laid_out():
    model = llama()
    weights = decoder(model, rows=2)
    assert isinstance(weights, Decoder)
    with torch.no_grad():
        before = weights.session(room=4).read([[3, 4]])
        model.model.layers[0].self_attn.q_proj.weight.mul_(3.0)
        model.model.layers[0].mlp.gate_proj.weight.mul_(3.0)
        assert decoder(model, rows=2).session(room=4).read([[3, 4]]).sub(before).abs().max() > 1e-2
        torch.testing.assert_close(weights.session(room=4).read([[3, 4]]), before)


def test_a_module_is_compared_once_and_again_when_more_than_its_weights_has_changed(monkeypatch):
    model, asked = FAMILY["llama"](), []
    agrees = module._agrees
    monkeypatch.setattr(module, "_agrees", lambda made, policy: asked.append(made.kind) or agrees(made, policy))
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)  # as training does
        for _ in range(2):
            assert decoder(model, rows=4)
        assert asked == [torch.float32]
        with torch.autocast("cpu", torch.bfloat16):
            assert decoder(model, rows=4)
        assert asked == [torch.float32, torch.bfloat16]
        hook = model.model.layers[1].mlp.register_forward_hook(lambda *given: 1.2 * given[-1])
        for _ in range(2):
            assert decoder(model, rows=4) is None, "what does not agree is asked again"
        hook.remove()
        assert decoder(model, rows=4) and len(asked) == 4
        layer = model.model.layers[0].mlp
        forward = layer.forward
        monkeypatch.setattr(layer, "forward", lambda entries: 1.2 * forward(entries))
        assert decoder(model, rows=4) is None
        assert decoder(FAMILY["llama"](), rows=4) and len(asked) == 6, "another module"


@pytest.mark.parametrize("how", [{"use_dora": True}, {"lora_bias": True}], ids=lambda how: next(iter(how)))
def test_adapters_that_are_plain_only_until_they_are_trained_are_never_decoded(how):
    base = made(Qwen2ForCausalLM, Qwen2Config)  # its queries, keys and values have a bias, as an adapter's own wants
    model = get_peft_model(base, LoraConfig(r=3, target_modules=["q_proj", "v_proj"], **how)).eval()
    assert decoder(model, rows=4) is None, "it would agree now, and not after a step"
    assert decoder(get_peft_model(llama(), LoraConfig(r=3, target_modules="all-linear")).eval(), rows=4)
