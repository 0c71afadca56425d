"""What tensors hold at a time, counted by their storages: exact, and the same on every machine."""

import weakref

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


class LiveBytes(TorchDispatchMode):
    """Within it, counts the bytes of all storages that operations have made and that are still alive.

    Attributes:
        live: now.
        peak: most at a time.
    """

    def __init__(self, *networks: nn.Module) -> None:
        """Storages of `networks`, which were there before, are not counted."""
        super().__init__()
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref] = {}
        for network in networks:
            for tensor in (*network.parameters(), *network.buffers()):
                self._note(tensor, is_new=False)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._note, made)
        return made

    def _note(self, tensor: torch.Tensor, is_new: bool = True) -> None:
        storage = tensor.untyped_storage()
        place = id(storage)
        if place in self._known:
            return
        size = storage.nbytes() if is_new else 0
        self._known[place] = weakref.ref(storage, lambda _: self._forget(place, size))
        self.live += size
        self.peak = max(self.peak, self.live)

    def _forget(self, place: int, size: int) -> None:
        self._known.pop(place, None)
        self.live -= size


def bytes_of(*tensors: torch.Tensor) -> int:
    """Return what different storages of tensors hold together."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
