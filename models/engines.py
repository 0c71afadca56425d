"""What draws the responses of a policy in training: the policy itself, or something quicker that is nearly the policy."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from models.sampler import sample
from models.vllm_engine import VLLM
from posttrain.rl.rollout import Sampled
from posttrain.settings.ppo import PPOSettings

Engine = Callable[..., Sampled]
"""Is called as `models.sampler.sample` is; the log-probabilities that it tells need not be the policy's own."""


class Bfloat16:
    """A copy of the policy in bfloat16, with attention as plain matrix products.

    It takes the policy's weights anew before each draw: 2 bytes a weight are copied, adapters as such.
    """

    def __init__(self) -> None:
        self._copy: Any = None

    def __call__(self, policy: Any, prompts: Sequence[Sequence[int]], chance: Tensor, **how: Any) -> Sampled:
        """Draw a response to each prompt from the copy."""
        self._synchronise(policy)
        with torch.autocast(policy.device.type, enabled=False):
            return sample(self._copy, prompts, chance, **how)

    @torch.no_grad()
    def _synchronise(self, policy: Any) -> None:
        if self._copy is None:
            self._copy = copy.deepcopy(policy).eval().requires_grad_(False)
            inner = self._copy.get_base_model() if hasattr(self._copy, "get_base_model") else self._copy
            inner.set_attn_implementation("eager")
            # buffers stay: angles of positions in bfloat16 would be other positions
            for weight in self._copy.parameters():
                weight.data = weight.data.to(torch.bfloat16)
        for mine, weight in zip(self._copy.parameters(), policy.parameters(), strict=True):
            mine.copy_(weight)


ENGINES: dict[str, Callable[[PPOSettings], Engine]] = {
    "transformers": lambda _: sample,
    "bfloat16": lambda _: Bfloat16(),
    "vllm": lambda settings: VLLM(url=settings.engine_url, memory=settings.engine_memory),
}
"""By `ppo.engine`."""
