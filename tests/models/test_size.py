"""How many weights of a network do arithmetic."""

from torch import nn

from models.size import size_of
from posttrain.compute import Size


def test_weights_are_counted_once_and_frozen_ones_apart() -> None:
    first, second = nn.Linear(3, 4), nn.Linear(3, 4, bias=False)
    assert size_of(first) == Size(trained=16)
    assert size_of(first, second, None) == Size(trained=28)
    second.weight = first.weight
    assert size_of(first, second) == Size(trained=16), "tied weights are one"
    first.bias.requires_grad_(False)
    assert size_of(first) == Size(trained=12, frozen=4)
    assert size_of(None) == Size()


def test_an_embedding_counts_where_it_is_the_output_layer_too() -> None:
    network = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    assert size_of(network) == Size(trained=15), "looking up is no arithmetic"
    network[1].weight = network[0].weight
    assert size_of(network) == Size(trained=15), "tied: the output layer's arithmetic"
    assert size_of(network[0]) == Size()
