"""Adapters are those of a seed, and bfloat16 on a CPU trains as it does on a GPU: whatever is trained."""

import json
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from safetensors.torch import load_file

from posttrain.errors import ContractError
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.kto import KTOSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.ppo import PPOSettings
from posttrain.settings.sft import SFTSettings
from tasks.feedback.agreement import write_labels
from tasks.rewards.sources.table import reward_source
from tasks.training import dpo, kto, ppo, reward_model, sft
from tasks.workspace.artifacts import file_digest
from tests.tasks.training.test_reward_model import SETTINGS, labelled

pytestmark = pytest.mark.usefixtures("one_thread")
METHODS = ("sft", "dpo", "kto", "reward_model", "ppo")
ONE_STEP = {"epochs": 1.0, "max_steps": 2, "batch_size": 4, "warmup_ratio": 0.0, "learning_rate": 1e-3}


@pytest.fixture(autouse=True)
def own_state():
    """Accelerate keeps one number format a process; a pipeline has one, tests have several."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()


@pytest.fixture
def trained(tiny_world, world_records, tmp_path):
    """Train by a method, for a step or two; return the digest of the weights, and the curve."""
    labels = tmp_path / "labels"
    labels.mkdir()
    write_labels(labels, labelled(world_records))

    def train(name, *, seed=1, lora_rank=2, **changes):
        out = tmp_path / f"out {len(list(tmp_path.iterdir()))}"
        out.mkdir()
        model = ModelSettings(
            context=tiny_world.context,
            lora_rank=lora_rank,
            dtype=changes.pop("dtype", "float32"),
            quantization=changes.pop("quantization", "none"),
        )
        curve = []
        common = {
            "tokenizer": tiny_world.tokenizer,
            "model": model,
            "context": tiny_world.context,
            "seed": seed,
        }
        log = lambda step, figures: curve.append(dict(figures))  # noqa: E731
        if name == "sft":
            sft.train(out, log, data=tiny_world.data, base=tiny_world.base, settings=SFTSettings(**ONE_STEP), **common)
        elif name in ("dpo", "kto"):
            trainer, kind = {"dpo": (dpo, DPOSettings), "kto": (kto, KTOSettings)}[name]
            trainer.train(out, log, labels=labels, start=tiny_world.base, settings=kind(**ONE_STEP), **common)
        elif name == "reward_model":
            settings = SETTINGS.model_copy(update={"epochs": 3.0, "learning_rate": 3e-3, "min_accuracy": 0.0})
            reward_model.train(
                out,
                log,
                labels=labels,
                data=tiny_world.data,
                start=tiny_world.base,
                settings=settings,
                findings=tmp_path / "findings",
                **common,
            )
        else:
            small = {"updates": 1, "episodes": 8, "mini_batch_size": 8, "max_new_tokens": 16, "min_finished": 0.0, "epochs": 1}
            ppo.train(
                out,
                log,
                data=tiny_world.data,
                start=tiny_world.base,
                settings=PPOSettings(**small, learning_rate=1e-3, **changes),
                reward=reward_source("answer", partial_credit=0.5, registered=Path),
                checkpoints=out / "kept",
                **common,
            )
        return out / "model" / "model.safetensors", curve

    return train


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_has_its_own_adapters_whatever_was_drawn_before(trained, name):
    digests = []
    for seed, before in ((1, 7), (1, 8), (2, 7)):
        torch.manual_seed(before)
        digests.append(file_digest(trained(name, seed=seed)[0]))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("name", METHODS)
def test_bfloat16_on_a_cpu_trains_weights_that_it_keeps_in_float32(trained, tiny_world, name, lora_rank):
    file, curve = trained(name, lora_rank=lora_rank, dtype="bfloat16")
    weights = load_file(file)
    before = load_file(tiny_world.base / "model" / "model.safetensors")
    kept = torch.float32 if lora_rank == 0 else torch.bfloat16  # a LoRA's base stays as it was loaded
    projections = [name for name in before if "proj" in name]
    assert {weights[name].dtype for name in projections} == {kept}
    assert any(not torch.equal(weights[name].float(), before[name].to(kept).float()) for name in projections)
    if name == "ppo":
        # far above float32's rounding of 1e-6, and within what ppo.sampler_tolerance allows
        assert 1e-5 < curve[0]["ppo/sampler_mismatch"] < 0.1
        assert curve[0]["ppo/approx_kl"] < 1e-3, "the first ratios are 1"


def test_in_float32_the_samplers_own_log_probabilities_are_the_old_ones(trained):
    assert "ppo/sampler_mismatch" not in trained("ppo", lora_rank=0)[1][0]
    assert trained("ppo", lora_rank=0, old_logprobs="recomputed")[1][0]["ppo/sampler_mismatch"] < 1e-5


def test_bfloat16_with_the_samplers_log_probabilities_is_refused_as_rounding(trained):
    with pytest.raises(ContractError, match=r"Rounding is the cause: products are in bfloat16, .* ppo.old_logprobs=auto"):
        trained("ppo", dtype="bfloat16", lora_rank=0, old_logprobs="sampler")


@pytest.mark.parametrize("name", METHODS)
def test_adapters_over_4_bits_train_and_whole_weights_are_saved(trained, tiny_world, name):
    """On a processor, which bitsandbytes computes on too; users are refused there, since it saves them nothing."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed here: the extra quantization")
    file, curve = trained(name, quantization="nf4")
    weights, before = load_file(file), load_file(tiny_world.base / "model" / "model.safetensors")
    projections = [name for name in before if "proj" in name]
    assert {name: weights[name].shape for name in projections} == {name: before[name].shape for name in projections}
    assert {weights[name].dtype for name in projections} == {torch.float32}
    apart = [float((weights[name] - before[name]).norm() / before[name].norm()) for name in projections]
    assert min(apart) > 0.01 and max(apart) < 0.5, "it is the base, through 4 bits, and a step further"
    assert "quantization_config" not in json.loads((file.parent / "config.json").read_text())
    if name == "ppo":
        assert curve[0]["ppo/approx_kl"] < 1e-3, "the first ratios are 1"
