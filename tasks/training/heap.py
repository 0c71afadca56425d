"""Freed memory that a large network's training hands back to the system."""

from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from models.decoder import LARGE
from models.load import device
from models.size import size_of
from tasks.workspace.memory import return_freed


def return_freed_of(network: nn.Module) -> None:
    """Return freed memory to the system where a large network computes on a CPU.

    Rows of ever other lengths ask for blocks of ever other sizes, and the heap grows with each step
    (docs/decisions/0030-profiles.md). A small network keeps what it freed on purpose (`flows.environment`); a GPU's memory is
    PyTorch's own.
    """
    if device().type == "cpu" and size_of(network).weights >= LARGE:
        return_freed()


class ReturnsFreed(TrainerCallback):  # type: ignore[misc]  # transformers is skipped by mypy
    """Does so behind each part of a batch."""

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: nn.Module, **_: Any
    ) -> None:
        """Behind a part after which no weights move."""
        return_freed_of(model)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: nn.Module, **_: Any
    ) -> None:
        """Behind the last part."""
        return_freed_of(model)
