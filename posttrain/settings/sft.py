"""Supervised fine-tuning on demonstrations."""

from posttrain.settings.section import BatchSize, Count, Positive, Section, Share


class SFTSettings(Section):
    """Supervised fine-tuning on demonstrations, loss on the completion only."""

    epochs: Positive = 10.0
    """Passes over the demonstrations (docs/decisions/0003-world.md); 1–10 in ReFT (arXiv:2401.08967)."""
    batch_size: Count = 16
    """Demonstrations a step, over gradient accumulation and devices."""
    learning_rate: Positive = 3e-4
    """Peak, for the tiny base (docs/decisions/0003-world.md); about 1e-5 suits models of billions of weights."""
    warmup_ratio: Share = 0.1
    """Share of the steps in which the learning rate rises; it falls linearly afterwards."""
    max_steps: Count = 400
    """Optimiser steps at most, so that large data stay a matter of minutes on a laptop; raise it where there is a GPU."""
    device_batch_size: BatchSize = 64
    """Rows a device takes at once, at most; the rest of a batch is accumulated. Where memory runs short it is halved; it decides
    nothing about what is learnt (docs/decisions/0036-device-batches.md)."""
