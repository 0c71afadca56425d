"""Whether several processes can share the stages of a run, before any of it runs."""

import os
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from sysconfig import get_path
from typing import Any

from flows.training import trainer_settings
from posttrain.errors import RequestError
from posttrain.settings.config import Config

SHARED = ("batch_size", "mini_batch_size")
"""Settings of a trainer that all processes take an equal part of; an update's episodes are a multiple of its mini-batch."""


PACKAGE = "deepspeed"


def check_processes(config: Config) -> None:
    """Refuse more processes than there are GPUs to train on, and batches or weights that they cannot share.

    Raises:
        RequestError: naming the setting.
    """
    here, nodes = config.model.processes, config.launch.nnodes
    number = here * nodes
    _check_sharding(config, number)
    if number == 1:
        return
    import torch

    gpus = torch.cuda.device_count()
    if gpus and here > gpus:
        raise RequestError(f"model.processes={here} needs as many GPUs, one a process, and there are {gpus}")
    said = f"model.processes ({number})" if nodes == 1 else f"model.processes times launch.nnodes ({number})"
    for section, settings in _trained_by(config).items():
        for name in SHARED:
            size = getattr(settings, name, number)
            if size % number:
                raise RequestError(
                    f"{section}.{name} must be a multiple of {said}, so that each process has as much to do, got {size}"
                )


def _check_sharding(config: Config, processes: int) -> None:
    """Refuse to share weights where there is nobody to share them with, and what cannot be shared."""
    model = config.model
    if model.sharding == "none":
        return
    asked = f"model.sharding={model.sharding}"
    if processes == 1:
        raise RequestError(
            f"{asked} shares the weights among the processes of a stage, and model.processes=1 is a single one. Say "
            "model.processes=2 or more, or model.sharding=none"
        )
    if model.quantization != "none":
        raise RequestError(
            f"{asked} shares weights that are whole, and model.quantization={model.quantization} keeps them in 4 bits, all of "
            "them in each process. Say model.quantization=none or model.sharding=none"
        )
    if model.sharding == "deepspeed":
        _check_deepspeed(config)


def _check_deepspeed(config: Config) -> None:
    import torch

    method = config.row
    own = [name for name in method.stages if name == "reward_model" or (name == method.trainer and method.is_rewarded)]
    if own:
        raise RequestError(
            f"model.sharding=deepspeed trains in SFT, DPO and KTO, and method={config.method} trains in {' and '.join(own)} too. "
            "Say model.sharding=fsdp, which trains in all of them"
        )
    if find_spec(PACKAGE) is None:
        raise RequestError(
            f"model.sharding=deepspeed needs {PACKAGE}: .venv/bin/pip install -c constraints.txt -e '.[deepspeed]'"
        )
    if not torch.cuda.device_count() and (missing := _missing_to_compile()):
        raise RequestError(
            f"model.sharding=deepspeed compiles a part of DeepSpeed where there is no GPU, and here is no {missing}. Install it, "
            "or say model.sharding=fsdp, which needs none"
        )


def _missing_to_compile() -> str:
    """Return what is missing here to compile a module for Python, as torch does it; "" where nothing is."""
    if which(os.environ.get("CXX", "c++")) is None:
        return "C++ compiler (Debian: g++)"
    if not Path(get_path("include"), "Python.h").is_file():
        return "Python.h (Debian: python3-dev)"
    return ""


def _trained_by(config: Config) -> dict[str, Any]:
    """Return the sections that the method's trainers read, by name; a reward model's prompts need not be shared evenly."""
    method = config.row
    found: dict[str, Any] = {"sft": config.sft} if "sft" in method.stages or not method.trainer else {}
    if method.trainer and not method.is_prompted:
        found[method.loop or method.trainer] = trainer_settings(config)["settings"]
    return found
