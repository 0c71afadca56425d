"""Direct preference optimisation."""

from typing import Annotated

from pydantic import Field

from posttrain.settings.section import BatchSize, Count, NotNegative, Positive, Section, Share


class DPOSettings(Section):
    """Direct preference optimisation (arXiv:2305.18290)."""

    beta: Positive = 0.2
    """β of eq. 7; 0.1–0.5 in the paper."""
    learning_rate: Positive = 3e-4
    """For the tiny base (docs/decisions/0003-world.md); the paper has 1e-6 for models of billions of weights."""
    epochs: Positive = 2.0
    """Passes over the pairs (docs/decisions/0003-world.md)."""
    batch_size: Count = 64
    """Pairs a step, over gradient accumulation and devices (64 in the paper)."""
    nll_weight: NotNegative = 1.0
    """Weight of the chosen completion's negative log-likelihood beside the DPO loss (RPO, arXiv:2404.19733)."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    """Assumed share of flipped labels; above 0 the loss is robust DPO's (arXiv:2403.00409)."""
    warmup_ratio: Share = 0.1
    """Share of the steps in which the learning rate rises; it falls linearly afterwards."""
    max_steps: Count = 400
    """Optimiser steps at most, so that large data stay a matter of minutes on a laptop; raise it where there is a GPU."""
    device_batch_size: BatchSize = 64
    """As `sft.device_batch_size`, in pairs."""
