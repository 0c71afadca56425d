"""How many weights of a network do arithmetic."""

from torch import nn

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
    trained = sum(weight.numel() for weight in weights.values() if weight.requires_grad)
    return Size(trained=trained, frozen=sum(weight.numel() for weight in weights.values()) - trained)
