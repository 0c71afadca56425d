"""Proximal policy optimisation on the reward of whole responses, as a generator that yields one step an update.

Schulman et al. 2017 (arXiv:1707.06347), as language models are trained with it (arXiv:1909.08593, 2203.02155): sample, score,
subtract the KL from a reference, estimate advantages, then a few epochs of mini-batches. How to sample, what to reward and
what the network is are handed in; nothing here knows a file, a clock or a logger. Several processes share an update through
Accelerate: each samples and scores its part, all see the whole, and each takes its share of every mini-batch, so that the
mathematics is that of one process with the joint batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from posttrain.errors import ContractError, RequestError
from posttrain.ops.losses import clipped_policy_loss, clipped_value_loss, kl_k1, kl_k3
from posttrain.ops.masks import is_response, token_weights, unflattened
from posttrain.rl.advantages import fitted_line, generalised_advantages, rewards_to_go, whitened
from posttrain.rl.contracts import Health, Recomputed, check_first_ratio, check_kl, check_sampler, collapse, explained
from posttrain.rl.network import TokenFigures
from posttrain.rl.processes import shared
from posttrain.rl.rewards import Rewards, RunningScale, adapted_kl_coef, eos_shaped, token_rewards
from posttrain.rl.rollout import Episodes, Sampled, chances, derived_generator, joined, questions_of_update
from posttrain.settings.ppo import PPOSettings
from posttrain.statistics.intervals import clustered_error

Sample = Callable[[Sequence[int], Tensor], tuple[Sequence[Sequence[int]], Sampled]]
"""Takes questions (numbers) and the chances of their tokens, (episodes, longest); returns prompts (ids) and responses."""
Score = Callable[[Sequence[int], Sequence[Sequence[int]]], Rewards]
"""Takes questions and responses (ids); returns their rewards."""
ReferenceLogprobs = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes ids, prompt lengths and response lengths; returns the reference's log-probabilities of response tokens, flat."""


@dataclass(frozen=True)
class Update:
    """One step of the generator: an update that has been made.

    Attributes:
        number: from 1.
        metrics: by the field's names, such as `ppo/kl`.
        asked: the question of each episode.
        episodes: as they were sampled, with scores.
        rewards: of each episode, with parts and reasons.
        recomputes: whether the policy read the responses once more before training (`ppo.old_logprobs`).
        objective: mean score minus β KL, averaged over the last `ppo.patience` updates: a checkpoint is best by this.
        state: returns what a checkpoint must hold for `ppo` to go on from here.
    """

    number: int
    metrics: Mapping[str, float]
    asked: Sequence[int]
    episodes: Episodes
    rewards: Rewards
    recomputes: bool
    objective: float
    state: Callable[[], dict[str, Any]]


def ppo(
    network: nn.Module,
    *,
    reference: ReferenceLogprobs,
    sample: Sample,
    score: Score,
    questions: int,
    pad_id: int,
    settings: PPOSettings,
    accelerator: Accelerator,
    seed: int,
    state: Mapping[str, Any] | None = None,
    fits_values: bool = False,
) -> Iterator[Update]:
    """Train `network` and yield each update.

    Args:
        network: a `posttrain.rl.network.Network`; its `parameter_groups()` gives the trained weights of "policy" and "critic".
        reference: the model that the KL is taken from; without gradient.
        sample: draws responses from the policy as it is.
        score: rewards them.
        questions: how many there are to ask.
        pad_id: any id of the vocabulary.
        settings: all of them are explained there.
        accelerator: where and in how many processes.
        seed: of orders and samples.
        state: of a checkpoint (`Update.state()`), to go on from; the network's weights are in it.
        fits_values: before the first step the critic's values are laid on what was returned, by the least-squares line: for a
            critic that starts as a reward model, which was made for whole responses and in another unit.

    Raises:
        ContractError: training and sampling disagree, a KL is not one, too few responses end, or the run has collapsed.
        RequestError: the processes cannot share a mini-batch evenly.
    """
    trainer = _Trainer(
        network=network,
        reference=reference,
        settings=settings,
        accelerator=accelerator,
        pad_id=pad_id,
        questions=questions,
        seed=seed,
        fits_values=fits_values,
    )
    if state is not None:
        trainer.resume(state)
    while trainer.done < settings.updates:
        yield trainer.update(sample, score)


