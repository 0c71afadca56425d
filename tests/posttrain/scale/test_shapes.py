"""A number of weights becomes a shape like Llama 3's, and text becomes a number or is none."""

import pytest

from posttrain.scale.shapes import base_of, weights_in


@pytest.mark.parametrize(
    ("weights", "layers", "width"),
    # arXiv:2407.21783, table 3: 8 B has 32 layers 4,096 wide, 405 B 126 layers 16,384 wide; 70 B is narrower a layer
    [(8_030_261_248, 32, 4_096), (405_000_000_000, 126, 16_384), (70_553_706_496, 80, 8_192)],
)
def test_shapes_of_llama_3(weights, layers, width):
    found = base_of(weights, context=512)
    assert found.weights == weights and found.context == 512
    # activations hang on the product
    assert found.layers * found.width == pytest.approx(layers * width, rel=0.08)
    assert found.cache_width == 2 * 8 * 128 and found.vocabulary == 128_256


def test_adapters_by_hand():
    found = base_of(8_030_261_248, context=512)
    assert (found.layers, found.width) == (32, 4_096)
    # q and o 4,096 + 4,096 each, k and v 4,096 + 1,024 each, gate, up and down 4,096 + 14,336 each
    assert found.adapter_width == 32 * (2 * 8_192 + 2 * 5_120 + 3 * 18_432)


def test_few_weights_have_a_layer_at_least():
    assert base_of(1, context=8).layers == 1


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("7e9", 7_000_000_000),
        ("7B", 7_000_000_000),
        ("7 b", 7_000_000_000),
        ("135M", 135_000_000),
        ("7_000_000_000", 7_000_000_000),
        ("0.5b", 500_000_000),
        ("smollm2", None),
        ("./7B", None),
        ("", None),
        ("B", None),
        ("nan", None),
        ("inf", None),
        ("-7e9", None),
        ("0", None),
        ("1e30", None),
    ],
)
def test_text_that_is_a_number_of_weights(text, weights):
    assert weights_in(text) == weights
