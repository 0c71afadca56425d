"""Our side: `python -m benchmarks.ppo_vs_trl.ours FOLDER OUT seed=0 updates=4 seconds=0` trains and writes what it measured.

One update more than asked for is made first and not counted. With `seconds`, it stops at the first update that ends later.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.utils import logging

from flows.environment import keep_freed_memory
from models.policy import PolicyAndCritic, policy_and_critic, reference_logprobs
from models.sampler import sample
from posttrain.ops.masks import padded
from posttrain.rl.ppo import Update, ppo
from posttrain.rl.rewards import Rewards
from posttrain.rl.rollout import Sampled
from posttrain.settings.ppo import PPOSettings


class Clock:
    """Seconds spent in each named part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Any:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def watch_network(self, network: nn.Module) -> None:
        """Time the network's forward passes: with gradient they are training's, without it those for values."""
        started: list[float] = []
        network.register_forward_pre_hook(lambda *_: started.append(time.perf_counter()))

        def after(*_: Any) -> None:
            name = "forward" if torch.is_grad_enabled() else "values"
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started.pop()

        network.register_forward_hook(after)


def settings_of(given: dict[str, Any], *, updates: int) -> PPOSettings:
    """Return the common hyper-parameters as ours; what TRL does not have (clipped gradients, collapse contracts) is off."""
    same = ("episodes", "epochs", "kl_coef", "clip_range", "value_clip_range", "value_coef", "gamma", "gae_lambda")
    mini_batch = given["episodes"] // given["mini_batches"]
    return PPOSettings(
        **{name: given[name] for name in (*same, "temperature", "adam_epsilon", "learning_rate")},
        critic_learning_rate=given["learning_rate"],
        mini_batch_size=mini_batch,
        max_new_tokens=given["longest"],
        updates=updates,
        max_grad_norm=1e9,
        min_finished=0.0,
        patience=10**6,
    )


def network_of(folder: Path) -> tuple[PolicyAndCritic, Any]:
    """Return policy and critic, which starts as the reward model, and the reward model."""
    policy = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    reward = AutoModelForSequenceClassification.from_pretrained(folder / "reward", dtype=torch.float32).eval()
    return policy_and_critic(policy, critic="separate", critic_start=reward), reward


class Sides:
    """Sampler and reward of `ppo`, timed where a clock is given."""

    def __init__(self, folder: Path, given: dict[str, Any], clock: Clock | None) -> None:
        self.given = given
        self.prompts: list[list[int]] = json.loads((folder / "prompts.json").read_text())
        self.network, self.reward = network_of(folder)
        self._reference = reference_logprobs(self.network.policy, temperature=given["temperature"])
        self.timed: Callable[[str], AbstractContextManager[Any]] = clock or (lambda name: nullcontext())
        if clock:
            clock.watch_network(self.network)

    def sample(self, asked: Sequence[int], chance: Tensor) -> tuple[list[list[int]], Sampled]:
        prompts = [self.prompts[question] for question in asked]
        ids = {"end_ids": (self.given["eos_id"],), "pad_id": self.given["pad_id"]}
        with self.timed("sample"):
            return prompts, sample(
                self.network.policy,
                prompts,
                chance,
                temperature=self.given["temperature"],
                context=self.given["context"],
                batch_size=len(prompts),
                **ids,
            )

    def reference(self, *of: Tensor) -> Tensor:
        with self.timed("reference"):
            return self._reference(*of)

    @torch.no_grad()
    def score(self, asked: Sequence[int], responses: Sequence[Sequence[int]]) -> Rewards:
        """Score token ids, each sequence at its last token."""
        rows = [[*self.prompts[question], *response] for question, response in zip(asked, responses, strict=True)]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        values = [0.0] * len(rows)
        size = self.given["episodes"] // self.given["mini_batches"]
        with self.timed("score"):
            for start in range(0, len(order), size):
                chosen = order[start : start + size]
                ids = padded([rows[row] for row in chosen], with_value=self.given["pad_id"])
                hidden = self.reward.model(input_ids=ids, use_cache=False).last_hidden_state
                last = torch.tensor([len(rows[row]) - 1 for row in chosen])
                scores = self.reward.score(hidden[torch.arange(len(chosen)), last]).squeeze(-1)
                for row, value in zip(chosen, scores.tolist(), strict=True):
                    values[row] = value
        return Rewards(values=values)

    def train(self, *, updates: int, seed: int) -> Any:
        """Return the generator of updates."""
        return ppo(
            self.network,
            reference=self.reference,
            sample=self.sample,
            score=self.score,
            questions=len(self.prompts),
            pad_id=self.given["pad_id"],
            settings=settings_of(self.given, updates=updates),
            accelerator=Accelerator(cpu=True),
            seed=seed,
        )


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main(folder: Path, out: Path, *, seed: int, updates: int, seconds: float) -> None:
    logging.disable_progress_bar()
    keep_freed_memory()
    clock = Clock()
    sides = Sides(folder, json.loads((folder / "settings.json").read_text()), clock)
    before, started = peak_mb(), time.perf_counter()
    told: dict[str, list[float]] = {"times": [], "scores": [], "kl": [], "tokens": []}
    update: Update
    for update in sides.train(updates=updates + 1, seed=seed):
        told["times"].append(time.perf_counter() - started)
        told["scores"].append(update.metrics["ppo/reward"])
        told["kl"].append(update.metrics["ppo/kl"])
        told["tokens"].append(update.metrics["ppo/response_tokens"])
        if update.number == 1:
            clock.seconds.clear()
        if seconds and told["times"][-1] > seconds:
            break
    out.write_text(json.dumps(told | {"phases": clock.seconds, "loaded_mb": before, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    words = dict(word.partition("=")[::2] for word in sys.argv[3:])
    main(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        seed=int(words.get("seed", "0")),
        updates=int(words["updates"]),
        seconds=float(words.get("seconds", "0")),
    )