class _Trainer:
    def __init__(
        self,
        *,
        network: nn.Module,
        reference: ReferenceLogprobs,
        settings: PPOSettings,
        accelerator: Accelerator,
        pad_id: int,
        questions: int,
        seed: int,
        fits_values: bool = False,
    ) -> None:
        if settings.mini_batch_size % accelerator.num_processes:
            raise RequestError(
                f"ppo.mini_batch_size must be a multiple of the number of processes ({accelerator.num_processes}), so that each "
                f"has as much to do, got {settings.mini_batch_size}"
            )
        self.module = network
        self.groups: dict[str, list[nn.Parameter]] = network.parameter_groups()  # type: ignore[operator]
        rates = {"policy": settings.learning_rate, "critic": settings.critic_learning_rate}
        optimiser = torch.optim.AdamW(
            [{"params": weights, "lr": rates[name], "name": name} for name, weights in self.groups.items()],
            eps=settings.adam_epsilon,
            weight_decay=0.0,
            fused=accelerator.device.type in ("cpu", "cuda"),
        )
        self.network, self.optimiser = accelerator.prepare(network, optimiser)
        self.rates = rates
        self.reference = reference
        self.settings = settings
        self.accelerator = accelerator
        self.pad_id = pad_id
        self.questions = questions
        self.seed = seed
        self.fits_values = fits_values
        self.done = 0
        self.kl_coef = settings.kl_coef
        self.scale = RunningScale()
        self.history: list[Health] = []
        self.objectives: list[float] = []

    # ---- checkpoints

    def state(self) -> dict[str, Any]:
        """Everything that the next update depends on; what chance decides is derived from the seed (`posttrain.rl.rollout`)."""
        return {
            "done": self.done,
            "network": {name: weight for name, weight in self.module.state_dict().items() if name in self._trained()},
            "optimiser": self.optimiser.state_dict(),
            "kl_coef": self.kl_coef,
            "scale": [self.scale.count, self.scale.mean, self.scale.squares],
            "history": [[getattr(one, field.name) for field in fields(Health)] for one in self.history],
            "objectives": list(self.objectives),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        self.module.load_state_dict(state["network"], strict=False)
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = state["done"]
        self.kl_coef = state["kl_coef"]
        self.scale = RunningScale(*state["scale"])
        self.history = [Health(*one) for one in state["history"]]
        self.objectives = list(state["objectives"])

    def _trained(self) -> set[str]:
        return {name for name, weight in self.module.named_parameters(remove_duplicate=False) if weight.requires_grad}

    # ---- one update

    def update(self, sample: Sample, score: Score) -> Update:
        asked, episodes, rewards = self._collect(sample, score)
        kl = kl_k1(episodes.logprob, episodes.reference_logprob)
        self._check(episodes, kl)
        shaped = self._shaped(episodes)
        token_reward = token_rewards(shaped, episodes.response_length, longest=episodes.logprob.shape[1])
        if self.settings.kl_in == "reward":
            token_reward = token_reward - self.kl_coef * kl
        mask = episodes.is_response
        if self.fits_values and not self.done:
            gain, offset = fitted_line(episodes.value[mask], rewards_to_go(token_reward, gamma=self.settings.gamma)[mask])
            self.module.rescale_values(gain, offset)  # type: ignore[operator]
            episodes = replace(episodes, value=(gain * episodes.value + offset).masked_fill(~mask, 0.0))
        advantage, returns = generalised_advantages(
            token_reward, episodes.value, mask, gamma=self.settings.gamma, gae_lambda=self.settings.gae_lambda
        )
        explained_variance = _explained_variance(episodes.value[mask], returns[mask])
        if self.settings.whiten_advantages:
            advantage = whitened(advantage, mask)
        metrics = {f"ppo/{name}": _mean(values) for name, values in rewards.parts.items()}  # first: no part's name hides a figure
        metrics |= self._train(episodes, advantage, returns)
        metrics |= explained_variance | {"ppo/reward_shaped": shaped.mean().item()}
        metrics |= self._watched(episodes, kl) | _errors(asked, rewards)
        self._conclude(metrics, episodes)
        return Update(
            number=self.done,
            metrics=metrics,
            asked=asked,
            episodes=episodes,
            rewards=rewards,
            recomputes=self._recomputes(),
            objective=_mean(self.objectives[-self.settings.patience :]),
            state=self.state,
        )

    def _collect(self, sample: Sample, score: Score) -> tuple[list[int], Episodes, Rewards]:
        settings, processes = self.settings, self.accelerator.num_processes
        asked = questions_of_update(
            self.done, episodes=settings.episodes, samples=settings.samples_per_prompt, questions=self.questions, seed=self.seed
        )
        chance = chances(self.done, episodes=settings.episodes, longest=settings.max_new_tokens, seed=self.seed)
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
        again = self._recomputes()
        want = frozenset({"value", "logprob"} if again else {"value"})
        mask = episodes.is_response
        found = {name: torch.zeros_like(episodes.logprob) for name in ("value", "reference_logprob", "logprob")}
        for rows in self._parts(torch.arange(len(episodes.ids)), episodes):
            part = episodes.rows(rows)
            figures = self.module(
                part.ids, part.prompt_length, part.response_length, temperature=self.settings.temperature, want=want
            )
            with self.accelerator.autocast():  # the network's own forward has it from Accelerate
                reference = self.reference(part.ids, part.prompt_length, part.response_length)
            told = {"value": figures.value, "logprob": figures.logprob, "reference_logprob": reference}
            for name, flat in told.items():
                if flat is not None:
                    laid_out = unflattened(flat.float(), part.is_response)
                    found[name][rows, : laid_out.shape[1]] = laid_out
        if again:
            check_sampler((found["logprob"] - episodes.logprob)[mask], tolerance=self.settings.sampler_tolerance)
        else:
            found["logprob"] = episodes.logprob
        return replace(episodes, **{name: figure.masked_fill(~mask, 0.0) for name, figure in found.items()})

    def _recomputes(self) -> bool:
        source = self.settings.old_logprobs
        return source == "recomputed" or (source == "auto" and self.accelerator.mixed_precision != "no")

    def _parts(self, rows: Tensor, episodes: Episodes) -> Iterator[Tensor]:
        """Yield the rows in parts that a device takes at once, each of sequences of like length."""
        length = (episodes.prompt_length + episodes.response_length).cpu()[rows]
        yield from torch.split(rows[length.argsort(stable=True)], self.settings.device_batch_size)

    def _check(self, episodes: Episodes, kl: Tensor) -> None:
        check_kl(kl.sum(dim=1))
        finished = episodes.is_finished.float().mean().item()
        if not self.history and finished < self.settings.min_finished:
            raise ContractError(
                f"only {finished:.0%} of the first responses end with EOS, PPO needs {self.settings.min_finished:.0%} "
                "(ppo.min_finished): it rewards whole responses, and cannot teach a model to end them. Train SFT longer, or "
                f"give more room than ppo.max_new_tokens={self.settings.max_new_tokens}"
            )

    def _shaped(self, episodes: Episodes) -> Tensor:
        settings = self.settings
        score = episodes.score - settings.reward_centre
        if settings.reward_scale == "running":
            self.scale = self.scale.with_scores(score)
            score = score / self.scale.deviation
        score = score.clamp(-settings.reward_clip, settings.reward_clip)
        return eos_shaped(score, episodes.is_finished, missing_eos=settings.missing_eos, penalty=settings.missing_eos_penalty)

    # ---- training on an update's episodes

    def _train(self, episodes: Episodes, advantage: Tensor, returns: Tensor) -> dict[str, float]:
        factor = _rate_factor(self.done, self.settings)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rates[group["name"]] * factor
        totals: list[Tensor] = []
        for epoch in range(self.settings.epochs):
            order = torch.randperm(len(episodes.ids), generator=derived_generator(self.seed, "mini-batches", self.done, epoch))
            for rows in torch.split(order, self.settings.mini_batch_size):
                totals.append(self._step(episodes, advantage, returns, rows, is_first=not totals))
                limit = self.settings.target_kl
                if limit and totals[-1][_FIGURES.index("approx_kl")] > limit:
                    return self._training_metrics(totals, factor)
        return self._training_metrics(totals, factor)

    def _training_metrics(self, totals: Sequence[Tensor], factor: float) -> dict[str, float]:
        means = torch.stack(list(totals)).mean(dim=0).tolist()
        return {
            **{f"ppo/{name}": value for name, value in zip(_FIGURES, means, strict=True)},
            "ppo/steps": len(totals),
            "ppo/learning_rate": self.rates["policy"] * factor,
        }

    def _step(self, episodes: Episodes, advantage: Tensor, returns: Tensor, rows: Tensor, *, is_first: bool) -> Tensor:
        """Take one optimiser step on a mini-batch and return its figures in the order of `_FIGURES`."""
        lengths = episodes.response_length.cpu()
        weight = torch.zeros(len(lengths), int(lengths.max()))
        weight[rows] = unflattened(
            token_weights(lengths[rows], mean_over=self.settings.mean_over),
            is_response(lengths[rows], longest=weight.shape[1]),
        )
        weight = weight.to(advantage.device)
        mine = rows[self.accelerator.process_index :: self.accelerator.num_processes]
        parts = list(self._parts(mine, episodes))
        figures = torch.zeros(len(_FIGURES), device=advantage.device)
        for place, part in enumerate(parts):
            is_last = place == len(parts) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.network):
                loss, told = self._loss(episodes, advantage, returns, weight, part, is_first=is_first)
                # gradients are averaged over processes, the weights already count all of them
                self.accelerator.backward(loss * self.accelerator.num_processes)
            figures += told
        norm = torch.stack([self._clipped(weights).to(figures.device) for weights in self.groups.values()])
        self.optimiser.step()
        self.optimiser.zero_grad()
        figures = torch.as_tensor(self.accelerator.reduce(figures, reduction="sum"))
        figures[_FIGURES.index("gradient_norm")] = norm.norm()
        return figures

    def _clipped(self, weights: Sequence[nn.Parameter]) -> Tensor:
        """Scale the gradients of some weights down to `ppo.max_grad_norm`, and return the norm that they had."""
        most = self.settings.max_grad_norm
        if self.accelerator.device.type != "cpu":
            return torch.as_tensor(self.accelerator.clip_grad_norm_(weights, most))
        # where a comparison costs no wait for a device, gradients within the limit are not multiplied by 1
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        if not norm <= most:
            torch.nn.utils.clip_grads_with_norm_(weights, most, norm)
        return norm

    def _loss(
        self, episodes: Episodes, advantage: Tensor, returns: Tensor, weight: Tensor, rows: Tensor, *, is_first: bool
    ) -> tuple[Tensor, Tensor]:
        """Return this part's share of the mini-batch's loss, and of its figures."""
        settings = self.settings
        part = episodes.rows(rows)
        mask = part.is_response
        columns = mask.shape[1]
        old, reference, old_value = part.logprob[mask], part.reference_logprob[mask], part.value[mask]
        gain, target, share = (figure[rows][:, :columns][mask] for figure in (advantage, returns, weight))
        told = self.network(
            part.ids,
            part.prompt_length,
            part.response_length,
            temperature=settings.temperature,
            want=frozenset({"logprob", "value", *(["entropy_gradient"] if settings.entropy_coef else [])}),
        )
        if is_first:
            check_first_ratio(
                told.logprob.detach() - old,
                tolerance=settings.ratio_tolerance,
                explain=lambda: self._explain(part, told.logprob.detach()),
            )
        policy = clipped_policy_loss(told.logprob, old, gain, share, clip_range=settings.clip_range)
        value = clipped_value_loss(told.value, old_value, target, share, clip_range=settings.value_clip_range)
        entropy = (share * told.entropy).sum()
        loss = policy.loss + settings.value_coef * value.loss
        if settings.entropy_coef:
            loss = loss - settings.entropy_coef * entropy
        if settings.kl_in == "loss":
            loss = loss + self.kl_coef * (share * kl_k3(told.logprob, reference)).sum()
        figures = (policy.loss, value.loss, policy.clip_fraction, value.clip_fraction, policy.approx_kl, entropy)
        return loss, torch.stack([*(figure.detach() for figure in figures), torch.zeros_like(entropy)])

    @torch.no_grad()
    def _explain(self, part: Episodes, trained: Tensor) -> str:
        def again(rows: Episodes, temperature: float) -> Tensor:
            told: TokenFigures = self.module(
                rows.ids, rows.prompt_length, rows.response_length, temperature=temperature, want=frozenset({"logprob"})
            )
            return torch.as_tensor(told.logprob)

        temperature = self.settings.temperature
        alone = [again(part.rows(torch.tensor([row])), temperature) for row in range(len(part.ids))]
        found = Recomputed(
            sampled=part.logprob[part.is_response],
            trained=trained,
            trained_again=again(part, temperature),
            one_by_one=torch.cat(alone),
            at_temperature_1=again(part, 1.0),
        )
        return explained(found, self.module, temperature=temperature, tolerance=self.settings.ratio_tolerance)

    # ---- what is told of an update

    def _watched(self, episodes: Episodes, kl: Tensor) -> dict[str, float]:
        of_responses = kl.sum(dim=1).mean().item()
        return {
            "ppo/reward": episodes.score.mean().item(),
            "ppo/kl": of_responses,
            "ppo/sqrt_kl": max(0.0, of_responses) ** 0.5,
            "ppo/kl_coef": self.kl_coef,
            "ppo/objective": episodes.score.mean().item() - self.kl_coef * of_responses,
            "ppo/response_tokens": episodes.response_length.float().mean().item(),
            "ppo/finished": episodes.is_finished.float().mean().item(),
        }

    def _conclude(self, metrics: Mapping[str, float], episodes: Episodes) -> None:
        settings = self.settings
        self.done += 1
        self.objectives.append(metrics["ppo/objective"])
        self.history.append(
            Health(
                reward=metrics["ppo/reward"],
                reward_deviation=episodes.score.std(correction=0).item(),
                entropy=metrics["ppo/entropy"],
                response_tokens=metrics["ppo/response_tokens"],
                finished=metrics["ppo/finished"],
            )
        )
        trouble = collapse(
            self.history,
            patience=settings.patience,
            max_length_growth=settings.max_length_growth,
            min_finished=settings.min_finished,
        )
        if trouble:
            raise ContractError(
                f"PPO has collapsed by update {self.done}: over the last {settings.patience} updates {trouble}. Lower "
                f"ppo.learning_rate (now {settings.learning_rate:g}) or raise ppo.kl_coef (now {settings.kl_coef:g})"
            )
        if settings.kl_controller == "adaptive":
            self.kl_coef = adapted_kl_coef(
                self.kl_coef,
                metrics["ppo/kl"],
                target=settings.kl_controller_target,
                horizon=settings.kl_controller_horizon,
                episodes=settings.episodes,
            )


