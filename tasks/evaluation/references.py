"""Held-out figures that need no checkable answer: how likely a model finds reference completions, and which of two it prefers."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.load import prompt_text
from models.logprobs import response_ids, score_responses
from posttrain.prompts import plain
from posttrain.records import Preference, Question
from posttrain.settings.evaluation import EvaluateSettings
from posttrain.statistics.intervals import Interval, clustered_proportion
from tasks.workspace.jsonl import has_rows, read_records

PAIRS = "held_out_preferences.jsonl"


def reference_losses(
    network: PreTrainedModel,
    reader: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    prompts: Sequence[str],
    *,
    context: int,
    batch_size: int,
) -> list[dict[str, float] | None]:
    """Return {nats, tokens} of each question's reference completion, EOS included; None without one, or where it does not fit.

    Args:
        network: the model, in evaluation mode.
        reader: its tokenizer.
        questions: held out.
        prompts: what the model reads before each completion.
        context: tokens of prompt and completion together.
        batch_size: sequences a forward pass, at most.
    """
    heads = reader(prompts, return_attention_mask=False, return_token_type_ids=False)["input_ids"]
    tails = response_ids(reader, [one.reference or "" for one in questions])
    fitting = [
        place
        for place, one in enumerate(questions)
        if one.reference is not None and len(heads[place]) + len(tails[place]) <= context
    ]
    scores = score_responses(
        network,
        reader,
        [prompts[place] for place in fitting],
        [tails[place] for place in fitting],
        temperature=1.0,
        batch_size=batch_size,
    )
    told: list[dict[str, float] | None] = [None] * len(questions)
    for place, score in zip(fitting, scores.tolist(), strict=True):
        told[place] = {"nats": -score, "tokens": len(tails[place])}
    return told


def preference_accuracy(
    subject: PreTrainedModel,
    reference: PreTrainedModel,
    reader: PreTrainedTokenizerBase,
    data: Path,
    settings: EvaluateSettings,
    *,
    only_of: Collection[str] | None = None,
) -> Interval | None:
    """Return how often the implicit reward β(log p - log q) prefers what the annotator chose, on held-out pairs; ties are half.

    Eq. 5 of arXiv:2305.18290; β and the partition function cancel in the comparison. Pairs of one prompt are one draw. None where
    fewer than two prompts have a pair.

    Args:
        subject: p, the policy.
        reference: q, the model that it was trained from.
        reader: of both.
        data: the validated dataset.
        settings: how many pairs, at most (`max_questions`).
        only_of: the prompts whose pairs count, as `posttrain.prompts.plain` writes them; None: all.
    """
    pairs = list(read_records(data / PAIRS, Preference)) if has_rows(data / PAIRS) else []
    pairs = [pair for pair in pairs if only_of is None or plain(pair.prompt) in only_of]
    pairs = pairs[: settings.max_questions] if settings.max_questions else pairs
    prompts = [prompt_text(reader, pair.prompt) for pair in pairs]
    if len(set(prompts)) < 2:
        return None
    rewards = []
    for texts in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs]):
        how: dict[str, Any] = {
            "prompts": prompts,
            "responses": response_ids(reader, texts),
            "temperature": 1.0,
            "batch_size": settings.batch_size,
        }
        rewards.append(score_responses(subject, reader, **how) - score_responses(reference, reader, **how))
    of_prompt: dict[str, list[float]] = {}
    for prompt, margin in zip(prompts, (rewards[0] - rewards[1]).tolist(), strict=True):
        of_prompt.setdefault(prompt, []).append(0.5 if margin == 0 else float(margin > 0))
    return clustered_proportion([sum(hits) / len(hits) for hits in of_prompt.values()])
