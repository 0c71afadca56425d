"""Policy optimisation on the reward of whole responses, as a generator that yields one step an update.

Schulman et al. 2017 (arXiv:1707.06347), as language models are trained with it (arXiv:1909.08593, 2203.02155): sample, score,
subtract the KL from a reference, estimate advantages, then a few epochs of mini-batches. How to sample, what to reward, what the
network is and how advantages are estimated (`posttrain.rl.estimators`; PPO's own if nothing is said) are handed in; nothing here
knows a file, a clock or a logger. Several processes share an update through Accelerate: each samples and scores its part, all
see the whole, and each takes its share of every mini-batch, so that the mathematics is that of one process with the joint batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from posttrain.errors import ContractError, RequestError
from posttrain.ops.losses import kl_k1
from posttrain.rl.advantages import fitted_line, rewards_to_go
from posttrain.rl.collector import Collector, ReferenceLogprobs, Sample, Score
from posttrain.rl.contracts import Health, check_kl, collapse, error_of_mean
from posttrain.rl.estimators import Estimator, GeneralisedAdvantage, Rollout
from posttrain.rl.layout import Layout, Replicated
from posttrain.rl.learner import Learner
from posttrain.rl.rewards import Rewards, RunningScale, adapted_kl_coef, eos_shaped, token_rewards
from posttrain.rl.rollout import Episodes
from posttrain.settings.ppo import PPOSettings
from posttrain.statistics.clusters import clustered_error


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
        state: returns what a checkpoint must hold for `ppo` to go on from here; every process must ask for it.
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
    estimator: Estimator | None = None,
    state: Mapping[str, Any] | None = None,
    fits_values: bool = False,
    layout: Layout | None = None,
) -> Iterator[Update]:
    """Train `network` and yield each update.

    Args:
        network: a `posttrain.rl.network.Network`; its `parameter_groups()` gives the trained weights of "policy" and,
            where the estimator has one, of "critic".
        reference: the model that the KL is taken from; without gradient.
        sample: draws responses from the policy as it is.
        score: rewards them.
        questions: how many there are to ask.
        pad_id: any id of the vocabulary.
        settings: all of them are explained there.
        accelerator: where and in how many processes.
        seed: of orders and samples.
        estimator: of advantages; None: PPO's, from the critic's values (`posttrain.rl.estimators.GeneralisedAdvantage`).
        state: of a checkpoint (`Update.state()`), to go on from; the network's weights are in it.
        fits_values: before the first step the critic's values are laid on what was returned, by the least-squares line: for a
            critic that starts as a reward model, which was made for whole responses and in another unit.
        layout: how processes hold the weights; None: each has all of them.

    Raises:
        ContractError: training and sampling disagree, a KL is not one, too few responses end, or the run has collapsed.
        RequestError: the processes cannot share a mini-batch evenly, or an update is no whole number of groups.
    """
    trainer = _Trainer(
        network=network,
        reference=reference,
        estimator=estimator or GeneralisedAdvantage(settings),
        settings=settings,
        accelerator=accelerator,
        pad_id=pad_id,
        questions=questions,
        seed=seed,
        fits_values=fits_values,
        layout=layout or Replicated(),
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
        estimator: Estimator,
        settings: PPOSettings,
        accelerator: Accelerator,
        pad_id: int,
        questions: int,
        seed: int,
        fits_values: bool,
        layout: Layout,
    ) -> None:
        if settings.episodes % estimator.num_generations:
            raise RequestError(
                f"ppo.episodes must be a multiple of the {estimator.num_generations} responses to a prompt that "
                f"{estimator.name} compares, got {settings.episodes}"
            )
        self.module = network
        self.layout = layout
        self.learner = Learner(network, estimator=estimator, settings=settings, accelerator=accelerator, seed=seed, layout=layout)
        self.collector = Collector(
            network,
            has_critic=estimator.has_critic,
            reference=reference,
            settings=settings,
            accelerator=accelerator,
            pad_id=pad_id,
            questions=questions,
            num_generations=estimator.num_generations,
            corrected=estimator.surrogate.importance_sampling_level,
            seed=seed,
        )
        self.estimator = estimator
        self.settings = settings
        self.fits_values = fits_values
        self.done = 0
        self.kl_coef = estimator.surrogate.kl_coef
        self.scale = RunningScale()
        self.history: list[Health] = []
        self.objectives: list[float] = []

    # ---- checkpoints

    def state(self) -> dict[str, Any]:
        """Everything that the next update depends on; what chance decides is derived from the seed (`posttrain.rl.rollout`).

        All processes must ask for it; where each holds a part of the weights, only the first one gets them.
        """
        return {
            "done": self.done,
            "network": self.layout.kept(
                {name: weight for name, weight in self.module.state_dict().items() if name in self._trained()}
            ),
            "optimiser": self.layout.kept(self.learner.optimiser.state_dict()),
            "kl_coef": self.kl_coef,
            "scale": [self.scale.count, self.scale.mean, self.scale.squares],
            "history": [[getattr(one, field.name) for field in fields(Health)] for one in self.history],
            "objectives": list(self.objectives),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        self.layout.load(self.module, self.learner.optimiser, weights=state["network"], steps=state["optimiser"])
        self.done = state["done"]
        self.kl_coef = state["kl_coef"]
        self.scale = RunningScale(*state["scale"])
        self.history = [Health(*one) for one in state["history"]]
        self.objectives = list(state["objectives"])

    def _trained(self) -> set[str]:
        return {name for name, weight in self.module.named_parameters(remove_duplicate=False) if weight.requires_grad}

    # ---- one update

    def update(self, sample: Sample, score: Score) -> Update:
        # sample, score, and read the responses by policy, reference and critic
        asked, episodes, rewards = self.collector.collect(self.done, sample, score)
        kl = kl_k1(episodes.logprob, episodes.reference_logprob)
        self._check(episodes, kl)
        # what each token earns: the shaped score on the last one, less the KL where it is in the reward
        shaped = self._shaped(episodes)
        reward = token_rewards(shaped, episodes.response_length, longest=episodes.logprob.shape[1])
        if self.estimator.surrogate.kl_in == "reward":
            reward = reward - self.kl_coef * kl
        # how much better each token turned out than expected
        if self.fits_values and not self.done:
            episodes = self._with_values_laid_on(reward, episodes)
        estimate = self.estimator.estimate(
            Rollout(
                score=shaped,
                reward=reward,
                value=episodes.value,
                is_response=episodes.is_response,
                num_generations=self.estimator.num_generations,
            )
        )
        # train; parts of the reward come first, so that no part's name hides a figure
        metrics = {f"ppo/{name}": _mean(values) for name, values in rewards.parts.items()}
        metrics |= self.learner.learn(self.done, episodes, estimate, kl_coef=self.kl_coef)
        metrics |= {f"ppo/{name}": value for name, value in estimate.metrics.items()}
        metrics |= {"ppo/reward_shaped": shaped.mean().item()}
        metrics |= self._watched(episodes, kl) | _errors(asked, rewards)
        self._conclude(metrics, episodes)
        return Update(
            number=self.done,
            metrics=metrics,
            asked=asked,
            episodes=episodes,
            rewards=rewards,
            recomputes=self.collector.recomputes,
            objective=_mean(self.objectives[-self.settings.patience :]),
            state=self.state,
        )

    def _with_values_laid_on(self, reward: Tensor, episodes: Episodes) -> Episodes:
        """Lay the critic's values on what was returned, by the least-squares line, and return the episodes with them."""
        mask = episodes.is_response
        to_go = rewards_to_go(reward, gamma=self.settings.gamma)
        gain, offset = fitted_line(episodes.value[mask], to_go[mask])
        self.module.rescale_values(gain, offset)  # type: ignore[operator]
        return replace(episodes, value=(gain * episodes.value + offset).masked_fill(~mask, 0.0))

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

    # ---- what is told of an update

    def _watched(self, episodes: Episodes, kl: Tensor) -> dict[str, float]:
        of_responses = kl.sum(dim=1).mean().item()
        return {
            **{f"ppo/{name}": value for name, value in self.collector.metrics.items()},
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
                reward_error=error_of_mean(episodes.score, num_generations=self.collector.num_generations),
            )
        )
        trouble = collapse(
            self.history,
            patience=settings.patience,
            max_length_growth=settings.max_length_growth,
            min_finished=settings.min_finished,
        )
        if trouble:
            name, kl_coef = self.estimator.name, self.estimator.surrogate.kl_coef
            raise ContractError(
                f"{name.upper()} has collapsed by update {self.done}: over the last {settings.patience} updates {trouble}. Lower "
                f"ppo.learning_rate (now {settings.learning_rate:g}) or raise {name}.kl_coef (now {kl_coef:g})"
            )
        if settings.kl_controller == "adaptive":
            self.kl_coef = adapted_kl_coef(
                self.kl_coef,
                metrics["ppo/kl"],
                target=settings.kl_controller_target,
                horizon=settings.kl_controller_horizon,
                episodes=settings.episodes,
            )


def _errors(asked: Sequence[int], rewards: Rewards) -> dict[str, float]:
    """Return standard errors of the mean reward, and of gold; none where one question was asked, which has no spread."""
    if len(set(asked)) < 2:
        return {}
    found = {"ppo/reward_error": clustered_error(rewards.values, asked)}
    return found | ({"ppo/gold_error": clustered_error(rewards.parts["gold"], asked)} if "gold" in rewards.parts else {})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
