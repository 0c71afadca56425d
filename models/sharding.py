"""Weights that the processes of a stage share out between them (PyTorch's FSDP2): each keeps a part and gathers what it needs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from models.load import device
from models.processes import is_first, processes
from posttrain.settings.model import ModelSettings


def is_fsdp(model: ModelSettings) -> bool:
    """Return whether the processes of this stage share the weights that it trains by FSDP2: where there are several."""
    return model.sharding == "fsdp" and processes() > 1


def home(model: ModelSettings) -> torch.device:
    """Return where weights to train are loaded: on the CPU where each process's device then gets its part of them alone."""
    return torch.device("cpu") if is_fsdp(model) else device()


def block_names(network: nn.Module) -> list[str]:
    """Return the classes of a network's transformer blocks, as its models name what must stay together; sorted."""
    named = {name for module in network.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return sorted({type(module).__name__ for module in network.modules()} & named)


def shard(network: nn.Module, *, products: torch.dtype | None = None) -> nn.Module:
    """Let each process keep its part of every weight of a network, on its device, and return it; every process must ask for it.

    Transformer blocks are gathered one at a time, and what is in none of them (embedding, output layer, heads) with the network
    itself, which alone may be called. Outside a call and its backward pass every weight is a part (a DTensor), so that an
    optimiser made now steps on parts. Gradients are averaged over the processes, as under DDP.

    Args:
        network: whole, and the same on every process, on any device. Where two blocks share a frozen weight, each has parts of
            its own afterwards.
        products: the number format that blocks are gathered in, where it is another than their weights'. Autocast would make
            copies of whole weights in it, and the backward pass would keep them.
    """
    names = block_names(network)
    # inner ones first, as FSDP2 wants them
    blocks = [module for module in reversed(list(network.modules())) if type(module).__name__ in names]
    _part_blocks(blocks)
    mesh = init_device_mesh(device().type, (processes(),))
    # the network too gives back what it gathered: else weights were whole between a reading and the next step
    # heads stay in their own format: a value or a score is a number, where a block's output is one of many sums
    formats = {network: MixedPrecisionPolicy()}
    parts = [
        fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=formats.get(module, MixedPrecisionPolicy(products)))
        for module in (*blocks, network)
    ]
    for part in parts:
        # what is gathered keeps for ever whether it had a gradient when it was gathered first, and adapters may be off by then
        part.unshard()
        part.reshard()
    return network


def _part_blocks(blocks: list[nn.Module]) -> None:
    """Let blocks that share weights have parameters of their own: FSDP2 gathers a parameter with one block."""
    seen: set[int] = set()
    for block in blocks:
        mine: dict[int, nn.Parameter] = {}
        for module in block.modules():
            for name, weight in module.named_parameters(recurse=False):
                if id(weight) in seen:
                    own = mine.setdefault(id(weight), nn.Parameter(weight.detach(), requires_grad=weight.requires_grad))
                    setattr(module, name, own)
        seen |= {id(weight) for weight in block.parameters()}


def is_sharded(module: nn.Module) -> bool:
    """Return whether a process holds only a part of some weight of a module."""
    return isinstance(module, FSDPModule) or any(isinstance(weight, DTensor) for weight in module.parameters())


def whole(figure: Tensor) -> Tensor:
    """Return a tensor of which each process may hold a part, whole on every process; every one of them must ask for it."""
    return figure.full_tensor() if isinstance(figure, DTensor) else figure


def load_full_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Take whole weights, of which every process has all, into a sharded module; what `state` does not name stays as it is."""
    own = module.state_dict()
    with torch.no_grad():
        for name, weight in state.items():
            own[name].copy_(part_like(own[name], weight))


def load_full_optimiser_state(optimiser: Optimizer, state: Mapping[str, Any]) -> None:
    """Take an optimiser's whole state, of which every process has all, into one that steps on a process's parts of weights."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]

    def part(weight: Tensor, figure: Any) -> Any:
        # what has a number for each weight lies as the weights do; a count of steps is a single number
        return part_like(weight, figure) if isinstance(figure, Tensor) and figure.shape == weight.shape else figure

    parts = {
        place: {name: part(weights[place], figure) for name, figure in of_weight.items()}
        for place, of_weight in state["state"].items()
    }
    optimiser.load_state_dict({**state, "state": parts})


def part_like(weight: Tensor, figure: Tensor) -> Tensor:
    """Return of a whole tensor, which every process has, what this process holds of it where it is laid out as `weight` is."""
    figure = figure.to(weight.device)
    if not isinstance(weight, DTensor) or isinstance(figure, DTensor):
        return figure
    return distribute_tensor(figure, weight.device_mesh, weight.placements, src_data_rank=None)


def full(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict, of a module or an optimiser, with whole tensors on the CPU of the first process; {} on the others.

    Every process must ask for it. One tensor at a time is whole on the others.
    """
    gathered = {name: _gathered(figure) for name, figure in state.items()}
    return gathered if is_first() else {}


def _gathered(figure: Any) -> Any:
    if isinstance(figure, Mapping):
        return {name: _gathered(inner) for name, inner in figure.items()}
    if not isinstance(figure, Tensor):
        return figure
    gathered = whole(figure.detach())
    return gathered.cpu() if is_first() else None
