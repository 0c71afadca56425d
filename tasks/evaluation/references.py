"""Held-out figures that need no checkable answer: how likely a model finds reference completions, and which of two it prefers."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.encoding import prompt_ids, response_ids
from models.endings import taught_end
from models.load import prompt_text
from models.logprobs import score_responses
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
    """Return {nats, tokens} of each question's reference completion, end included; None without one, or where it does not fit.

    Args:
        network: the model, in evaluation mode.
        reader: its tokenizer.
        questions: held out.
        prompts: what the model reads before each completion.
        context: tokens of prompt and completion together.
        batch_size: sequences a forward pass, at most.
    """
    heads = prompt_ids(reader, prompts)
    ends = [taught_end(reader, one.prompt, prompt) for one, prompt in zip(questions, prompts, strict=True)]
    tails = response_ids(reader, prompts, [one.reference or "" for one in questions], ends=ends)
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

    An end is counted behind what ended by itself alone.

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
    ends = [taught_end(reader, pair.prompt, prompt) for pair, prompt in zip(pairs, prompts, strict=True)]
    rewards = []
    for side in ("chosen", "rejected"):
        ended = [getattr(pair, f"{side}_finished") is not False for pair in pairs]
        texts = [getattr(pair, side) for pair in pairs]
        behind = [end if done else None for end, done in zip(ends, ended, strict=True)]
        how: dict[str, Any] = {
            "prompts": prompts,
            "responses": response_ids(reader, prompts, texts, ends=behind),
            "temperature": 1.0,
            "batch_size": settings.batch_size,
        }
        rewards.append(score_responses(subject, reader, **how) - score_responses(reference, reader, **how))
    of_prompt: dict[str, list[float]] = {}
    for prompt, margin in zip(prompts, (rewards[0] - rewards[1]).tolist(), strict=True):
        of_prompt.setdefault(prompt, []).append(0.5 if margin == 0 else float(margin > 0))
    return clustered_proportion([sum(hits) / len(hits) for hits in of_prompt.values()])
