"""Reward functions made of what `ppo.reward` names: graders, models, Python functions; with a time limit."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from models.load import device, load_tokenizer
from posttrain.errors import ContractError, RequestError
from posttrain.graders import Grader, Sample, build_grader
from posttrain.rewards import RewardFunction, Rewards, named, rewarded
from tasks.reward_sources import RewardSource, imported

BATCH = 64
"""Texts that a reward model reads at once."""


def reward_function(source: RewardSource) -> RewardFunction:
    """Return what scores responses.

    Raises:
        RequestError: it cannot be loaded.
    """
    if source.kind == "grader":
        return graded(build_grader(source.spec))
    if source.kind == "model":
        return scored_by(*score_model(source))
    return imported(source)


def graded(grader: Grader) -> RewardFunction:
    """Return a grader as a reward: parts `right` and `partial` are shares of responses, reasons say what was compared."""

    def reward(prompts: Sequence[str], completions: Sequence[str], records: Sequence[Mapping[str, Any]]) -> Rewards:
        grades = grader.grade([Sample(completion, record) for completion, record in zip(completions, records, strict=True)])
        return Rewards(
            values=[grade.score for grade in grades],
            parts={
                "right": [float(grade.is_right) for grade in grades],
                "partial": [float(grade.is_partial) for grade in grades],
                **{name: [grade.parts[name] for grade in grades] for name in (grades[0].parts if grades else ())},
            },
            reasons=[grade.reason for grade in grades],
        )

    return reward


def score_model(source: RewardSource) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a sequence-classification model with one score, and its tokenizer.

    Raises:
        RequestError: it cannot be loaded.
    """
    try:
        model = AutoModelForSequenceClassification.from_pretrained(source.path, use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RequestError(f"ppo.reward={source.name}: it cannot be loaded: {str(error).strip().partition(chr(10))[0]}") from None
    tokenizer = load_tokenizer(source.path)
    tokenizer.padding_side = "right"
    model.config.pad_token_id = tokenizer.pad_token_id
    return model.to(device()).eval(), tokenizer


def scored_by(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> RewardFunction:
    """Return a model's score of prompt, completion and EOS as a reward."""

    @torch.inference_mode()
    def reward(prompts: Sequence[str], completions: Sequence[str], records: Sequence[Mapping[str, Any]]) -> Rewards:
        texts = [prompt + completion + tokenizer.eos_token for prompt, completion in zip(prompts, completions, strict=True)]
        values: list[float] = []
        for start in range(0, len(texts), BATCH):
            batch = tokenizer(texts[start : start + BATCH], return_tensors="pt", padding=True, return_token_type_ids=False)
            values += model(**batch.to(model.device)).logits[:, 0].float().tolist()
        return Rewards(values=values)

    return reward


def within(
    seconds: float,
    function: RewardFunction,
    name: str,
    prompts: Sequence[str],
    completions: Sequence[str],
    records: Sequence[Mapping[str, Any]],
) -> Rewards:
    """Return the rewards of a batch, or stop the run where they take longer than `seconds`.

    The reward runs in a thread of its own, which is left behind when it hangs: Python cannot end one, but the process can go.

    Raises:
        ContractError: it takes too long, raises, or returns what is no reward.
    """
    told: list[Rewards | BaseException] = []

    def work() -> None:
        try:
            told.append(rewarded(function, name, prompts, completions, records))
        except BaseException as error:
            told.append(error)

    thread = threading.Thread(target=work, name=f"reward {name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if not told:
        raise ContractError(
            f"the reward {name} took longer than {seconds:g} s (ppo.reward_seconds) for {len(records)} responses, the first to "
            f"{named(records[0])}. Mend it, or raise ppo.reward_seconds"
        )
    if isinstance(told[0], BaseException):
        raise told[0]
    return told[0]
