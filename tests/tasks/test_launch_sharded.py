"""Stages whose processes share the weights (FSDP2) arrive where those arrive that hold a copy each, and hold half of them."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from posttrain.errors import ContractError
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.kto import KTOSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.sft import SFTSettings
from tasks.feedback.agreement import write_labels
from tasks.launch import Launch, call_on_processes
from tests.processes import left_of_launches
from tests.tasks.training.test_reward_model import SETTINGS, labelled

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
STEPS = {"epochs": 1.0, "max_steps": 3, "batch_size": 8, "device_batch_size": 2, "warmup_ratio": 0.0, "learning_rate": 1e-3}
SHARED = {
    "sft": ("sft", {}),
    "sft lora": ("sft", {"lora_rank": 2}),
    "sft untied": ("sft", {}),
    "dpo": ("dpo", {}),
    "dpo lora": ("dpo", {"lora_rank": 2}),
    "kto": ("kto", {}),
    "reward_model": ("reward_model", {}),
    "reward_model lora": ("reward_model", {"lora_rank": 2}),
}
"""Label: stage and settings of the model; each is trained whole and in parts."""
CHECKPOINTED = "sft checkpointed"
HALF = "sft half"
REFUSED = "sft of an architecture"


@pytest.fixture(scope="module")
def stages(tiny_world, world_records, tmp_path_factory):
    """Return what a trainer is given, by its label."""
    folder = tmp_path_factory.mktemp("sharded")
    labels = folder / "labels"
    labels.mkdir()
    write_labels(labels, labelled(world_records))
    reader = AutoTokenizer.from_pretrained(tiny_world.base / "model")
    torch.manual_seed(0)
    size = {"vocab_size": len(reader), "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
    size |= {"max_position_embeddings": tiny_world.context, "tie_word_embeddings": False}
    size |= {"pad_token_id": reader.pad_token_id, "eos_token_id": reader.eos_token_id, "bos_token_id": None}
    others = {
        "sft untied": LlamaForCausalLM(LlamaConfig(**size, intermediate_size=24)),
        REFUSED: OPTForCausalLM(OPTConfig(**size, ffn_dim=24, word_embed_proj_dim=16, dropout=0.0)),
    }
    for label, network in others.items():
        network.save_pretrained(folder / label / "model")
        reader.save_pretrained(folder / label / "model")

    def given(label, sharding, *, dtype="float32", **changes):
        name = label.split()[0]
        model = ModelSettings(context=tiny_world.context, dtype=dtype, sharding=sharding, processes=2, **changes)
        common = {"tokenizer": tiny_world.tokenizer, "context": tiny_world.context, "seed": 1, "model": model}
        start = folder / label if label in others else tiny_world.base
        if name == "sft":
            return common | {"data": tiny_world.data, "base": start, "settings": SFTSettings(**STEPS)}
        common |= {"start": start, "labels": labels}
        if name in ("dpo", "kto"):
            steps = STEPS | ({"device_batch_size": 4} if name == "kto" else {})
            return common | {"settings": {"dpo": DPOSettings, "kto": KTOSettings}[name](**steps)}
        # of 5 prompts one process reads 3, and the other 2
        settings = SETTINGS.model_copy(update={"epochs": 2.0, "min_accuracy": 0.0, "batch_size": 5, "device_batch_size": 4})
        return common | {"data": tiny_world.data, "settings": settings, "findings": folder / "findings"}

    return given


@pytest.fixture(scope="module")
def trained(stages, tmp_path_factory):
    """Train everything in the same two processes, which begin once; return what each label left behind."""
    folder = tmp_path_factory.mktemp("trained")
    out, held = folder / "out", folder / "held"
    out.mkdir()
    held.mkdir()
    asked = []
    for label, (name, changes) in SHARED.items():
        asked += [(f"{label} {how}", name, stages(label, how, **changes)) for how in ("none", "fsdp")]
    asked.append((CHECKPOINTED, "sft", stages(CHECKPOINTED, "fsdp", gradient_checkpointing="on")))
    asked += [(f"{HALF} {how}", "sft", stages(HALF, how, dtype="bfloat16")) for how in ("none", "fsdp")]
    asked.append((REFUSED, "sft", stages(REFUSED, "fsdp")))
    arguments = {"asked": asked, "at": held}
    compute = "tests.tasks.launched_sharded:train_in_turn"
    call_on_processes(Launch(compute, out, lambda *_: None, arguments, stage="x", processes=2, logs=folder / "logs"))
    assert left_of_launches() == []

    def read(label):
        told = json.loads((out / label / "told.json").read_text())
        parts = [json.loads((held / f"{label}-{rank}.json").read_text()) for rank in range(2)]
        return SimpleNamespace(folder=out / label, held=parts, **told)

    return read


def weights_of(one):
    return load_file(one.folder / "model" / "model.safetensors")


def close(one, other, *, within=1e-5):
    mine, theirs = weights_of(one), weights_of(other)
    assert mine.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert weight.dtype == mine[name].dtype
        torch.testing.assert_close(mine[name], weight, atol=within, rtol=0)


@pytest.mark.parametrize("label", SHARED)
def test_parts_learn_what_copies_learn(trained, stages, label):
    whole, parts = trained(f"{label} none"), trained(f"{label} fsdp")
    close(parts, whole)
    assert parts.curve and [step for step, _ in parts.curve] == [step for step, _ in whole.curve]
    for (_, mine), (_, theirs) in zip(parts.curve, whole.curve, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5, rel=1e-5)
    assert parts.metrics == pytest.approx(whole.metrics, abs=1e-5, rel=1e-5)
    counted = {name for name in whole.costs if name != "train_seconds"}
    assert {name: parts.costs[name] for name in counted} == {name: whole.costs[name] for name in counted}
    start = stages(label, "none").get("start", stages(label, "none").get("base"))
    before = load_file(start / "model" / "model.safetensors")
    moved = [float((weight - before[name]).abs().max()) for name, weight in weights_of(parts).items() if name in before]
    assert max(moved) > 1e-4, "it can fail"


@pytest.mark.parametrize("label", SHARED)
def test_gradients_are_clipped_by_the_norm_of_all_parts(trained, label):
    whole, parts = (trained(f"{label} {how}") for how in ("none", "fsdp"))
    assert len(parts.norms) == len(parts.curve) and parts.norms == pytest.approx(whole.norms, rel=1e-5)
    if not label.startswith("reward_model"):
        assert parts.norms == pytest.approx([figures["grad_norm"] for _, figures in parts.curve])


def test_norms_are_of_gradients_that_are_clipped(trained):
    assert all(max(trained(f"{label} none").norms) > 1.0 for label in ("sft", "dpo", "kto", "reward_model"))


@pytest.mark.parametrize("label", SHARED)
def test_what_is_saved_is_a_model_like_any_other(trained, label):
    whole, parts = trained(f"{label} none").folder, trained(f"{label} fsdp").folder
    files = [sorted(str(file.relative_to(folder)) for file in folder.rglob("*")) for folder in (whole, parts)]
    assert files[0] == files[1]
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        if (whole / "model" / name).exists():
            mine, theirs = (json.loads((folder / "model" / name).read_text()) for folder in (parts, whole))
            centres = [said.pop("posttrain_centre", 0.0) for said in (mine, theirs)]
            assert mine == theirs and centres[0] == pytest.approx(centres[1], abs=1e-5)
    if not label.startswith("reward_model"):
        assert AutoModelForCausalLM.from_pretrained(parts / "model").dtype == torch.float32


@pytest.mark.parametrize("label", SHARED)
def test_each_process_holds_half_of_what_is_trained(trained, label):
    assert trained(f"{label} none").held == [[], []], "there is nothing to put together"
    for ((mine, all_of_them),) in trained(f"{label} fsdp").held:
        # a tensor with an odd number of rows is shared unevenly
        assert 0.4 * all_of_them < mine < 0.6 * all_of_them
    held = [mine for ((mine, _),) in trained(f"{label} fsdp").held]
    assert sum(held) == trained(f"{label} fsdp").held[0][0][1]


def test_activations_computed_again_change_nothing(trained):
    close(trained(CHECKPOINTED), trained("sft none"))


def test_in_bfloat16_parts_learn_nearly_what_copies_learn(trained):
    whole, parts = trained(f"{HALF} none"), trained(f"{HALF} fsdp")
    for (_, mine), (_, theirs) in zip(parts.curve, whole.curve, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-2)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=5e-2)
    assert all(weight.dtype == torch.float32 for weight in weights_of(parts).values()), "as copies leave it"


def test_an_output_layer_that_would_learn_from_one_process_alone_is_refused(trained):
    assert trained(REFUSED).error == (
        "model.sharding=fsdp: this architecture (opt) has its last norm where accelerate does not find it, so that gradients of "
        "its output layer would not be summed over the processes. Say model.sharding=none, or train adapters: model.lora_rank=16"
    )


def test_a_process_that_is_killed_ends_the_stage(stages, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    arguments = {"who": 1, "step": 2, "arguments": stages("sft", "fsdp")}
    compute = "tests.tasks.launched_sharded:be_killed"
    with pytest.raises(ContractError, match=r"^stage sft: process 1 of 2 was killed by signal 9"):
        call_on_processes(Launch(compute, out, lambda *_: None, arguments, stage="sft", processes=2, logs=tmp_path / "logs"))
    assert left_of_launches() == []
