"""PPO's loop as a stage, whatever estimates its advantages: questions, a reward of whole responses, checkpoints to go on from."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from models.checkpointing import let_checkpoint
from models.fingerprint import must_move
from models.load import device, dtype, load_model, load_tokenizer
from models.lora import adapted, merged
from models.policy import PolicyAndCritic, policy_and_critic
from models.policy_layout import ReplicatedPolicy, ShardedPolicy, laid_out
from models.reward import centre_of
from models.sharding import home
from models.size import size_of
from posttrain.compute import Compute, Size, learning, reading
from posttrain.errors import ContractError, RequestError
from posttrain.feedback.labels import sampled_questions
from posttrain.records import Question
from posttrain.rl.contracts import Signal
from posttrain.rl.estimators import Estimator
from posttrain.rl.ppo import Update, ppo
from posttrain.rl.rewards import Rewards
from posttrain.rl.rollout import Sampled
from posttrain.settings.model import ModelSettings
from posttrain.settings.ppo import PPOSettings
from tasks.rewards.interface import RewardSource
from tasks.training.heap import return_freed_of
from tasks.training.rollouts import Asker
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.checkpoints import Checkpoints
from tasks.workspace.jsonl import required, write_rows
from tasks.workspace.progress import bar
from tasks.workspace.quiet import quiet_libraries
from tasks.workspace.weights import save, source_of

SAMPLES = "samples.jsonl"
NO_SIGNAL = (
    "Raise ppo.learning_rate, or see whether ppo/groups_without_signal is 1: then all responses to a question have one reward, "
    "so raise num_generations, take another reward, or a model that is sometimes right"
)
"""What to do where an estimator that compares responses to one question has learnt nothing."""
SHOWN = 8
"""Responses in each table of samples."""


def train_policy(
    out: Path,
    log: Log,
    *,
    data: Path,
    start: Path,
    tokenizer: Path,
    model: ModelSettings,
    settings: PPOSettings,
    estimator: Estimator,
    reward: RewardSource,
    checkpoints: Path,
    context: int,
    seed: int,
    question_share: float = 0.0,
    excluded_questions: Path | None = None,
) -> Outcome:
    """Write `model/`, the model in `start` trained in PPO's loop, which is its own reference; and `samples.jsonl`.

    Args:
        out: where to write.
        log: is told each update's figures.
        data: the validated dataset; its questions are asked, nothing held out is read.
        start: artifact of the model to start from.
        tokenizer: folder.
        model: how to load it.
        settings: of the loop.
        estimator: of the advantages that are learnt from.
        reward: what scores.
        checkpoints: folder of this stage key's checkpoints.
        context: tokens of prompt and response together.
        seed: of orders and samples.
        question_share: share of the questions that are kept for sampling and labels, and not asked.
        excluded_questions: JSON list of ids of questions that are left out: those that the reward model has learnt from.
    """
    # which questions are asked: none that labels are made for, none that the reward model has learnt from
    learnt = frozenset(json.loads(excluded_questions.read_text(encoding="utf-8"))) if excluded_questions else frozenset()
    known = required(data, "questions", Question, why="PPO asks")
    kept_for_labels = frozenset(sampled_questions([one.id for one in known], share=question_share, seed=seed))
    asker = Asker(known, load_tokenizer(tokenizer), reward, settings, context=context, left_out=learnt | kept_for_labels)
    # train, from the last checkpoint if there is one
    source, revision = source_of(start)
    kept = Checkpoints(checkpoints)
    with quiet_libraries(), bar(estimator.name, settings.updates) as advance:
        policy = load_model(source, model, on=home(model), revision=revision, train=True)
        network = _network(policy, model, settings, reward, has_critic=estimator.has_critic, seed=seed)
        state = kept.latest()
        run = _Run(log, advance, asker, kept, settings, state, sizes=_Sizes.of(network))
        layout = laid_out(network, model)
        started = time.perf_counter()
        updates = _updates(
            network, layout, asker, estimator, settings, model, seed=seed, state=state and state["ppo"], reward=reward
        )
        with must_move(network.policy, stage=estimator.name, remedy="" if estimator.has_critic else NO_SIGNAL):
            run.watch(updates)
        seconds = time.perf_counter() - started
        with layout.policy() as policy:
            save(merged(policy.eval()), asker.tokenizer, out / "model")
    write_rows(out / SAMPLES, run.samples)
    asked = {"questions": len(asker.questions), "questions_kept_for_labels": len(kept_for_labels)}
    return Outcome(metrics=run.summary() | asked, costs=run.costs(seconds))


def _updates(
    network: PolicyAndCritic,
    layout: ReplicatedPolicy | ShardedPolicy,
    asker: Asker,
    estimator: Estimator,
    settings: PPOSettings,
    model: ModelSettings,
    *,
    seed: int,
    state: Mapping[str, Any] | None,
    reward: RewardSource,
) -> Iterator[Update]:
    def sample(asked: Sequence[int], chance: Tensor) -> tuple[list[list[int]], Sampled]:
        with layout.policy() as policy:
            return asker.sample(policy, asked, chance)

    def score(asked: Sequence[int], responses: Sequence[Sequence[int]]) -> Rewards:
        rewards = asker.score(asked, responses)
        return_freed_of(network.policy)
        return rewards

    updates = ppo(
        network,
        reference=layout.reference(temperature=settings.temperature),
        sample=sample,
        score=score,
        questions=len(asker.questions),
        pad_id=asker.tokenizer.pad_token_id,
        settings=settings,
        accelerator=_accelerator(model),
        seed=seed,
        estimator=estimator,
        state=state,
        fits_values=estimator.has_critic and _starts_as_reward_model(settings, reward),
        layout=layout,
    )
    for update in updates:
        yield update
        return_freed_of(network.policy)


@dataclass(frozen=True)
class _Sizes:
    """What the networks of a run weigh.

    Attributes:
        policy: with the head where the critic is no more than that; the reference is as large.
        critic: a critic of its own, with its head; nothing where there is none.
        has_values: whether there is a critic, of its own or not.
    """

    policy: Size
    critic: Size
    has_values: bool

    @classmethod
    def of(cls, network: PolicyAndCritic) -> "_Sizes":
        head = [] if network.value_head is None else [network.value_head]
        if network.critic is None:
            return cls(size_of(network.policy, *head), Size(), has_values=bool(head))
        return cls(size_of(network.policy), size_of(network.critic, *head), has_values=True)


def _accelerator(model: ModelSettings) -> Accelerator:
    return Accelerator(cpu=device().type == "cpu", mixed_precision="bf16" if dtype(model) == torch.bfloat16 else "no")


def _network(
    policy: Any, model: ModelSettings, settings: PPOSettings, reward: RewardSource, *, has_critic: bool, seed: int
) -> PolicyAndCritic:
    """Return policy and critic, if there is to be one, with adapters where LoRA is asked for."""

    def with_adapters(network: Any) -> Any:
        own_seed = 2 * seed + (network is not policy)
        return adapted(network, model, task="CAUSAL_LM" if network is policy else None, seed=own_seed)

    start = _critic_start(policy, settings, reward) if has_critic else None
    made = policy_and_critic(
        policy,
        critic=settings.critic if has_critic else "none",
        critic_start=start,
        critic_centre=0.0 if start is None else centre_of(start) + settings.reward_centre,
        adapters=with_adapters if model.lora_rank else None,
    )
    for part in filter(None, (made.policy, made.critic)):
        let_checkpoint(part, model)
    return made


def _starts_as_reward_model(settings: PPOSettings, reward: RewardSource) -> bool:
    return settings.critic == "separate" and settings.critic_from != "policy" and reward.is_reward_model


def _critic_start(policy: Any, settings: PPOSettings, reward: RewardSource) -> Any:
    """Return the reward model that a separate critic starts as, or None where that is the policy.

    Raises:
        RequestError: the reward model is asked for, and reads other tokens than the policy, or has another head.
    """
    if not _starts_as_reward_model(settings, reward):
        return None
    model = reward.networks()[0][0]
    ours, theirs = policy.config.get_text_config().vocab_size, model.config.get_text_config().vocab_size
    has_score = isinstance(getattr(model, "score", None), torch.nn.Linear)
    if ours == theirs and has_score:
        return model
    if settings.critic_from == "reward_model":
        reason = f"its vocabulary of {theirs} is not the policy's of {ours}" if has_score else "its head is no linear `score`"
        raise RequestError(f"ppo.critic_from=reward_model: {reason}. Say ppo.critic_from=policy")
    return None


class _Run:
    """What is kept of a run besides its weights: curves, samples, costs; part of every checkpoint."""

    def __init__(
        self,
        log: Log,
        advance: Callable[[int, str], None],
        asker: Asker,
        kept: Checkpoints,
        settings: PPOSettings,
        state: Mapping[str, Any] | None,
        *,
        sizes: _Sizes,
    ) -> None:
        self._sizes = sizes
        self._log, self._advance, self._asker, self._kept, self._settings = log, advance, asker, kept, settings
        before = state or {
            "curve": [],
            "samples": [],
            "tokens": {"generated": 0, "trained": 0, "critic": 0},
            "compute": (0, 0.0),
            "best": None,
            "seconds": 0.0,
            "signal": None,
        }
        self._curve: list[dict[str, float]] = list(before["curve"])
        self.samples: list[dict[str, Any]] = list(before["samples"])
        self.tokens: dict[str, int] = dict(before["tokens"])
        self.compute = Compute(*before["compute"])
        self._best: float | None = before["best"]
        self.seconds_before: float = before["seconds"]
        self._signal = Signal(patience=settings.patience, state=before["signal"])
        for step, figures in enumerate(self._curve, start=1):
            log(step, figures)
            advance(1, "")

    def watch(self, updates: Iterator[Update]) -> None:
        """Log each update and write checkpoints.

        Raises:
            ContractError: PPO's, with the place of the best checkpoint; or the reward tells no response from another.
        """
        started = time.perf_counter()
        try:
            for update in updates:
                self._note(update)
                if update.number % self._settings.checkpoint_every == 0 and update.number < self._settings.updates:
                    self._checkpoint(update, time.perf_counter() - started)
        except ContractError as error:
            best = self._kept.best()
            raise ContractError(
                f"{error}{f'. The best checkpoint by training reward is kept: {best}' if best else ''}"
            ) from error

    def _note(self, update: Update) -> None:
        figures = dict(update.metrics)
        self._curve.append(figures)
        self._log(update.number, figures)
        self._advance(1, f"reward {figures['ppo/reward']:.3f}  KL {figures['ppo/kl']:.3f}")
        self._count(update)
        if update.number % self._settings.samples_every == 0 or update.number in (1, self._settings.updates):
            self.samples += self._table(update)
        self._signal.see(update.asked, self._responses(update), update.rewards.values)
        if missing := self._signal.missing():
            raise ContractError(
                f"{self._asker.name} gives PPO no signal: {missing}. Look at the samples in MLflow, take another reward "
                "(ppo.reward), or a model that is sometimes right (METHOD=sft first, ppo.temperature, ppo.partial_credit)"
            )

    @staticmethod
    def _responses(update: Update) -> list[list[int]]:
        """Return the ids of an update's responses, without prompt and padding."""
        heads, lengths = update.episodes.prompt_length.tolist(), update.episodes.response_length.tolist()
        rows = update.episodes.ids.tolist()
        return [row[head : head + length] for row, head, length in zip(rows, heads, lengths, strict=True)]

    def _count(self, update: Update) -> None:
        """Add what an update took of every network: policy, critic, reference, and what rewards."""
        whole = int((update.episodes.prompt_length + update.episodes.response_length).sum())
        # an update may end early (`ppo.target_kl`), so that steps and not epochs tell how often its tokens were learnt from
        learnt = round(whole * update.metrics["ppo/steps"] * self._settings.mini_batch_size / self._settings.episodes)
        policy, critic = self._sizes.policy, self._sizes.critic
        has_own_critic = critic.weights > 0
        self.tokens["generated"] += int(update.episodes.response_length.sum())
        self.tokens["trained"] += learnt
        self.tokens["critic"] += learnt * has_own_critic
        # the policy reads all once more where its log-probabilities are computed again, or a critic on it gives values
        reads_again = update.recomputes or (self._sizes.has_values and not has_own_critic)
        for network, times in (
            (policy, 1 + reads_again),  # as it samples
            (policy, 1),  # the reference is as large
            (critic, int(has_own_critic)),
        ):
            self.compute = self.compute.plus(reading(network, times * whole))
        for network in (policy, critic):
            self.compute = self.compute.plus(learning(network, learnt))
        self.compute = self.compute.plus(update.rewards.compute)

    def _table(self, update: Update) -> list[dict[str, Any]]:
        texts = self._asker.texts(self._responses(update)[:SHOWN])
        reasons = list(update.rewards.reasons) or [""] * len(update.asked)
        return [
            {
                "update": update.number,
                "prompt": self._asker.prompts[question],
                "completion": text,
                "reward": reward,
                "finished": finished,
                "why": reason,
            }
            for question, text, reward, finished, reason in zip(
                update.asked, texts, update.rewards.values, update.episodes.is_finished.tolist(), reasons, strict=False
            )
        ]

    def _checkpoint(self, update: Update, seconds: float) -> None:
        is_best = self._best is None or update.objective > self._best
        self._best = update.objective if is_best else self._best
        self._kept.save(
            update.number,
            {
                "ppo": update.state(),
                "curve": self._curve,
                "samples": self.samples,
                "tokens": self.tokens,
                "compute": (self.compute.forward_tokens, self.compute.flops),
                "best": self._best,
                "seconds": self.seconds_before + seconds,
                "signal": self._signal.state(),
            },
            is_best=is_best,
        )

    def costs(self, seconds: float) -> dict[str, float]:
        """Return what the run took, where training took so many seconds since it was last resumed."""
        return {
            "train_seconds": seconds + self.seconds_before,
            "generated_tokens": self.tokens["generated"],
            "trained_tokens": self.tokens["trained"],
            "critic_tokens": self.tokens["critic"],
            **self.compute.as_costs(),
        }

    def summary(self) -> dict[str, float]:
        """Return the last updates' mean figures, without the prefix."""
        last = self._curve[-self._settings.patience :]
        known = {name: [row[name] for row in last if name in row] for name in dict.fromkeys(name for row in last for name in row)}
        return {name.removeprefix("ppo/"): sum(values) / len(values) for name, values in known.items()}
