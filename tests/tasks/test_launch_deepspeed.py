"""Stages whose processes share the weights by DeepSpeed's ZeRO-3 arrive where those arrive that hold a copy each.

The package is put into a folder of its own, as the extra would install it, and is not in the environment of the tests.
"""

import json
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from posttrain.settings.dpo import DPOSettings
from posttrain.settings.kto import KTOSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.sft import SFTSettings
from tasks.feedback.agreement import write_labels
from tests.tasks.training.test_reward_model import labelled

PACKAGES = "deepspeed", "einops", "hjson", "msgpack", "ninja", "py-cpuinfo"
"""DeepSpeed and what it needs beside our own packages, in the versions of constraints.txt."""
ROOT = Path(__file__).resolve().parents[2]
HAS_COMPILER = shutil.which(os.environ.get("CXX", "c++")) and (Path(sysconfig.get_path("include")) / "Python.h").exists()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not HAS_COMPILER, reason="DeepSpeed compiles a part of itself on CPUs: needs c++ and Python.h"),
]
STEPS = {"epochs": 1.0, "max_steps": 3, "batch_size": 8, "device_batch_size": 2, "warmup_ratio": 0.0, "learning_rate": 1e-3}
SHARED = ("sft", "sft lora", "dpo", "kto")
HALF = "sft half"


@pytest.fixture(scope="module")
def stages(tiny_world, world_records, tmp_path_factory):
    """Return what a trainer is given, by its label."""
    labels = tmp_path_factory.mktemp("deepspeed")
    write_labels(labels, labelled(world_records))

    def given(label, sharding):
        name, _, how = label.partition(" ")
        own = {"dtype": "bfloat16" if how == "half" else "float32", "lora_rank": 2 if how == "lora" else 0}
        model = ModelSettings(context=tiny_world.context, sharding=sharding, processes=2, **own)
        common = {"tokenizer": tiny_world.tokenizer, "context": tiny_world.context, "seed": 1, "model": model}
        if name == "sft":
            return common | {"data": tiny_world.data, "base": tiny_world.base, "settings": SFTSettings(**STEPS)}
        steps = STEPS | ({"device_batch_size": 4} if name == "kto" else {})
        settings = {"dpo": DPOSettings, "kto": KTOSettings}[name](**steps)
        return common | {"start": tiny_world.base, "labels": labels, "settings": settings}

    return given


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Return a folder with DeepSpeed."""
    folder = tmp_path_factory.mktemp("packages")
    installing = [Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--python", sys.executable, "--no-deps"]
    installing += ["--target", folder, "--constraint", ROOT / "constraints.txt", *PACKAGES]
    told = subprocess.run(installing, capture_output=True, text=True, timeout=600, check=False)
    if told.returncode:
        pytest.skip(f"DeepSpeed could not be installed: {told.stderr[-300:]}")
    return folder


@pytest.fixture(scope="module")
def trained(stages, packages, tmp_path_factory):
    """Train everything in the same two processes, copies first; return what each label left behind."""
    folder = tmp_path_factory.mktemp("trained")
    out, held = folder / "out", folder / "held"
    out.mkdir()
    held.mkdir()
    asked = [
        (f"{label} {how}", label.split()[0], stages(label, how)) for how in ("none", "deepspeed") for label in (*SHARED, HALF)
    ]
    (folder / "request.pkl").write_bytes(pickle.dumps((out, folder / "logs", asked, held)))
    environment = {**os.environ, "PYTHONPATH": str(packages), "TORCH_EXTENSIONS_DIR": str(folder / "compiled")}
    command = [sys.executable, "-m", "tests.tasks.launched_deepspeed", folder / "request.pkl"]
    subprocess.run(command, cwd=ROOT, env=environment, timeout=1200, check=True)

    def read(label):
        told = json.loads((out / label / "told.json").read_text())
        parts = [json.loads((held / f"{label}-{rank}.json").read_text()) for rank in range(2)]
        return SimpleNamespace(folder=out / label, weights=load_file(out / label / "model/model.safetensors"), held=parts, **told)

    return read


@pytest.mark.parametrize("label", SHARED)
def test_parts_learn_what_copies_learn(trained, stages, label):
    whole, parts = trained(f"{label} none"), trained(f"{label} deepspeed")
    assert parts.weights.keys() == whole.weights.keys()
    for name, weight in whole.weights.items():
        assert parts.weights[name].dtype == weight.dtype
        torch.testing.assert_close(parts.weights[name], weight, atol=1e-5, rtol=0)
    assert parts.curve and [step for step, _ in parts.curve] == [step for step, _ in whole.curve]
    for (_, mine), (_, theirs) in zip(parts.curve, whole.curve, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4, rel=1e-4)
    given = stages(label, "none")
    before = load_file(given.get("start", given.get("base")) / "model" / "model.safetensors")
    moved = [float((weight - before[name]).abs().max()) for name, weight in parts.weights.items() if name in before]
    assert max(moved) > 1e-4, "it can fail"


@pytest.mark.parametrize("label", SHARED)
def test_what_is_saved_is_a_model_like_any_other(trained, label):
    whole, parts = trained(f"{label} none").folder, trained(f"{label} deepspeed").folder
    files = [sorted(str(file.relative_to(folder)) for file in folder.rglob("*")) for folder in (whole, parts)]
    assert files[0] == files[1]
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        assert json.loads((parts / "model" / name).read_text()) == json.loads((whole / "model" / name).read_text())
    assert AutoModelForCausalLM.from_pretrained(parts / "model").dtype == torch.float32


@pytest.mark.parametrize("label", SHARED)
def test_each_process_holds_half_of_what_is_trained(trained, label):
    assert trained(f"{label} none").held == [[], []], "there is nothing to put together"
    for ((mine, all_of_them),) in trained(f"{label} deepspeed").held:
        assert 0.49 * all_of_them < mine < 0.51 * all_of_them


def test_in_bfloat16_parts_learn_nearly_what_copies_learn(trained):
    whole, parts = trained(f"{HALF} none"), trained(f"{HALF} deepspeed")
    for (_, mine), (_, theirs) in zip(parts.curve, whole.curve, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-2)
    for name, weight in whole.weights.items():
        saved = parts.weights[name]
        assert saved.dtype == torch.float32
        torch.testing.assert_close(saved, saved.bfloat16().float(), atol=0, rtol=0)
        torch.testing.assert_close(saved, weight, atol=6e-3, rtol=2**-7)
