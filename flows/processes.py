"""Whether several processes can share the stages of a run, before any of it runs."""

from typing import Any

from flows.training import trainer_settings
from posttrain.errors import RequestError
from posttrain.settings.config import Config

SHARED = ("batch_size", "mini_batch_size")
"""Settings of a trainer that all processes take an equal part of; an update's episodes are a multiple of its mini-batch."""


def check_processes(config: Config) -> None:
    """Refuse more processes than there are GPUs to train on, and batches that they cannot share evenly.

    Raises:
        RequestError: naming the setting.
    """
    number = config.model.processes
    if number == 1:
        return
    import torch

    gpus = torch.cuda.device_count()
    if gpus and number > gpus:
        raise RequestError(f"model.processes={number} needs as many GPUs, one a process, and there are {gpus}")
    for section, settings in _trained_by(config).items():
        for name in SHARED:
            size = getattr(settings, name, number)
            if size % number:
                raise RequestError(
                    f"{section}.{name} must be a multiple of model.processes ({number}), so that each process has as much to do, "
                    f"got {size}"
                )


def _trained_by(config: Config) -> dict[str, Any]:
    """Return the sections that the method's trainers read, by name; a reward model's prompts need not be shared evenly."""
    method = config.row
    found: dict[str, Any] = {"sft": config.sft} if "sft" in method.stages or not method.trainer else {}
    if method.trainer and not method.is_prompted:
        found[method.loop or method.trainer] = trainer_settings(config)["settings"]
    return found
