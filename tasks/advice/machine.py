"""What the machine has: a GPU or not, and the memory that training can use."""

from pathlib import Path

import psutil
import torch

from models.load import dtype
from posttrain.advice.situation import Machine
from posttrain.settings.model import ModelSettings

PROCESS_BYTES = 800 * 2**20
"""Of Python with its libraries, on a CPU: SFT and DPO of the tiny base peak at 776 to 872 MB."""


def this_machine(settings: ModelSettings) -> Machine:
    """Return what this machine has; the memory of one GPU where there is one, else the machine's."""
    weight_bytes = torch.empty((), dtype=dtype(settings)).element_size()
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        return Machine(has_gpu=True, memory=int(memory), weight_bytes=weight_bytes)
    return Machine(has_gpu=False, memory=_machine_memory(), weight_bytes=weight_bytes, process=PROCESS_BYTES)


def _machine_memory(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Return the machine's memory, or what a container is given of it (cgroup 2)."""
    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(limit.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such limit, or "max"
        return total
