"""What the TRL trainers of this project have in common: arguments, LoRA, a progress bar, curves."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from models.load import device, dtype
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.kto import KTOSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.sft import SFTSettings
from tasks.workspace.artifacts import Log
from tasks.workspace.progress import bar
from tasks.workspace.quiet import quiet_libraries


def shared_arguments(
    scratch: Path, settings: SFTSettings | DPOSettings | KTOSettings, *, model: ModelSettings, epochs: float, seed: int
) -> dict[str, Any]:
    """Return the arguments that every TRL `Config` takes.

    A batch larger than `device_batch_size` is accumulated. Of two sizes that do not divide each other the device's is lowered
    until they do, so that a batch is never larger than asked for.

    Args:
        scratch: a folder that a trainer may write into.
        settings: of the method; `epochs` stands for its own.
        model: how it is loaded.
        epochs: as `epochs_within` allows.
        seed: of order and initialisation.
    """
    batch_size = settings.batch_size
    on_gpu = device().type == "cuda"
    devices = max(1, torch.cuda.device_count()) if on_gpu else 1
    a_device = max(1, min(settings.device_batch_size, batch_size // devices))
    while (batch_size // devices) % a_device:
        a_device -= 1
    return {
        "output_dir": str(scratch),
        "per_device_train_batch_size": a_device,
        "gradient_accumulation_steps": max(1, batch_size // (a_device * devices)),
        "learning_rate": settings.learning_rate,
        "num_train_epochs": epochs,
        "warmup_steps": min(settings.warmup_ratio, math.nextafter(1.0, 0.0)),  # transformers reads 1 and more as a count
        "lr_scheduler_type": "linear",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "seed": seed,
        "data_seed": seed,
        "bf16": dtype(model) == torch.bfloat16,
        "use_cpu": not on_gpu,
        "activation_checkpointing": on_gpu,
        "save_strategy": "no",
        "report_to": "none",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
    }


def epochs_within(settings: SFTSettings | DPOSettings | KTOSettings, *, rows: int) -> float:
    """Return `epochs`, or fewer where they would take more than `max_steps` optimiser steps over `rows`."""
    return min(settings.epochs, settings.max_steps / math.ceil(rows / settings.batch_size))


def steps_of(epochs: float, settings: SFTSettings | DPOSettings | KTOSettings, *, rows: int) -> int:
    """Return the optimiser steps that `epochs` over `rows` take."""
    return math.ceil(math.ceil(rows / settings.batch_size) * epochs)


class Curves(TrainerCallback):  # type: ignore[misc]  # transformers is skipped by mypy
    """Hands what a trainer logs to the stage's curves, and moves the progress bar."""

    def __init__(self, log: Log, advance: Callable[[int, str], None]) -> None:
        self._log = log
        self._advance = advance
        self.last: dict[str, float] = {}

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Log one step's figures."""
        figures = {name: float(value) for name, value in (logs or {}).items() if name not in ("epoch", "total_flos")}
        if "loss" not in figures:
            return
        self.last = figures
        self._log(state.global_step, figures)
        self._advance(1, f"loss {figures['loss']:.3f}")


def silenced(trainer: Trainer) -> Trainer:
    """Return the trainer without the callback that prints a dict a step where progress bars are off."""
    trainer.remove_callback(PrinterCallback)
    return trainer


@contextlib.contextmanager
def watched(title: str, *, steps: int, log: Log) -> Iterator[Curves]:
    """Yield a callback for a trainer, with a progress bar around it and the libraries' own chatter off."""
    with quiet_libraries(), bar(title, steps) as advance:
        yield Curves(log, advance)
