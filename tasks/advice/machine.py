"""What the machine has: a GPU or not, and the memory that training can use."""

import psutil
import torch

from models.load import dtype
from posttrain.advice.situation import Machine
from posttrain.settings.model import ModelSettings


def this_machine(settings: ModelSettings) -> Machine:
    """Return what this machine has; the memory of one GPU where there is one, else the machine's."""
    weight_bytes = torch.empty((), dtype=dtype(settings)).element_size()
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        return Machine(has_gpu=True, memory=int(memory), weight_bytes=weight_bytes)
    return Machine(has_gpu=False, memory=int(psutil.virtual_memory().total), weight_bytes=weight_bytes)
