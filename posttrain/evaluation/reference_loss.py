"""The loss of reference completions as one figure with an interval: a ratio of two sums, nats over tokens."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posttrain.statistics.intervals import Interval, clustered_mean, paired_difference


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


def reference_figures(rows: Sequence[Mapping[str, Any]], start: Sequence[Mapping[str, Any]] | None) -> dict[str, Interval]:
    """Return loss and perplexity a token of the reference completions, and the change of the loss against the start.

    Args:
        rows: of the model's `problems.jsonl`.
        start: the starting model's, of the same questions; None where the model is the start.

    Returns:
        `reference_loss`, `perplexity` and, with a start, `reference_loss_change`; nothing where fewer than two questions have a
        reference completion.
    """
    known = [place for place, row in enumerate(rows) if row.get("reference")]
    if len(known) < 2:
        return {}
    values = _values(rows, known)
    loss = clustered_mean(values)
    told = {"reference_loss": loss, "perplexity": perplexity(loss)}
    if start is not None:
        told["reference_loss_change"] = paired_difference(values, _values(start, known))
    return told


def _values(rows: Sequence[Mapping[str, Any]], known: Sequence[int]) -> Any:
    found = [rows[place]["reference"] for place in known]
    return per_completion([one["nats"] for one in found], [one["tokens"] for one in found])
