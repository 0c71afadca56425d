"""A base of which nothing but the number of weights is known."""

from posttrain.advice.situation import Base

PER_LAYER, HEAD, KEY_HEADS, VOCABULARY = 128, 128, 8, 128_256
"""Of Llama 3 (arXiv:2407.21783, table 3): the width is about 128 a layer, heads are 128 wide, 8 of them have keys and values."""
BETWEEN = 3.5
"""How much wider the feed-forward layer is than the hidden state: Llama 3, as it too (14,336 / 4,096)."""
UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def weights_in(text: str) -> int | None:
    """Return the number that `7e9`, `7B`, `7_000_000_000` or `135M` stands for; None where it is no such number."""
    text = text.strip().replace(" ", "")
    unit = UNITS.get(text[-1:].upper(), 1.0)
    try:
        count = float(text[:-1] if unit > 1 else text) * unit
    except ValueError:
        return None
    return round(count) if 1 <= count < 1e15 else None


def base_of(weights: int, *, context: int) -> Base:
    """Return a base of so many weights in the proportions of Llama 3: as many layers as come nearest to them.

    A block has (4 + 3 · 3.5) width² weights less what grouped keys and values save; embedding and output layer have a row a word.

    Args:
        weights: how many; they stand as they are, whatever the layers come to.
        context: tokens of prompt and response together, at most.
    """
    layers = min(range(1, 500), key=lambda layers: abs(_weights(layers) - weights))
    width = PER_LAYER * layers
    keys = KEY_HEADS * HEAD
    return Base(
        name=f"{weights:,} weights",
        is_tiny=False,
        weights=weights,
        # queries and output, keys and values, then gate, up and down
        adapter_width=layers * round(4 * width + 2 * (width + keys) + 3 * (1 + BETWEEN) * width),
        layers=layers,
        width=width,
        cache_width=2 * keys,
        vocabulary=VOCABULARY,
        context=context,
    )


def _weights(layers: int) -> float:
    width = PER_LAYER * layers
    block = (2 + 3 * BETWEEN) * width**2 + 2 * KEY_HEADS * HEAD * width
    return layers * block + 2 * VOCABULARY * width
