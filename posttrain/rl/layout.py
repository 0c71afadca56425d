"""How the processes of a run hold a network and its optimiser's state: each all of it, or each a part."""

from collections.abc import Mapping
from typing import Any, Protocol

from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer


class Layout(Protocol):
    """What training asks of whoever knows where weights are; all processes of a run ask for the same, in one order."""

    def prepared(self, network: nn.Module, accelerator: Accelerator) -> nn.Module:
        """Return what is called in training; from then on the network's parameters are those that an optimiser steps on."""

    def whole(self, figure: Tensor) -> Tensor:
        """Return a figure of gradients or weights, of which a process may hold a part, for all of them."""

    def kept(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a state dict as the process that writes checkpoints must have it: with whole tensors."""

    def load(self, network: nn.Module, optimiser: Optimizer, *, weights: Mapping[str, Tensor], steps: Mapping[str, Any]) -> None:
        """Go on from a checkpoint, which every process has.

        Args:
            network: that is trained; what `weights` does not name stays as it is.
            optimiser: of it.
            weights: whole, by name.
            steps: the optimiser's state dict, whole.
        """


class Replicated:
    """Each process holds all weights, and gradients are summed by DDP; see `Layout`."""

    def prepared(self, network: nn.Module, accelerator: Accelerator) -> nn.Module:
        """Return the network as Accelerate wraps it."""
        wrapped: nn.Module = accelerator.prepare_model(network)
        return wrapped

    def whole(self, figure: Tensor) -> Tensor:
        """Return the figure, which is whole."""
        return figure

    def kept(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the state, which is whole."""
        return dict(state)

    def load(self, network: nn.Module, optimiser: Optimizer, *, weights: Mapping[str, Tensor], steps: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        network.load_state_dict(weights, strict=False)
        optimiser.load_state_dict(dict(steps))
