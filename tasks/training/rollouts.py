"""The questions of a stage that samples as it trains: how the policy answers them, and what its answers are worth."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from models.checkpointing import with_cache
from models.encoding import prompt_ids, response_texts
from models.endings import end_ids
from models.engines import ENGINES
from models.load import prompt_text
from posttrain.errors import DataError
from posttrain.graders import Sample, build_grader
from posttrain.records import Question
from posttrain.rl.rewards import Rewards
from posttrain.rl.rollout import Sampled
from posttrain.settings.ppo import PPOSettings
from tasks.rewards.interface import RewardSource
from tasks.rewards.load import within


class Asker:
    """The questions, how the policy answers them, and what answers are worth.

    Args:
        questions: all there are; those without room for a response, or without an answer that a grader needs, are not asked.
        tokenizer: of the policy.
        reward: what scores.
        settings: of the stage.
        context: tokens of prompt and response together, at most.
        left_out: ids of questions that are not asked.

    Raises:
        DataError: no question is left.
    """

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
        self._engine = ENGINES[settings.engine](settings)
        self._reward = reward.load()
        self._gold = build_grader("answer")
        self.name = reward.name
        # a judge has limits of its own (judge.timeout, judge.retries), which a slow server may need all of
        self._seconds = None if reward.has_own_limits else settings.reward_seconds
        found = [one for one in questions if one.answers or not reward.is_checkable_by_program]
        found = [one for one in found if one.id not in left_out]
        texts = [prompt_text(tokenizer, one.prompt) for one in found]
        ids = prompt_ids(tokenizer, texts)
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

    def sample(self, policy: Any, asked: Sequence[int], chance: torch.Tensor) -> tuple[list[list[int]], Sampled]:
        """Return the prompts of some questions, as token ids, and a response of the policy to each.

        Args:
            policy: a causal language model, whole.
            asked: numbers of questions.
            chance: (questions, longest), decides each token (`posttrain.rl.rollout.uniforms`).
        """
        prompts = [self._ids[question] for question in asked]
        with with_cache(policy):
            drawn = self._engine(
                policy,
                prompts,
                chance,
                temperature=self._settings.temperature,
                end_ids=end_ids(self.tokenizer),
                pad_id=self.tokenizer.pad_token_id,
                context=self._context,
                batch_size=self._settings.sample_batch_size,
            )
        return prompts, drawn

    def texts(self, responses: Sequence[Sequence[int]]) -> list[str]:
        """Return responses as texts, without the token that ended them."""
        ends = end_ids(self.tokenizer)
        return response_texts(self.tokenizer, [row[:-1] if row and row[-1] in ends else row for row in responses])

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
