"""What several processes train one behind the other, in parts and whole; apart, so that each process imports little."""

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import torch
from accelerate import Accelerator
from torch.distributed.tensor import DTensor

from posttrain.errors import PosttrainError
from tasks.training import dpo, kto, reward_model, sft, sharded
from tasks.workspace.artifacts import Outcome

TRAINERS = {"sft": sft, "dpo": dpo, "kto": kto, "reward_model": reward_model}


def train_in_turn(out, log, *, asked, at):
    """Train what is asked for, each in a folder of its label; `at` gets what each process held of the weights."""
    for label, name, arguments in asked:
        folder, curve, held, norms = out / label, [], [], []
        folder.mkdir()
        # a stage has its processes to itself, and accelerate leaves these behind
        used = "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"
        for left in [one for one in os.environ if one in used or one.startswith("FSDP_")]:
            del os.environ[left]
        told = {}
        with _measured(held, norms):
            try:
                outcome = TRAINERS[name].train(
                    folder, lambda step, figures, curve=curve: curve.append((step, dict(figures))), **arguments
                )
                told = {"metrics": dict(outcome.metrics), "costs": dict(outcome.costs)}
            except PosttrainError as error:
                told = {"error": str(error)}
        (folder / "told.json").write_text(json.dumps({**told, "curve": curve, "norms": norms}))
        (at / f"{label}-{os.environ['RANK']}.json").write_text(json.dumps(held))
    return Outcome(metrics={}, costs={})


def _measured(held, norms):
    """Note how many numbers of a trained network this process holds, and how many there are, when it is copied whole.

    Beside it, the norm of the gradients each time they are clipped.
    """
    copy, clip, together = sharded.whole_copy, torch.nn.utils.clip_grad_norm_, Accelerator.get_state_dict

    def measuring(network, *args, **how):
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        mine = sum((weight.to_local() if isinstance(weight, DTensor) else weight).numel() for weight in weights)
        held.append((mine, sum(weight.numel() for weight in weights)))
        return copy(network, *args, **how)

    def measuring_zero(accelerator, network, *args, **how):
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        held.append((sum(weight.ds_tensor.numel() for weight in weights), sum(weight.ds_numel for weight in weights)))
        return together(accelerator, network, *args, **how)

    def clipping(*args, **how):
        norm = clip(*args, **how)
        norms.append(float(norm))
        return norm

    stack = ExitStack()
    stack.enter_context(mock.patch.object(torch.nn.utils, "clip_grad_norm_", clipping))
    stack.enter_context(mock.patch.object(Accelerator, "get_state_dict", measuring_zero))
    for module in (sharded, reward_model):
        stack.enter_context(mock.patch.object(module, "whole_copy", measuring))
    return stack


def be_killed(out, log, *, who, step, arguments):
    """Train SFT, whose process of rank `who` is killed behind a step."""

    def told(number, figures):
        if number == step and int(os.environ["RANK"]) == who:
            os.kill(os.getpid(), signal.SIGKILL)

    return sft.train(Path(out), told, **arguments)
