"""Several processes are refused before anything runs where they cannot share the work."""

import pytest
import torch

from flows import processes
from flows.processes import check_processes
from posttrain.errors import RequestError
from posttrain.settings.config import merge


def config(*words):
    return merge({}, [*words])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["method=sft", "sft.batch_size=6"], r"^sft\.batch_size must be a multiple of model\.processes \(4\), .* got 6$"),
        (["method=dpo", "dpo.batch_size=6"], r"^dpo\.batch_size must be a multiple"),
        (["method=reft", "ppo.mini_batch_size=6", "ppo.episodes=12"], r"^ppo\.mini_batch_size must be a multiple"),
        (["method=grpo", "ppo.mini_batch_size=6", "ppo.episodes=24"], r"^ppo\.mini_batch_size must be a multiple"),
        (["method=dpo", "sft.batch_size=6"], r"^sft\.batch_size must be a multiple"),
    ],
)
def test_batches_must_be_shared_evenly(words, says):
    with pytest.raises(RequestError, match=says):
        check_processes(config("model.processes=4", *words))
    check_processes(config(*words))


def test_what_the_method_does_not_read_is_not_looked_at():
    check_processes(config("model.processes=4", "method=few_shot", "sft.batch_size=6"))
    check_processes(config("model.processes=4", "method=ppo", "sft.batch_size=6"))


def test_a_gpu_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_processes(config("model.processes=2", "method=sft"))
    with pytest.raises(RequestError, match=r"^model\.processes=4 needs as many GPUs, one a process, and there are 2$"):
        check_processes(config("model.processes=4", "method=sft"))


# --- weights in parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharding", ["fsdp", "deepspeed"])
def test_a_single_process_has_nobody_to_share_weights_with(sharding):
    with pytest.raises(RequestError) as told:
        check_processes(config(f"model.sharding={sharding}", "method=sft"))
    assert str(told.value) == (
        f"model.sharding={sharding} shares the weights among the processes of a stage, and model.processes=1 is a single one. "
        "Say model.processes=2 or more, or model.sharding=none"
    )


def test_weights_in_4_bits_are_not_shared():
    with pytest.raises(RequestError) as told:
        check_processes(config("model.sharding=fsdp", "model.processes=2", "model.quantization=nf4", "model.lora_rank=4"))
    assert str(told.value) == (
        "model.sharding=fsdp shares weights that are whole, and model.quantization=nf4 keeps them in 4 bits, all of them in each "
        "process. Say model.quantization=none or model.sharding=none"
    )


@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "rlhf", "ppo", "grpo", "few_shot"])
def test_fsdp_shares_whatever_is_trained(method):
    check_processes(config("model.sharding=fsdp", "model.processes=2", f"method={method}"))
    check_processes(config("model.sharding=fsdp", "model.processes=2", f"method={method}", "model.lora_rank=4"))


@pytest.mark.parametrize(
    ("method", "own"),
    [("rlhf", "reward_model and ppo"), ("ppo", "ppo"), ("reft", "ppo"), ("grpo", "grpo"), ("rloo", "rloo"), ("drlaif", "ppo")],
)
def test_deepspeed_trains_in_trls_stages_alone(method, own):
    with pytest.raises(RequestError) as told:
        check_processes(config("model.sharding=deepspeed", "model.processes=2", f"method={method}"))
    assert str(told.value) == (
        f"model.sharding=deepspeed trains in SFT, DPO and KTO, and method={method} trains in {own} too. Say model.sharding=fsdp, "
        "which trains in all of them"
    )


@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "self_training"])
def test_deepspeed_needs_its_package_and_a_compiler_where_no_gpu_is(monkeypatch, tmp_path, method):
    words = config("model.sharding=deepspeed", "model.processes=2", f"method={method}")
    monkeypatch.delenv("CXX", raising=False)
    compiler = ["c++"]
    monkeypatch.setattr(processes, "which", lambda name: name if name in compiler else None)
    monkeypatch.setattr(processes, "get_path", lambda name: {"include": str(tmp_path)}[name])
    monkeypatch.setattr(processes, "find_spec", lambda name: None)
    for gpus in (0, 2):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        with pytest.raises(RequestError) as told:
            check_processes(words)
        assert str(told.value) == (
            "model.sharding=deepspeed needs deepspeed: .venv/bin/pip install -c constraints.txt -e '.[deepspeed]'"
        )
    monkeypatch.setattr(processes, "find_spec", lambda name: object() if name == "deepspeed" else None)
    check_processes(words)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    told = "model.sharding=deepspeed compiles a part of DeepSpeed where there is no GPU, and here is no {}. Install it, or say "
    told += "model.sharding=fsdp, which needs none"
    for missing in ("Python.h (Debian: python3-dev)", "C++ compiler (Debian: g++)"):
        with pytest.raises(RequestError) as error:
            check_processes(words)
        assert str(error.value) == told.format(missing)
        compiler.clear()
    (tmp_path / "Python.h").touch()
    monkeypatch.setenv("CXX", "clang++")
    compiler.append("clang++")
    check_processes(words)
