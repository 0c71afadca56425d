"""Kahneman–Tversky optimisation."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from posttrain.settings.section import Count, Positive, Section, Share


class KTOSettings(Section):
    """Kahneman–Tversky optimisation (arXiv:2402.01306) on single responses, desirable or undesirable."""

    beta: Positive = 1.0
    """β of the value function, for the tiny base (docs/decisions/0003-world.md); 0.1 in the authors' code."""
    learning_rate: Positive = 3e-4
    """For the tiny base (docs/decisions/0003-world.md); the authors advise 5e-7 to 5e-6 for models of billions of weights."""
    epochs: Positive = 3.0
    """Passes over the responses (docs/decisions/0003-world.md)."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Responses a step, over gradient accumulation and devices."""
    desirable_weight: Annotated[float | None, Field(gt=0.0, allow_inf_nan=False)] = None
    """λ_D, of a desirable response's loss; none balances it, λ_D n_D = λ_U n_U, where the rarer kind weighs more than 1."""
    undesirable_weight: Annotated[float | None, Field(gt=0.0, allow_inf_nan=False)] = None
    """λ_U, of an undesirable response's loss; none balances it. The paper advises λ_D n_D / (λ_U n_U) from 1 to 4/3."""
    warmup_ratio: Share = 0.1
    """Share of the steps in which the learning rate rises; it falls linearly afterwards."""
    max_steps: Count = 400
    """Optimiser steps at most, so that large data stay a matter of minutes on a laptop; raise it where there is a GPU."""
    device_batch_size: Annotated[int, Field(ge=2)] = 64
    """Responses a device takes at once, at most; the KL term is estimated among them, so it is two or more."""

    @model_validator(mode="after")
    def _has_company(self) -> Self:
        if all(self.batch_size % size for size in range(2, self.device_batch_size + 1)):
            raise ValueError(f"batch_size must have a divisor from 2 to device_batch_size, got {self.batch_size}: make it even")
        return self