_FIGURES = ("policy_loss", "value_loss", "clip_fraction", "value_clip_fraction", "approx_kl", "entropy", "gradient_norm")


def _rate_factor(update: int, settings: PPOSettings) -> float:
    """Return what the learning rates are multiplied by in an update, from 0."""
    rising = settings.warmup_ratio * settings.updates
    if update + 1 < rising:
        return (update + 1) / rising
    if settings.schedule == "constant":
        return 1.0
    return (settings.updates - update) / (settings.updates - max(0.0, rising - 1))


def _explained_variance(value: Tensor, returns: Tensor) -> dict[str, float]:
    """Return 1 - Var(R - V) / Var(R): 1 for a perfect critic, 0 for one that knows the mean; none without variance."""
    spread = returns.var(correction=0)
    if not spread > 1e-12:
        return {}
    return {"ppo/explained_variance": (1 - (returns - value).var(correction=0) / spread).item()}


def _errors(asked: Sequence[int], rewards: Rewards) -> dict[str, float]:
    """Return standard errors of the mean reward, and of gold; none where one question was asked, which has no spread."""
    if len(set(asked)) < 2:
        return {}
    found = {"ppo/reward_error": clustered_error(rewards.values, asked)}
    return found | ({"ppo/gold_error": clustered_error(rewards.parts["gold"], asked)} if "gold" in rewards.parts else {})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
