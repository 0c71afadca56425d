"""What every TRL trainer is told: batches no larger than asked for, quiet, on the right machine."""

import math

import datasets
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerControl, TrainerState, TrainingArguments

from models import tiny
from models.lora import lora, merged
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.model import ModelSettings, TinySettings
from posttrain.settings.sft import SFTSettings
from tasks.training import dpo, sft
from tasks.training.trl import Curves, epochs_within, shared_arguments, steps_of
from tasks.workspace.quiet import quiet_libraries

SIZES = st.integers(1, 300)


def shared(*, model=None, seed=0, **settings):
    return shared_arguments("scratch", SFTSettings(**settings), model=model or ModelSettings(), epochs=2.0, seed=seed)


def size_of(told, devices=1):
    return told["per_device_train_batch_size"] * told["gradient_accumulation_steps"] * devices


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that there are GPUs; nothing is put on them."""

    def have(count, *, bf16=True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)

    return have


@pytest.mark.parametrize(
    ("asked", "on_device", "a_device", "accumulated"),
    [
        (16, 64, 16, 1),  # fits at once
        (64, 16, 16, 4),
        (10, 4, 2, 5),  # 4 does not divide 10, nor does 3
        (7, 4, 1, 7),  # a prime
        (1, 1, 1, 1),
    ],
)
def test_batches_by_hand(gpus, asked, on_device, a_device, accumulated):
    gpus(0)
    told = shared(batch_size=asked, device_batch_size=on_device)
    assert (told["per_device_train_batch_size"], told["gradient_accumulation_steps"]) == (a_device, accumulated)


def test_a_batch_is_exactly_as_asked_for_on_one_device(gpus):
    for gpu_count in (0, 1):
        gpus(gpu_count)

        @given(SIZES, SIZES)
        def on_one(asked, on_device):
            told = shared(batch_size=asked, device_batch_size=on_device)
            assert size_of(told) == asked
            assert told["per_device_train_batch_size"] <= on_device

        on_one()


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_over_several_devices_a_batch_is_as_large_as_it_can_be_and_never_larger(gpus, count):
    gpus(count)

    @given(st.integers(count, 300), SIZES)
    def over_all(asked, on_device):
        told = shared(batch_size=asked, device_batch_size=on_device)
        assert asked - count < size_of(told, count) <= asked
        assert told["per_device_train_batch_size"] <= on_device

    over_all()


@pytest.mark.parametrize(("warmup_ratio", "steps"), [(0.0, 0), (0.1, 10), (0.101, 11), (0.5, 50), (1.0, 100)])
def test_warmup_is_a_share_of_the_steps(tmp_path, warmup_ratio, steps):
    """transformers takes 1.0 for one step, which a share of 1 does not mean."""
    told = TrainingArguments(**{**shared(warmup_ratio=warmup_ratio), "output_dir": str(tmp_path)})
    assert told.get_warmup_steps(100) == steps


def test_on_a_cpu_nothing_is_halved_and_nothing_recomputed(gpus):
    gpus(0)
    told = shared()
    assert (told["use_cpu"], told["bf16"], told["activation_checkpointing"]) == (True, False, False)


@pytest.mark.parametrize(("dtype", "bf16", "halved"), [("auto", True, True), ("auto", False, False), ("float32", True, False)])
def test_on_a_gpu_memory_is_saved(gpus, dtype, bf16, halved):
    gpus(1, bf16=bf16)
    told = shared(model=ModelSettings(dtype=dtype))
    assert (told["use_cpu"], told["bf16"], told["activation_checkpointing"]) == (False, halved, True)


def test_nothing_is_reported_anywhere_and_every_seed_is_ours():
    told = shared(seed=7)
    assert (told["seed"], told["data_seed"], told["report_to"], told["save_strategy"]) == (7, 7, "none", "no")


def test_sft_learns_from_completions_only_within_the_context(tmp_path):
    told = sft.arguments(tmp_path, SFTSettings(learning_rate=2e-4), model=ModelSettings(), epochs=3, context=77, seed=5)
    assert (told.completion_only_loss, told.max_length, told.packing) == (True, 77, False)
    assert (told.num_train_epochs, told.learning_rate, told.seed) == (3, 2e-4, 5)
    assert (told.lr_scheduler_type, told.weight_decay, told.max_grad_norm) == ("linear", 0.0, 1.0)


@pytest.mark.parametrize(
    ("smoothing", "nll", "losses", "weights"),
    [
        (0.0, 0.0, ["sigmoid"], [1.0]),
        (0.1, 0.0, ["robust"], [1.0]),
        (0.0, 0.5, ["sigmoid", "sft"], [1.0, 0.5]),
        (0.2, 1.0, ["robust", "sft"], [1.0, 1.0]),
    ],
)
def test_dpo_takes_the_loss_that_was_asked_for(tmp_path, smoothing, nll, losses, weights):
    settings = DPOSettings(beta=0.2, label_smoothing=smoothing, nll_weight=nll)
    told = dpo.arguments(tmp_path, settings, model=ModelSettings(), epochs=1, context=77, seed=5)
    assert (told.loss_type, told.loss_weights, told.beta, told.label_smoothing) == (losses, weights, 0.2, smoothing)
    assert (told.max_length, told.seed) == (77, 5)


def test_lora_is_off_by_default_and_as_asked_for_else():
    assert lora(ModelSettings()) is None
    told = lora(ModelSettings(lora_rank=4, lora_alpha=8))
    assert (told.r, told.lora_alpha, told.lora_dropout, told.target_modules) == (4, 8, 0.0, "all-linear")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft 0.21.2 asks by the old name
def test_merged_adapters_answer_as_they_did_apart():
    from peft import get_peft_model

    torch.manual_seed(0)
    network = tiny.network(TinySettings(layers=1, width=16, heads=2), vocabulary=20, context=16, pad=0, eos=1)
    assert merged(network) is network
    adapted = get_peft_model(network, lora(ModelSettings(lora_rank=4, lora_alpha=8)))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    ids = torch.arange(2, 10)[None]
    with torch.no_grad():
        apart = adapted(input_ids=ids).logits
        together = merged(adapted)
        torch.testing.assert_close(together(input_ids=ids).logits, apart, atol=1e-4, rtol=1e-4)
    assert not any("lora" in name for name in together.state_dict())


def test_curves_hand_on_steps_with_a_loss_and_nothing_else():
    points, moved = [], []
    curves = Curves(lambda step, figures: points.append((step, figures)), lambda steps, note: moved.append((steps, note)))
    arguments = TrainingArguments(output_dir="scratch", use_cpu=True)
    for step, logs in enumerate(
        [{"loss": 2.5, "epoch": 0.1, "total_flos": 1e9, "grad_norm": "0.5"}, {"train_runtime": 3.0}, None, {"loss": 2.25}], 1
    ):
        curves.on_log(arguments, TrainerState(global_step=step), TrainerControl(), logs=logs)
    assert points == [(1, {"loss": 2.5, "grad_norm": 0.5}), (4, {"loss": 2.25})]
    assert moved == [(1, "loss 2.500"), (1, "loss 2.250")]
    assert curves.last == {"loss": 2.25}


def test_libraries_are_quiet_inside_and_as_they_were_outside():
    before = transformers.utils.logging.get_verbosity()
    with pytest.raises(KeyError), quiet_libraries():
        assert transformers.utils.logging.get_verbosity() == transformers.logging.ERROR
        assert not datasets.is_caching_enabled()
        raise KeyError
    assert transformers.utils.logging.get_verbosity() == before


def test_a_share_just_below_one_is_all_steps_however_many():
    for steps in (1, 3, 10, 999, 10**6):
        assert math.ceil(steps * shared(warmup_ratio=1.0)["warmup_steps"]) == steps


def test_epochs_are_cut_where_they_would_take_too_many_steps():
    # 100 rows in batches of 16 are 7 steps an epoch: 400 steps would be 57 epochs, 14 steps are 2
    long, short = (SFTSettings(epochs=10, max_steps=most, batch_size=16) for most in (400, 14))
    assert (epochs_within(long, rows=100), steps_of(10.0, long, rows=100)) == (10.0, 70)
    assert (epochs_within(short, rows=100), steps_of(2.0, short, rows=100)) == (2.0, 14)
