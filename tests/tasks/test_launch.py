"""A stage on two processes: one process's weights, the first error told, nothing left behind, and on from a checkpoint."""

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from posttrain.errors import ContractError, DataError
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.grpo import GRPOSettings
from posttrain.settings.kto import KTOSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.ppo import PPOSettings
from posttrain.settings.sft import SFTSettings
from tasks.feedback.agreement import write_labels
from tasks.launch import LIBRARIES, Launch, call_on_processes
from tasks.rewards.sources.table import reward_source
from tasks.training import dpo, grpo, kto, ppo, reward_model, sft
from tests.processes import has_ended, left_of_launches
from tests.tasks.training.test_reward_model import SETTINGS, labelled

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
STEPS = {"epochs": 1.0, "max_steps": 3, "batch_size": 8, "device_batch_size": 2, "warmup_ratio": 0.0, "learning_rate": 1e-3}
ROOT = Path(__file__).resolve().parents[2]
LOOP = {
    "updates": 2,
    "episodes": 16,
    "mini_batch_size": 8,
    "max_new_tokens": 16,
    "min_finished": 0.0,
    "epochs": 1,
    "learning_rate": 1e-3,
    "device_batch_size": 4,
    "checkpoint_every": 1,
}
TRAINERS = {"sft": sft, "dpo": dpo, "kto": kto, "reward_model": reward_model, "ppo": ppo, "grpo": grpo}


@pytest.fixture
def stages(tiny_world, world_records, tmp_path):
    """Return what a trainer is given, by its name."""
    labels = tmp_path / "labels"
    labels.mkdir()
    write_labels(labels, labelled(world_records))

    def given(name, *, lora_rank=0, **changes):
        common = {"tokenizer": tiny_world.tokenizer, "context": tiny_world.context, "seed": 1}
        common["model"] = ModelSettings(context=tiny_world.context, lora_rank=lora_rank, dtype="float32")
        if name == "sft":
            return common | {"data": tiny_world.data, "base": tiny_world.base, "settings": SFTSettings(**STEPS)}
        start = {"start": tiny_world.base}
        if name in ("dpo", "kto"):
            steps = STEPS | ({"device_batch_size": 4} if name == "kto" else {})
            return common | start | {"labels": labels, "settings": {"dpo": DPOSettings, "kto": KTOSettings}[name](**steps)}
        if name == "reward_model":
            settings = SETTINGS.model_copy(update={"epochs": 2.0, "min_accuracy": 0.0, "batch_size": 6, "device_batch_size": 4})
            own = {"labels": labels, "data": tiny_world.data, "settings": settings, "findings": tmp_path / "findings"}
            return common | start | own
        settings = PPOSettings(**{**LOOP, **changes})
        own = {"data": tiny_world.data, "reward": reward_source("answer", partial_credit=0.5, registered=Path)}
        own |= {"settings": settings, "checkpoints": tmp_path / "kept"}
        if name == "grpo":
            own["grpo"] = GRPOSettings(num_generations=4)
        return common | start | own

    return given


@pytest.fixture
def launched(tmp_path):
    """Compute a stage on two processes, in a folder of its own; return that, the outcome and the curve."""

    def launch(name, arguments, *, compute=""):
        out, curve = tmp_path / f"two {len(list(tmp_path.iterdir()))}", []
        out.mkdir()
        log = lambda step, figures: curve.append((step, dict(figures)))  # noqa: E731
        compute = compute or f"tasks.training.{name}:train"
        outcome = call_on_processes(Launch(compute, out, log, arguments, name, processes=2, logs=tmp_path / "logs"))
        return out, outcome, curve

    yield launch
    assert left_of_launches() == []


@pytest.mark.parametrize("name", TRAINERS)
def test_two_processes_are_one(stages, launched, tmp_path, name):
    out, outcome, curve = launched(name, stages(name))
    alone, points = tmp_path / "alone", []
    alone.mkdir()
    arguments = stages(name)
    if "checkpoints" in arguments:
        arguments["checkpoints"] = tmp_path / "kept alone"
    wanted = TRAINERS[name].train(alone, lambda step, figures: points.append((step, dict(figures))), **arguments)
    weights, others = (load_file(folder / "model" / "model.safetensors") for folder in (out, alone))
    assert weights.keys() == others.keys()
    for weight, value in others.items():
        torch.testing.assert_close(weights[weight], value, atol=1e-5, rtol=0)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in alone.iterdir()), "nothing else is left"
    assert [step for step, _ in curve] == [step for step, _ in points]
    assert curve[-1][1].get("loss", 0.0) == pytest.approx(points[-1][1].get("loss", 0.0), abs=1e-3)
    assert outcome.metrics == pytest.approx(wanted.metrics, abs=1e-3)
    tokens = [each.costs["trained_tokens"] for each in (outcome, wanted)]
    assert tokens[0] == tokens[1]
    start = load_file(stages("sft")["base"] / "model" / "model.safetensors")
    moved = [float((value - start[weight]).abs().max()) for weight, value in others.items() if weight in start]
    assert max(moved) > 1e-3, "it can fail"


