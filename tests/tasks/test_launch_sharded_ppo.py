"""PPO's loop on two processes of which each holds a part of the weights: what DDP comes to, and on from its checkpoints."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from posttrain.errors import ContractError
from posttrain.settings.model import ModelSettings
from posttrain.settings.ppo import PPOSettings
from tasks.launch import Launch, call_on_processes
from tasks.rewards.sources.table import reward_source
from tasks.training import ppo
from tests.tasks.launched_sharding import CASES

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def on_two(compute, out, log, arguments, *, logs):
    out.mkdir()
    return call_on_processes(Launch(compute, out, log, arguments, stage="ppo", processes=2, logs=logs))


# --- the loop ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """What each of `CASES` comes to with whole weights (DDP) and with parts of them (FSDP2), on the same two processes."""
    folder = tmp_path_factory.mktemp("compared")
    on_two("tests.tasks.launched_sharding:compare", folder / "out", print, {}, logs=folder / "logs")
    return torch.load(folder / "out" / "told.pt", weights_only=False)


@pytest.mark.parametrize("name", CASES)
def test_parts_of_the_weights_come_to_what_whole_ones_do(compared, name):
    whole, parts = compared[name]["whole"], compared[name]["parts"]
    for mine, theirs in zip(whole["ids"], parts["ids"], strict=True):
        assert torch.equal(mine, theirs), "the same responses are drawn"
    for weight, value in whole["weights"].items():
        torch.testing.assert_close(parts["weights"][weight], value, atol=1e-5, rtol=0)
    for mine, theirs in zip(whole["metrics"], parts["metrics"], strict=True):
        # at first its square is a sum of rounding errors
        rounded = [{name: value for name, value in one.items() if name != "ppo/sqrt_kl"} for one in (mine, theirs)]
        assert rounded[1] == pytest.approx(rounded[0], abs=1e-5, rel=1e-4)
    start = compared[name]["start"]
    moved = {weight: float((value - start[weight]).abs().max()) for weight, value in whole["weights"].items()}
    networks = {weight.partition(".")[0] for weight, most in moved.items() if most > 1e-3}
    assert networks == {weight.partition(".")[0] for weight in moved}, "it can fail"


def test_gradients_are_clipped_by_the_norm_of_all_parts(compared):
    whole, parts = ([one["ppo/gradient_norm"] for one in compared["separate"][way]["metrics"]] for way in ("whole", "parts"))
    assert min(whole) > CASES["separate"]["max_grad_norm"], "it clips"
    assert parts == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_each_process_holds_half_of_policy_critic_and_reference(compared, name):
    held = compared[name]["held"]
    # adapters that are off are the reference; else it is a network of its own
    assert [len(one) for one in held] == [1 if "lora" in name else 2] * 2
    for first, second in zip(*held, strict=True):
        assert first + second == pytest.approx(1)
        assert first == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_has_whole_weights_and_the_whole_state_of_the_optimiser(compared, name):
    whole, parts = (compared[name][way]["state"] for way in ("whole", "parts"))
    assert parts["network"].keys() == whole["network"].keys()
    for weight, value in whole["network"].items():
        assert type(parts["network"][weight]) is torch.Tensor
        torch.testing.assert_close(parts["network"][weight], value, atol=1e-5, rtol=0)
    mine, theirs = (state["optimiser"]["state"] for state in (whole, parts))
    assert theirs.keys() == mine.keys() and len(mine) > 5
    for place, of_weight in mine.items():
        for figure, value in of_weight.items():
            assert type(theirs[place][figure]) is torch.Tensor
            torch.testing.assert_close(theirs[place][figure], value, atol=1e-5, rtol=1e-3)
    assert parts["optimiser"]["param_groups"] == whole["optimiser"]["param_groups"]


def test_where_one_process_samples_something_else_all_say_so_and_none_waits(tmp_path):
    on_two("tests.tasks.launched_sharding:disagree", tmp_path / "out", print, {}, logs=tmp_path / "logs")
    first, second = torch.load(tmp_path / "out" / "said.pt", weights_only=False)
    assert first == second and first.startswith("PPO's first mini-batch must have a ratio of 1: log-probabilities in training")
    assert "Neither dropout, padding nor temperature explains it" in first


# --- the stage --------------------------------------------------------------------------------------------------------


class InterruptedStageError(Exception):
    pass


def interrupt_at_2(number, _figures):
    if number == 2:
        raise InterruptedStageError


@pytest.fixture
def arguments(tiny_world, tmp_path):
    """Return what the stage `ppo` is given: its sharding, its folder of checkpoints, and other settings of its loop."""

    def given(sharding="none", *, kept="kept", dtype="float32", **changes):
        settings = {"episodes": 16, "mini_batch_size": 8, "device_batch_size": 3, "max_new_tokens": 12, "epochs": 1, "updates": 3}
        settings |= {"learning_rate": 1e-3, "min_finished": 0.0, "checkpoint_every": 1} | changes
        return {
            "tokenizer": tiny_world.tokenizer,
            "context": tiny_world.context,
            "seed": 1,
            "model": ModelSettings(context=tiny_world.context, dtype=dtype, sharding=sharding),
            "start": tiny_world.base,
            "data": tiny_world.data,
            "reward": reward_source("answer", partial_credit=0.5, registered=Path),
            "settings": PPOSettings(**settings),
            "checkpoints": tmp_path / kept,
        }

    return given


def test_a_sharded_run_goes_on_in_one_process_or_two_and_back(arguments, tmp_path):
    two = partial(on_two, "tasks.training.ppo:train", logs=tmp_path / "logs")
    # one run that was stopped sharded, one that was stopped whole
    with pytest.raises(InterruptedStageError):
        two(tmp_path / "stopped", interrupt_at_2, arguments("fsdp", kept="kept sharded"))
    (tmp_path / "alone").mkdir()
    with pytest.raises(InterruptedStageError):
        ppo.train(tmp_path / "alone", interrupt_at_2, **arguments(kept="kept whole"))
    saved = {kept: list((tmp_path / kept).glob("step-*.pt")) for kept in ("kept sharded", "kept whole")}
    assert all(len(files) == 1 for files in saved.values())
    shutil.copytree(tmp_path / "kept sharded", tmp_path / "kept again")
    # on from each, and once without a stop
    for name in ("on alone", "never stopped"):
        (tmp_path / name).mkdir()
    ppo.train(tmp_path / "on alone", print, **arguments(kept="kept sharded"))
    curve = []
    two(tmp_path / "on sharded", lambda step, _: curve.append(step), arguments("fsdp", kept="kept again"))
    assert curve == [1, 2, 3], "what was logged before is there again"
    two(tmp_path / "whole on sharded", print, arguments("fsdp", kept="kept whole"))
    ppo.train(tmp_path / "never stopped", print, **arguments(kept="none"))
    wanted = load_file(tmp_path / "never stopped" / "model" / "model.safetensors")
    for name in ("on alone", "on sharded", "whole on sharded"):
        weights = load_file(tmp_path / name / "model" / "model.safetensors")
        assert weights.keys() == wanted.keys()
        for weight, value in wanted.items():
            torch.testing.assert_close(weights[weight], value, atol=1e-5, rtol=0)
    # it is an ordinary directory, as one process writes it
    written = [sorted(path.name for path in (tmp_path / name / "model").iterdir()) for name in ("on sharded", "never stopped")]
    assert written[0] == written[1]
    AutoModelForCausalLM.from_pretrained(tmp_path / "on sharded" / "model")


def test_two_processes_draw_by_another_engine(arguments, tmp_path):
    curve = []
    given = arguments(engine="bfloat16", updates=2)
    on_two("tasks.training.ppo:train", tmp_path / "out", lambda _, figures: curve.append(figures), given, logs=tmp_path / "logs")
    assert len(curve) == 2
    for figures in curve:
        assert 0 < figures["ppo/sampler_mismatch"] < 0.1 and figures["ppo/sampler_correction"] == pytest.approx(1, abs=0.05)


def test_in_bfloat16_what_is_trained_is_near_what_was_sampled(arguments, tmp_path):
    curve = []
    given = arguments("fsdp", dtype="bfloat16", updates=2)
    on_two("tasks.training.ppo:train", tmp_path / "out", lambda _, figures: curve.append(figures), given, logs=tmp_path / "logs")
    assert len(curve) == 2, "the contract on the first ratio holds"
    assert all(0 < figures["ppo/sampler_mismatch"] < 0.02 for figures in curve), "blocks are gathered in bfloat16"


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_an_engine_that_is_not_corrected_for_is_refused(arguments, tmp_path, sharding):
    given = arguments(sharding, engine="bfloat16", sampler_correction=False)
    with pytest.raises(ContractError, match=r"^the sampler's log-probabilities differ .* ppo\.engine=bfloat16 is another dist"):
        on_two("tasks.training.ppo:train", tmp_path / "out", print, given, logs=tmp_path / "logs")
