"""Caches, weight syncs, shards and adapters as they really are, against posttrain/advice/memory.py and posttrain/scale."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model

from models.outline import outline
from posttrain.advice.memory import TRAINED_BYTES, cache_bytes, memory_of
from posttrain.advice.situation import Asked, Machine, Situation
from posttrain.methods import METHODS
from posttrain.scale.rates import sync_bytes
from posttrain.settings.model import ModelSettings
from tests.live_bytes import LiveBytes, bytes_of
from tests.tiny_ppo import llama

SHAPE = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 100}


@pytest.fixture(params=[{"num_key_value_heads": 2}, {"tie_word_embeddings": True}, {"head_dim": 8}], ids=str)
def network(request):
    return llama(**SHAPE, **request.param)


def situation_of(network, folder, *, weight_bytes=4, **asked):
    """Return the situation of a network, whose sizes its configuration tells."""
    network.config.save_pretrained(folder)
    base = outline(ModelSettings(base=str(folder)), None, vocabulary=0, context=32)
    return Situation(base=base, machine=Machine(has_gpu=True, weight_bytes=weight_bytes), asked=Asked(**asked), prompt_tokens=12)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_cache_of_drawn_responses(network, tmp_path, kind):
    here = situation_of(network, tmp_path, weight_bytes=kind.itemsize, max_new_tokens=8, drawn_rows=5)
    with torch.no_grad():
        cache = network.to(kind)(torch.ones(5, 20, dtype=torch.int64), use_cache=True).past_key_values
    held = bytes_of(*(tensor for layer in cache.layers for tensor in (layer.keys, layer.values)))
    assert held == 5 * 20 * cache_bytes(here) == memory_of(METHODS["few_shot"], here).phases["sampling"]["cache"]


def names_and_weights(network):
    """Return what TRL's `sync_weights` goes through, of a policy that every process holds all of."""
    from trl.distributed import DistributedBackend
    from trl.generation.vllm_generation import VLLMGeneration

    made = VLLMGeneration.__new__(VLLMGeneration)
    made.model, made._dist = network, DistributedBackend(Accelerator(cpu=True))
    return [(name, weight.numel() * weight.element_size()) for name, weight in made._iter_named_params()]


def test_a_weight_sync(network, tmp_path):
    here = situation_of(network, tmp_path)
    handed = names_and_weights(network)
    assert sum(size for _, size in handed) == sync_bytes(here)
    assert {name for name, _ in handed} == {name for name, _ in network.named_parameters()}


def test_a_weight_sync_under_adapters(network, tmp_path):
    here = situation_of(network, tmp_path, weight_bytes=2, lora_rank=2)
    adapted = get_peft_model(network.to(torch.bfloat16), LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert sum(size for _, size in names_and_weights(adapted)) == sync_bytes(here)
    weights = sum(weight.numel() for name, weight in adapted.named_parameters() if "lora" in name)
    assert weights == 2 * here.base.adapter_width


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_a_process_holds_its_part(network, tmp_path, processes):
    """FSDP2 cuts each tensor along its first dimension, as `torch.chunk` does; the first process has the largest parts."""
    here = situation_of(network, tmp_path)
    mine = sum(torch.chunk(weight, processes)[0].numel() for weight in network.parameters())
    shared = replace(here, asked=Asked(processes=processes, is_sharded=True))
    told = memory_of(METHODS["reft"], shared).parts
    assert told["trained network"] == pytest.approx(TRAINED_BYTES * mine, rel=0.05)
    assert told["reference"] == pytest.approx(4 * mine, rel=0.05)
    copied = memory_of(METHODS["reft"], replace(here, asked=Asked(processes=processes)))
    assert copied.parts == memory_of(METHODS["reft"], here).parts, "a copy each"


def test_what_is_whole_at_a_time(network, tmp_path):
    """The root gathers what is in no block, and a block is gathered while another is computed, whose gradient there is."""
    here = situation_of(network, tmp_path, weight_bytes=2, processes=2, is_sharded=True)
    block = sum(weight.numel() for weight in network.model.layers[0].parameters())
    outside = {id(weight): weight.numel() for weight in network.parameters()}
    for weight in network.model.layers.parameters():
        outside.pop(id(weight))
    told = memory_of(METHODS["sft"], here).phases["training"]
    # a table of embeddings counts once, with its gradient; one that is not the output layer too is twice as much
    assert told["gathered blocks"] == pytest.approx(2 * (3 * block + 2 * sum(outside.values())), rel=0.45)
    assert told["gathered blocks"] > 2 * 3 * block * 0.9
    assert "weights in bfloat16" not in told
    assert memory_of(METHODS["reft"], here).phases["sampling"]["gathered policy"] == 4 * here.base.weights


def step(network, *, rows, bfloat16):
    """Return what the tensors of a training step keep for its backward pass, less the weights themselves."""
    ids = torch.randint(2, 90, (rows, 24), generator=torch.Generator().manual_seed(0))
    own, kept = {weight.untyped_storage().data_ptr() for weight in network.parameters()}, {}

    def keep(tensor):
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            kept[place] = tensor  # which stays alive, so that no other tensor takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", enabled=bfloat16):
        network.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return bytes_of(*kept.values())


def test_bfloat16_keeps_a_copy_of_each_weight_for_the_backward_pass(tmp_path):
    network = llama(**SHAPE)
    weights = sum(layer.weight.numel() for layer in network.modules() if isinstance(layer, torch.nn.Linear))
    few, many = (step(network, rows=rows, bfloat16=True) for rows in (1, 3))
    # what does not grow with the rows
    assert few - (many - few) / 2 == pytest.approx(2 * weights, rel=0.2)
    here = situation_of(network, tmp_path, weight_bytes=2)
    told = memory_of(METHODS["sft"], here).phases["training"]
    assert told["weights in bfloat16"] == 2 * here.base.weights
    whole_few, whole_many = (step(network, rows=rows, bfloat16=False) for rows in (1, 3))
    assert abs(whole_few - (whole_many - whole_few) / 2) < 0.2 * weights, "in float32 there is none"


def test_live_bytes_by_hand():
    with LiveBytes() as held:
        one = torch.zeros(1_000)
        two = one + 1
        assert held.live == 8_000
        view = two[:10]
        del one, two
        assert (held.live, held.peak) == (4_000, 8_000), "a view keeps its storage alive, and is none of its own"
        del view
        assert held.live == 0
