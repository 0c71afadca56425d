"""What TRL's trainers are told of weights in parts, and how a model in parts becomes a whole one again."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from models import sharding
from models.load import load_tokenizer
from posttrain.errors import ContractError
from posttrain.settings.model import ModelSettings
from posttrain.settings.sft import SFTSettings
from tasks.training import sft, sharded
from tasks.training.sharded import home, save_trained, sharding_arguments, whole_copy, with_adapters, zero_3


def model(how, **changes):
    return ModelSettings(sharding=how, processes=2, **changes)


@pytest.fixture
def two(monkeypatch):
    for module in (sharded, sharding):
        monkeypatch.setattr(module, "processes", lambda: 2)


@pytest.mark.usefixtures("two")
def test_fsdp_computes_whole_blocks_again_and_keeps_no_whole_gradients():
    assert sharding_arguments(model("fsdp"), checkpointing=True) == {
        "fsdp": True,
        "fsdp_config": {"version": 2, "state_dict_type": "FULL_STATE_DICT", "activation_checkpointing": True},
        "activation_checkpointing": False,
        "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}},
    }
    assert sharding_arguments(model("none"), checkpointing=True) == {"activation_checkpointing": True}


@pytest.mark.parametrize(("dtype", "half"), [("bfloat16", True), ("float32", False)])
@pytest.mark.usefixtures("two")
def test_deepspeed_is_zero_3_in_the_models_number_format(dtype, half):
    told = sharding_arguments(model("deepspeed", dtype=dtype), checkpointing=False)
    assert told == {"deepspeed": zero_3(half=half), "activation_checkpointing": False}
    assert told["deepspeed"]["zero_optimization"]["stage"] == 3 and told["deepspeed"]["bf16"] == {"enabled": half}
    assert told["deepspeed"]["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
    assert told["deepspeed"]["gradient_clipping"] == "auto", "as transformers is told"


def test_a_stage_by_itself_shares_nothing(tmp_path):
    assert sharding_arguments(model("fsdp"), checkpointing=False) == {"activation_checkpointing": False}
    assert home(model("fsdp")) == home(model("none"))
    config = sft.arguments(tmp_path, SFTSettings(), model=model("fsdp"), epochs=1.0, context=8, seed=0)
    assert config.fsdp_plugin_args is None


@pytest.mark.parametrize(("how", "where"), [("none", "cuda"), ("fsdp", "cpu"), ("deepspeed", "cpu")])
@pytest.mark.usefixtures("two")
def test_whole_weights_never_lie_on_a_gpu_that_keeps_a_part(monkeypatch, how, where):
    monkeypatch.setattr(sharding, "device", lambda: torch.device("cuda"))
    assert home(model(how)).type == where


# --- whole again ------------------------------------------------------------------------------------------------------


def layers(*names):
    network = nn.ModuleDict({name: nn.Linear(2, 3) for name in names})
    network.config = SimpleNamespace(of=names)
    return network


def test_a_copy_has_the_weights_and_not_the_tensors():
    network = layers("a", "b")
    copy = whole_copy(network, lambda: layers("a", "b"))
    assert all(torch.equal(weight, other) for weight, other in zip(copy.parameters(), network.parameters(), strict=True))
    with torch.no_grad():
        network["a"].weight.add_(1)
    assert not torch.equal(copy["a"].weight, network["a"].weight) and copy.config is network.config


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_a_copy_of_other_weights_is_refused(names):
    with pytest.raises(ContractError, match=r"other weights than the model that it is saved as \([bc]\.bias\)"):
        whole_copy(layers("a", "b"), lambda: layers(*names))


def test_the_other_processes_save_nothing(monkeypatch):
    monkeypatch.setattr(sharded, "is_first", lambda: False)
    assert whole_copy(layers("a"), lambda: pytest.fail("it loads a model for nothing")) is None
    assert whole_copy(layers("a"), lambda: layers("a"), everywhere=True) is not None


def test_what_deepspeed_puts_together_is_saved(tiny_world, tmp_path):
    """With a stand-in for its engine: it has not been run."""
    settings = ModelSettings(context=tiny_world.context, lora_rank=2, dtype="float32")

    learnt = with_adapters(tiny_world.base, settings)
    with torch.no_grad():
        for name, weight in learnt.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    trainer = SimpleNamespace(
        is_deepspeed_enabled=True,
        model=learnt,
        model_wrapped="engine",
        accelerator=SimpleNamespace(get_state_dict={"engine": learnt.state_dict()}.__getitem__),
    )
    save_trained(trainer, load_tokenizer(tiny_world.tokenizer), tmp_path / "model", start=tiny_world.base, model=settings)
    saved, start = (load_file(folder / "model" / "model.safetensors") for folder in (tmp_path, tiny_world.base))
    wanted = {name.removeprefix("base_model.model."): weight for name, weight in learnt.merge_and_unload().state_dict().items()}
    assert all(torch.allclose(weight, wanted[name]) for name, weight in saved.items())
    assert any(not torch.allclose(weight, start[name]) for name, weight in saved.items())
