"""The stage `ppo`: our PPO on questions, with a reward of whole responses; interrupted, it goes on from its last checkpoint."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from peft import get_peft_model
from transformers import PreTrainedTokenizerBase

from models.fingerprint import must_move
from models.load import device, dtype, load_model, load_tokenizer, prompt_text
from models.policy import PolicyAndCritic, policy_and_critic, reference_logprobs
from models.reward import centre_of
from models.sampler import sample
from models.size import size_of
from posttrain.compute import Compute, Size, learning, reading
from posttrain.errors import ContractError, DataError, RequestError
from posttrain.feedback.labels import sampled_questions
from posttrain.graders import Sample, build_grader
from posttrain.records import Question
from posttrain.rl.contracts import Signal
from posttrain.rl.ppo import Update, ppo
from posttrain.rl.rewards import Rewards
from posttrain.rl.rollout import Sampled
from posttrain.settings.model import ModelSettings
from posttrain.settings.ppo import PPOSettings
from tasks.rewards.load import reward_members, within
from tasks.rewards.table import RewardSource
from tasks.training.trl import lora, merged, quiet_libraries
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.checkpoints import Checkpoints
from tasks.workspace.jsonl import required, write_rows
from tasks.workspace.progress import bar
from tasks.workspace.weights import save, source_of

SAMPLES = "samples.jsonl"
SHOWN = 8
"""Responses in each table of samples."""


def train(
    out: Path,
    log: Log,
    *,
    data: Path,
    start: Path,
    tokenizer: Path,
    model: ModelSettings,
    settings: PPOSettings,
    reward: RewardSource,
    checkpoints: Path,
    context: int,
    seed: int,
    question_share: float = 0.0,
    not_asked: Path | None = None,
) -> Outcome:
    """Write `model/`, the model in `start` trained with PPO, which is its own reference; and `samples.jsonl`.

    Args:
        out: where to write.
        log: is told each update's figures.
        data: the validated dataset; its questions are asked, nothing held out is read.
        start: artifact of the model to start from.
        tokenizer: folder.
        model: how to load it.
        settings: of PPO.
        reward: what scores.
        checkpoints: folder of this stage key's checkpoints.
        context: tokens of prompt and response together.
        seed: of orders and samples.
        question_share: share of the questions that are kept for sampling and labels, and not asked.
        not_asked: JSON list of ids of questions that are left out: those that the reward model has learnt from.
    """
    left_out = frozenset(json.loads(not_asked.read_text(encoding="utf-8"))) if not_asked else frozenset()
    known = required(data, "questions", Question, why="PPO asks")
    kept_for_labels = frozenset(sampled_questions([one.id for one in known], share=question_share, seed=seed))
    asker = _Asker(known, load_tokenizer(tokenizer), reward, settings, context=context, left_out=left_out | kept_for_labels)
    source, revision = source_of(start)
    kept = Checkpoints(checkpoints)
    with quiet_libraries(), bar("ppo", settings.updates) as advance:
        network = _network(load_model(source, model, on=device(), revision=revision, train=True), model, settings, reward)
        state = kept.latest()
        run = _Run(log, advance, asker, kept, settings, state, sizes=_sizes(network))
        started = time.perf_counter()
        updates = ppo(
            network,
            reference=reference_logprobs(network.policy, temperature=settings.temperature),
            sample=lambda asked, chance: asker.sample(network, asked, chance),
            score=asker.score,
            questions=len(asker.questions),
            pad_id=asker.tokenizer.pad_token_id,
            settings=settings,
            accelerator=_accelerator(model),
            seed=seed,
            state=None if state is None else state["ppo"],
            fits_values=_starts_as_reward_model(settings, reward),
        )
        with must_move(network.policy, stage="ppo"):
            run.watch(updates)
        seconds = time.perf_counter() - started
        save(merged(network.policy.eval()), asker.tokenizer, out / "model")
    write_rows(out / SAMPLES, run.samples)
    return Outcome(
        metrics={**run.summary(), "questions": len(asker.questions), "questions_kept_for_labels": len(kept_for_labels)},
        costs={
            "train_seconds": seconds + run.seconds_before,
            "generated_tokens": run.tokens["generated"],
            "trained_tokens": run.tokens["trained"],
            "critic_tokens": run.tokens["critic"],
            **run.compute.as_costs(),
        },
    )


def _sizes(network: PolicyAndCritic) -> tuple[Size, Size]:
    """Return the weights of the policy, with the head where the critic is no more than that, and of a critic of its own."""
    if network.critic is None:
        return size_of(network.policy, network.value_head), Size()
    return size_of(network.policy), size_of(network.critic, network.value_head)


def _accelerator(model: ModelSettings) -> Accelerator:
    is_half = device().type == "cuda" and dtype(model) == torch.bfloat16
    return Accelerator(cpu=device().type == "cpu", mixed_precision="bf16" if is_half else "no")


def _network(policy: Any, model: ModelSettings, settings: PPOSettings, reward: RewardSource) -> PolicyAndCritic:
    """Return policy and critic, with adapters where LoRA is asked for."""

    def adapted(network: Any) -> Any:
        adapters = lora(model, task="CAUSAL_LM" if network is policy else None)
        return network if adapters is None else get_peft_model(network, adapters)

    start = _critic_start(policy, settings, reward)
    return policy_and_critic(
        policy,
        critic=settings.critic,
        critic_start=start,
        critic_centre=0.0 if start is None else centre_of(start) + settings.reward_centre,
        adapters=adapted,
    )


def _starts_as_reward_model(settings: PPOSettings, reward: RewardSource) -> bool:
    return settings.critic == "separate" and settings.critic_from != "policy" and reward.kind == "model"


def _critic_start(policy: Any, settings: PPOSettings, reward: RewardSource) -> Any:
    """Return the reward model that a separate critic starts as, or None where that is the policy.

    Raises:
        RequestError: the reward model is asked for, and reads other tokens than the policy.
    """
    if not _starts_as_reward_model(settings, reward):
        return None
    model = reward_members(reward)[0][0]
    ours, theirs = policy.config.get_text_config().vocab_size, model.config.get_text_config().vocab_size
    if ours == theirs:
        return model
    if settings.critic_from == "reward_model":
        raise RequestError(
            f"ppo.critic_from=reward_model: its vocabulary of {theirs} is not the policy's of {ours}. Say ppo.critic_from=policy"
        )
    return None


class _Asker:
    """The questions, how the policy answers them, and what answers are worth."""

    def __init__(
        self,
        questions: Sequence[Question],
        tokenizer: PreTrainedTokenizerBase,
        reward: RewardSource,
        settings: PPOSettings,
        *,
        context: int,
        left_out: frozenset[str] = frozenset(),
    ) -> None:
        self.tokenizer = tokenizer
        self._settings = settings
        self._context = context
        self._reward = reward.load()
        self._gold = build_grader("answer")
        self.name = reward.name
        # a judge has limits of its own (judge.timeout, judge.retries), which a slow server may need all of
        self._seconds = None if reward.kind == "judge" else settings.reward_seconds
        found = [one for one in questions if one.answers or reward.kind != "grader"]
        found = [one for one in found if one.id not in left_out]
        texts = [prompt_text(tokenizer, one.prompt) for one in found]
        ids = tokenizer(texts, return_attention_mask=False, return_token_type_ids=False)["input_ids"] if texts else []
        fits = [place for place, row in enumerate(ids) if len(row) < context]
        if not fits:
            raise DataError(
                "PPO has nothing to ask: a question must leave room for a response, have an answer where a grader is the reward, "
                "and be none that is kept for labels or that the reward model has learnt from. Import more questions, raise "
                "model.context, or lower sample.question_share"
            )
        self.questions = [found[place] for place in fits]
        self.prompts = [texts[place] for place in fits]
        self._ids = [ids[place] for place in fits]
        self._records = [one.model_dump(mode="json") for one in self.questions]

    def sample(self, network: PolicyAndCritic, asked: Sequence[int], chance: torch.Tensor) -> tuple[list[list[int]], Sampled]:
        prompts = [self._ids[question] for question in asked]
        return prompts, sample(
            network.policy,
            prompts,
            chance,
            temperature=self._settings.temperature,
            eos_id=self.tokenizer.eos_token_id,
            pad_id=self.tokenizer.pad_token_id,
            context=self._context,
            batch_size=self._settings.sample_batch_size,
        )

    def texts(self, responses: Sequence[Sequence[int]]) -> list[str]:
        eos = self.tokenizer.eos_token_id
        rows = [row[:-1] if row and row[-1] == eos else row for row in responses]
        texts: list[str] = self.tokenizer.batch_decode(rows)
        return texts

    def score(self, asked: Sequence[int], responses: Sequence[Sequence[int]]) -> Rewards:
        """Return rewards; the part `gold` is whether the answer is right, where the question has one."""
        texts = self.texts(responses)
        rewards = within(
            self._seconds,
            self._reward,
            self.name,
            [self.prompts[question] for question in asked],
            texts,
            [self._records[question] for question in asked],
        )
        if not all(self.questions[question].answers for question in asked):
            return rewards
        samples = [Sample(text, self._records[question]) for text, question in zip(texts, asked, strict=True)]
        gold = [float(grade.is_right) for grade in self._gold.grade(samples)]
        return replace(rewards, parts={**rewards.parts, "gold": gold})


class _Run:
    """What is kept of a run besides its weights: curves, samples, costs; part of every checkpoint."""

    def __init__(
        self,
        log: Log,
        advance: Callable[[int, str], None],
        asker: _Asker,
        kept: Checkpoints,
        settings: PPOSettings,
        state: Mapping[str, Any] | None,
        *,
        sizes: tuple[Size, Size],
    ) -> None:
        self._policy, self._critic = sizes
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
        has_critic = self._critic.weights > 0
        self.tokens["generated"] += int(update.episodes.response_length.sum())
        self.tokens["trained"] += learnt
        self.tokens["critic"] += learnt * has_critic
        for network, times in (
            (
                self._policy,
                1 + (update.recomputes or not has_critic),
            ),  # samples; reads them again, a shared critic's value beside
            (self._policy, 1),  # the reference is as large
            (self._critic, int(has_critic)),
        ):
            self.compute = self.compute.plus(reading(network, times * whole))
        for network in (self._policy, self._critic):
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

    def summary(self) -> dict[str, float]:
        """Return the last updates' mean figures, without the prefix."""
        last = self._curve[-self._settings.patience :]
        known = {name: [row[name] for row in last if name in row] for name in dict.fromkeys(name for row in last for name in row)}
        return {name.removeprefix("ppo/"): sum(values) / len(values) for name, values in known.items()}
