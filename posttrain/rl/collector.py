"""Collecting an update's episodes: which questions are asked, what the policy answers, and what is known of each token."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from posttrain.ops.device_rows import SHARED, with_rows
from posttrain.ops.masks import unflattened
from posttrain.rl.contracts import check_sampler
from posttrain.rl.corrections import truncated_weights
from posttrain.rl.processes import shared
from posttrain.rl.rewards import Rewards
from posttrain.rl.rollout import Episodes, Sampled, joined, questions_of_update, uniforms
from posttrain.settings.ppo import PPOSettings
from posttrain.settings.section import tokens_of

Sample = Callable[[Sequence[int], Tensor], tuple[Sequence[Sequence[int]], Sampled]]
"""Takes questions (numbers) and the uniforms of their tokens, (episodes, longest); returns prompts (ids) and responses."""
Score = Callable[[Sequence[int], Sequence[Sequence[int]]], Rewards]
"""Takes questions and responses (ids); returns their rewards."""
ReferenceLogprobs = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes ids, prompt lengths and response lengths; returns the reference's log-probabilities of response tokens, flat."""


def recomputes_logprobs(settings: PPOSettings, accelerator: Accelerator) -> bool:
    """Return whether the network in training reads the responses once more, for the log-probabilities that they start from."""
    if settings.old_logprobs == "auto":
        return accelerator.mixed_precision != "no" or not settings.samples_itself
    return settings.old_logprobs == "recomputed"


class Collector:
    """Samples, scores and reads the episodes of an update.

    Args:
        network: a `posttrain.rl.network.Network`, the policy as it is in training.
        has_critic: whether it has values.
        reference: the model that the KL is taken from; without gradient.
        settings: all of them are explained there.
        accelerator: where and in how many processes.
        pad_id: any id of the vocabulary.
        questions: how many there are to ask.
        num_generations: responses to each, one after the other.
        corrected: what has a weight where another engine than the policy draws: each `token`, or the `sequence`.
        seed: of orders and samples.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        has_critic: bool,
        reference: ReferenceLogprobs,
        settings: PPOSettings,
        accelerator: Accelerator,
        pad_id: int,
        questions: int,
        num_generations: int,
        corrected: Literal["token", "sequence"],
        seed: int,
    ) -> None:
        self.network = network
        self.reference = reference
        self.settings = settings
        self.accelerator = accelerator
        self.pad_id = pad_id
        self.questions = questions
        self.num_generations = num_generations
        self.corrected = corrected
        self.seed = seed
        self.recomputes = recomputes_logprobs(settings, accelerator)
        self.metrics: dict[str, float] = {}
        """Where log-probabilities are computed again: by how much the sampler differed last, and what was done about it."""
        wanted = {"value": has_critic, "logprob": self.recomputes}
        self._want = frozenset(name for name, is_wanted in wanted.items() if is_wanted)

    def collect(self, update: int, sample: Sample, score: Score) -> tuple[list[int], Episodes, Rewards]:
        """Return the question of each episode of an update (from 0), the episodes of all processes, and their rewards."""
        settings, processes = self.settings, self.accelerator.num_processes
        asked = questions_of_update(
            update,
            episodes=settings.episodes,
            samples=self.num_generations,
            questions=self.questions,
            seed=self.seed,
        )
        chance = uniforms(update, episodes=settings.episodes, longest=tokens_of(settings.max_new_tokens), seed=self.seed)
        share = settings.episodes // processes
        mine = slice(self.accelerator.process_index * share, (self.accelerator.process_index + 1) * share)
        with self.accelerator.autocast():
            prompts, sampled = sample(asked[mine], chance[mine])
        rewards = score(asked[mine], sampled.responses)
        episodes = joined(prompts, sampled, pad_id=self.pad_id, device=self.accelerator.device)
        episodes = self._with_figures(replace(episodes, score=torch.tensor(list(rewards.values)).to(episodes.score)))
        if processes > 1:
            episodes, rewards = shared(episodes, rewards, pad_id=self.pad_id)
        return asked, episodes, rewards

    @torch.no_grad()
    def _with_figures(self, episodes: Episodes) -> Episodes:
        """Return the episodes with values, reference log-probabilities and, where asked for, their own computed again."""
        mask = episodes.is_response
        found = {name: torch.zeros_like(episodes.logprob) for name in ("value", "reference_logprob", "logprob")}

        def read(size: int) -> None:
            for rows in episodes.parts(torch.arange(len(episodes.ids)), size):
                part = episodes.rows(rows)
                for name, flat in self._figures(part).items():
                    laid_out = unflattened(flat.float(), part.is_response)
                    found[name][rows, : laid_out.shape[1]] = laid_out

        most = min(self.settings.device_batch_size, len(episodes.ids))
        with_rows("reading responses", most, read, fixed=SHARED if self.accelerator.num_processes > 1 else "")
        if self.recomputes:
            difference = (found["logprob"] - episodes.logprob)[mask]
            check_sampler(difference, self.settings)
            self.metrics = {"sampler_mismatch": difference.abs().mean().item()}
        else:
            found["logprob"] = episodes.logprob
        found = {name: figure.masked_fill(~mask, 0.0) for name, figure in found.items()}
        if not self.settings.samples_itself and self.settings.sampler_correction:
            cap = self.settings.sampler_correction_cap
            found["correction"] = truncated_weights(found["logprob"], episodes.logprob, cap=cap, level=self.corrected)
            weights = found["correction"][mask]
            self.metrics |= {
                "sampler_correction": weights.mean().item(),
                "sampler_capped": (weights >= cap).float().mean().item(),
            }
        return replace(episodes, **found)

    def _figures(self, part: Episodes) -> dict[str, Tensor]:
        """Return what is read of each response token, flat; a network without a critic may have nothing to say."""
        sequences = part.ids, part.prompt_length, part.response_length
        found: dict[str, Tensor | None] = {}
        if self._want:
            figures = self.network(*sequences, temperature=self.settings.temperature, want=self._want)
            found |= {"value": figures.value, "logprob": figures.logprob}
        with self.accelerator.autocast():  # the network's own forward has it from Accelerate
            found["reference_logprob"] = self.reference(*sequences)
        return {name: flat for name, flat in found.items() if flat is not None}