def test_what_all_processes_are_forks_of_has_loaded_the_trainers():
    """The forkserver passes over a module that it cannot import, and every process would load its libraries by itself."""
    wanted = {"torch", "transformers", "trl", "peft", "accelerate", "datasets"}
    code = f"import sys, {LIBRARIES}; print(*({wanted} - set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    assert told.stdout == "\n"


# --- what goes wrong --------------------------------------------------------------------------------------------------


class InterruptedStageError(Exception):
    pass


def interrupt_at(step):
    def log(number, figures):
        if number == step:
            raise InterruptedStageError

    return log


@pytest.mark.parametrize("before", [1, 2])
def test_a_run_goes_on_in_another_number_of_processes(stages, launched, tmp_path, before):
    arguments = {**stages("ppo", updates=3), "checkpoints": tmp_path / "kept"}
    folders = [tmp_path / name for name in ("cut off", "on", "whole")]
    for folder in folders:
        folder.mkdir()
    two = partial(Launch, "tasks.training.ppo:train", stage="ppo", processes=2, logs=tmp_path / "logs")
    with pytest.raises(InterruptedStageError):
        if before == 2:
            call_on_processes(two(folders[0], interrupt_at(2), arguments))
        else:
            ppo.train(folders[0], interrupt_at(2), **arguments)
    assert list((tmp_path / "kept").glob("step-*.pt"))
    curve = []
    log = lambda step, figures: curve.append(step)  # noqa: E731
    if before == 2:
        ppo.train(folders[1], log, **arguments)
    else:
        call_on_processes(two(folders[1], log, arguments))
    assert curve == [1, 2, 3], "what was logged before is there again"
    ppo.train(folders[2], lambda *_: None, **{**arguments, "checkpoints": tmp_path / "kept whole"})
    on, whole = (load_file(folder / "model" / "model.safetensors") for folder in folders[1:])
    for name, value in whole.items():
        torch.testing.assert_close(on[name], value, atol=1e-5, rtol=0)


HERE = "tests.tasks.launched_stages:fail"


@pytest.mark.parametrize(
    ("who", "how", "kind", "says"),
    [
        (1, "refuse", DataError, r"^a row is wrong$"),
        (
            0,
            "fault",
            ContractError,
            r"^stage x: process \d of 2 failed with ZeroDivisionError: division by zero\. We",
        ),
        (0, "full", OSError, r"No space left on device"),
        (
            1,
            "kill",
            ContractError,
            r"^stage x: process \d of 2 was killed by signal 9 \(memory that ran out ends",
        ),
    ],
)
def test_the_first_error_is_told_and_no_process_is_left(launched, tmp_path, who, how, kind, says):
    with pytest.raises(kind, match=says) as told:
        launched("x", {"who": who, "how": how}, compute=HERE)
    if kind is ContractError:
        assert f"process {who} of 2" in str(told.value) and str(tmp_path / "logs") in str(told.value)
    if how == "fault":
        assert "ZeroDivisionError" in (tmp_path / "logs" / f"process-{who}.log").read_text()


PIPELINE = """
import sys
from pathlib import Path
from tasks.launch import Launch, call_on_processes

out = Path(sys.argv[1])
(out / "stage").mkdir()
stage = Launch("tests.tasks.launched_stages:wait", out / "stage", print, {"at": out}, "x", processes=2, logs=out / "logs")
call_on_processes(stage)
"""


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_pipeline(tmp_path, by):
    pipeline = subprocess.Popen([sys.executable, "-c", PIPELINE, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE)
    files = [tmp_path / f"pid-{rank}" for rank in range(2)]
    until(lambda: all(file.exists() and file.read_text() for file in files) or pipeline.poll() is not None)
    ranks = [int(file.read_text()) for file in files]
    started = {one.pid for one in psutil.Process(pipeline.pid).children(recursive=True)}
    assert started > set(ranks)
    pipeline.send_signal(by)
    # nobody waits for the pipeline yet: a killed one is a zombie meanwhile, and has ended all the same
    until(lambda: all(has_ended(one, 0) for one in started))
    pipeline.communicate(timeout=120)


def until(is_so):
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)
