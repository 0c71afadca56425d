"""The loss of reference completions as one figure with an interval: a ratio of two sums, nats over tokens."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from posttrain.statistics.intervals import Interval


def per_completion(nats: Sequence[float], tokens: Sequence[int]) -> NDArray[np.float64]:
    """Return a value a completion whose mean is the loss a token, and whose spread is that of this ratio.

        v_i = R + (nats_i - R · tokens_i) / mean(tokens),   R = Σ nats / Σ tokens

    The loss a token weighs long completions more than short ones, as training does, so it is no mean of the completions' own
    losses. Its linearisation is one (the delta method: Cochran 1977, Sampling Techniques, section 6.4), and the difference of two
    models' values is the linearisation of the difference of their losses: whatever gives a mean its interval, paired or not, then
    gives one to the ratio.

    Args:
        nats: -log p of each completion, EOS included.
        tokens: its tokens, EOS included.

    Raises:
        ValueError: there are not as many tokens as nats, there is no completion, or one has no token.
    """
    if len(nats) != len(tokens) or not len(nats):
        raise ValueError(f"each completion needs its nats and its tokens, got {len(nats)} and {len(tokens)}")
    if min(tokens) < 1:
        raise ValueError(f"a completion has its EOS at least, got {min(tokens)} tokens")
    loss, length = np.asarray(nats, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    ratio = loss.sum() / length.sum()
    return np.asarray(ratio + (loss - ratio * length) / length.mean())


def perplexity(loss: Interval) -> Interval:
    """Return exp(loss), the perplexity a token, with the bounds of the loss carried over: the exponential keeps their order."""
    return Interval(estimate=math.exp(loss.estimate), low=math.exp(loss.low), high=math.exp(loss.high))
