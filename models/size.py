"""How many weights of a network do arithmetic."""

from torch import nn

from models.quantization import weights_in
from posttrain.compute import Size


def size_of(*networks: nn.Module | None) -> Size:
    """Return the weights that multiply in networks together, those that they share counted once; None has none.

    An embedding is looked up, which takes no arithmetic, unless its weights are the output layer's as well.
    """
    weights: dict[int, nn.Parameter] = {}
    for network in networks:
        for module in network.modules() if network is not None else ():
            if not isinstance(module, nn.Embedding):
                weights |= {id(weight): weight for weight in module.parameters(recurse=False)}
    counted = {place: weights_in(weight) for place, weight in weights.items()}
    trained = sum(counted[place] for place, weight in weights.items() if weight.requires_grad)
    return Size(trained=trained, frozen=sum(counted.values()) - trained)
