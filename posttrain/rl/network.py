"""What PPO asks of a network: log-probabilities, values and entropies of response tokens, without padding between them."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class TokenFigures:
    """What a network says of the response tokens of a batch, flat; None where it was not asked.

    Attributes:
        logprob: (tokens,), nats.
        value: (tokens,), the critic's estimate before each.
        entropy: (tokens,), of the distribution that each was drawn from, nats; carries a gradient where it was asked to.
    """

    logprob: Tensor | None
    value: Tensor | None
    entropy: Tensor | None


class Network(Protocol):
    """A policy and its critic, called on sequences padded on the right (`posttrain.ops.masks`)."""

    def __call__(
        self, ids: Tensor, prompt_length: Tensor, response_length: Tensor, *, temperature: float, want: frozenset[str]
    ) -> TokenFigures:
        """Return those of `logprob` (with `entropy`) and `value` that are wanted."""

    def rescale_values(self, gain: float, offset: float) -> None:
        """Let every value be `gain` times what it was, plus `offset`."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trained weights of `policy` and, where there is one, of `critic`, as they are held now."""
