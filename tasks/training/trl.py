"""What the TRL trainers of this project have in common: arguments, LoRA, a progress bar, curves."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from datasets.fingerprint import get_temporary_cache_files_directory
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from models.encoding import prompt_ids, response_ids
from models.endings import taught_end
from models.fingerprint import must_move
from models.load import device, dtype, prompt_text
from models.processes import processes
from posttrain.ops.device_rows import SHARED, with_rows
from posttrain.records import Prompt
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.kto import KTOSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.sft import SFTSettings
from tasks.training.heap import ReturnsFreed
from tasks.training.sharded import sharding_arguments
from tasks.workspace.artifacts import Log
from tasks.workspace.progress import bar
from tasks.workspace.quiet import quiet_libraries

Settings = TypeVar("Settings", SFTSettings, DPOSettings, KTOSettings)


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
    devices = _devices()
    a_device = device_batch(settings, settings.device_batch_size)
    checkpointing = on_gpu if model.gradient_checkpointing == "auto" else model.gradient_checkpointing == "on"
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
        "save_strategy": "no",
        "report_to": "none",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
        **sharding_arguments(model, checkpointing=checkpointing),
    }


def _devices() -> int:
    if processes() > 1:
        return processes()
    return max(1, torch.cuda.device_count()) if device().type == "cuda" else 1


def device_batch(settings: SFTSettings | DPOSettings | KTOSettings, most: int, *, devices: int = 0) -> int:
    """Return the largest number of rows up to `most` of which a device's share of a batch is a multiple.

    Args:
        settings: of the method.
        most: rows.
        devices: that share a batch; 0: those that there are.
    """
    share = settings.batch_size // (devices or _devices())
    a_device = max(1, min(most, share))
    while share % a_device:
        a_device -= 1
    return a_device


def trained(stage: str, settings: Settings, make: Callable[[Settings], Trainer], *, fixed: str = "") -> Trainer:
    """Return a trainer that has trained; where memory runs short, anew from the beginning, with fewer rows at a time.

    transformers' own `auto_find_batch_size` goes on from the weights that it has got to, with as many accumulated steps of a
    smaller batch: that is another training. From the beginning, with as many rows in a batch, it is the same one.

    Args:
        stage: section of the settings, for errors.
        settings: of the method.
        make: returns a trainer for settings that have another `device_batch_size`; it loads the model, too.
        fixed: as `with_rows` has it.

    Raises:
        ContractError: no weight has moved.
        RequestError: one row at a time does not fit into memory.
    """

    def train(rows: int) -> Trainer:
        trainer = silenced(make(settings.model_copy(update={"device_batch_size": rows})))
        trainer.add_callback(ReturnsFreed())
        with must_move(trainer.model, stage=stage):
            trainer.train()
        return trainer

    fixed = fixed or (SHARED if processes() > 1 else "")
    return with_rows("training", device_batch(settings, settings.device_batch_size), train, fixed=fixed)


def with_shared_cache(rows: Dataset) -> Dataset:
    """Return rows whose computed columns all processes look for where the first one writes them, as TRL relies on.

    Rows that lie in memory would have a file of another name in each process.
    """
    if processes() > 1:
        folder = broadcast_object_list([get_temporary_cache_files_directory()], from_process=0)[0]
        rows._get_cache_file_path = lambda fingerprint: str(Path(folder) / f"cache-{fingerprint}.arrow")
    return rows


def tokenised(
    reader: PreTrainedTokenizerBase, examples: Sequence[tuple[Prompt, str, bool]]
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the tokens of prompts, and those of the responses to them with what ends them.

    TRL would put the tokenizer's EOS behind everything. An end stands behind what ended alone: a policy that is rewarded for one
    in the middle of a solution learns to stop there. It is the chat template's own where the prompt went through it.

    Args:
        reader: tokenizer.
        examples: each a prompt, a response, and whether that ended.
    """
    texts = [prompt_text(reader, prompt) for prompt, _, _ in examples]
    ends = [
        taught_end(reader, prompt, text) if has_ended else None
        for (prompt, _, has_ended), text in zip(examples, texts, strict=True)
    ]
    return prompt_ids(reader, texts), response_ids(reader, texts, [response for _, response, _ in examples], ends=ends)


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
        self._logged = 0
        self.last: dict[str, float] = {}

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Log one step's figures."""
        figures = {name: float(value) for name, value in (logs or {}).items() if name not in ("epoch", "total_flos")}
        if "loss" not in figures:
            return
        self.last = figures
        if state.global_step <= self._logged:  # the training was begun again, and has not come as far as before
            return
        self._logged = state.global_step
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
