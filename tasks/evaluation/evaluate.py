"""The stage `evaluate`: one model on the held-out questions, beside the SFT model of the same pipeline."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.divergence import response_kl
from models.encoding import prompt_ids
from models.generate import Response, generate
from models.load import device, load_model, load_tokenizer
from models.shots import prompt_after, shots_of
from posttrain.evaluation.figures import figures
from posttrain.graders import Grader, Sample, build_grader
from posttrain.prompts import plain
from posttrain.records import Question
from posttrain.settings.evaluation import EvaluateSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.section import tokens_of
from posttrain.statistics.figures import flattened
from tasks.evaluation.references import preference_accuracy, reference_losses
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import PROBLEMS, read_rows, required, write_rows
from tasks.workspace.progress import bar
from tasks.workspace.quiet import quiet_libraries
from tasks.workspace.weights import source_of

PART = "ids.json"
"""Of the stage `part`: the ids of the questions to answer."""


def evaluate(
    out: Path,
    log: Log,
    *,
    title: str,
    data: Path,
    part: Path | None,
    subject: Path,
    reference: Path,
    reference_results: Path | None,
    is_policy: bool,
    tokenizer: Path,
    model: ModelSettings,
    settings: EvaluateSettings,
    context: int,
    seed: int,
) -> Outcome:
    """Write `problems.jsonl`, a row a held-out question, and return the figures.

    Args:
        out: where to write.
        log: unused; evaluation has no curve.
        title: of the progress bar.
        data: the validated dataset.
        part: artifact of the stage `part`, where not all held-out questions are asked.
        subject: artifact of the model under test.
        reference: artifact of the model that the method started from.
        reference_results: that model's own evaluation; None where it is the one under test.
        is_policy: it was trained from the reference, so that log p - log q is its implicit reward.
        tokenizer: folder of the tokenizer.
        model: how to load it.
        settings: how many questions, how many samples.
        context: tokens of prompt and response together.
        seed: of the sampling.
    """
    questions = required(data, "held_out", Question, why="models are evaluated on")
    if part:
        chosen = set(json.loads((part / PART).read_text(encoding="utf-8")))
        questions = [one for one in questions if one.id in chosen]
    asked_of = {plain(one.prompt) for one in questions} if part else None
    questions = questions[: settings.max_questions] if settings.max_questions else questions
    reader = load_tokenizer(tokenizer)
    network = _load(subject, model)
    shots = shots_of(subject)
    prompts = [prompt_after(reader, shots, question.prompt) for question in questions]
    started = time.perf_counter()
    with quiet_libraries(), bar(title, 2 * len(questions)) as advance:
        how: dict[str, Any] = {
            "max_new_tokens": tokens_of(settings.max_new_tokens),
            "context": context,
            "batch_size": settings.batch_size,
            "seed": seed,
            "names": [question.id for question in questions],
            "advance": lambda done: advance(done, ""),
        }
        greedy = generate(network, reader, prompts, samples=1, temperature=0.0, **how)
        sampled = generate(network, reader, prompts, samples=settings.samples, temperature=settings.temperature, **how)
    grader = build_grader("answer")
    losses = reference_losses(network, reader, questions, prompts, context=context, batch_size=settings.batch_size)
    rows = [
        {**_row(question, first[0], more, grader), "reference": loss}
        for question, first, more, loss in zip(questions, greedy, sampled, losses, strict=True)
    ]
    write_rows(out / PROBLEMS, rows)
    if reference_results is None:
        metrics = figures(rows, None)
    else:
        start = _load(reference, model)
        is_same_prompt = shots == shots_of(reference)
        kl = _kl(network, start, reader, prompts, sampled, settings) if is_same_prompt else None
        metrics = figures(rows, list(read_rows(reference_results / PROBLEMS)), kl=kl)
        accuracy = preference_accuracy(network, start, reader, data, settings, only_of=asked_of) if is_policy else None
        metrics |= flattened({"preference_accuracy": accuracy})
    tokens = sum(one.tokens for responses in (*greedy, *sampled) for one in responses)
    return Outcome(metrics=metrics, costs={"evaluated_tokens": tokens, "evaluate_seconds": time.perf_counter() - started})


def _load(artifact: Path, model: ModelSettings) -> PreTrainedModel:
    source, revision = source_of(artifact)
    return load_model(source, model, on=device(), revision=revision)


def _row(question: Question, greedy: Response, sampled: Sequence[Response], grader: Grader) -> dict[str, Any]:
    return {
        "id": question.id,
        "prompt": question.model_dump(mode="json")["prompt"],
        "answers": list(question.answers),
        "greedy": _graded([greedy], question, grader)[0],
        "sampled": _graded(sampled, question, grader),
    }


def _graded(responses: Sequence[Response], question: Question, grader: Grader) -> list[dict[str, Any]]:
    rows = [{"text": one.text, "tokens": one.tokens, "is_finished": one.is_finished} for one in responses]
    if not question.answers:
        return rows
    grades = grader.grade([Sample(one.text, {"id": question.id, "answers": question.answers}) for one in responses])
    return [row | {"extracted": told.extracted, "is_right": told.is_right} for row, told in zip(rows, grades, strict=True)]


def _kl(
    subject: PreTrainedModel,
    reference: PreTrainedModel,
    reader: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    sampled: Sequence[Sequence[Response]],
    settings: EvaluateSettings,
) -> list[list[float]]:
    """Return each sample's estimate of KL(p ‖ q), (questions, samples), nats: p the model that drew it, q the reference."""
    flat = [(prompt, one) for prompt, responses in zip(prompts, sampled, strict=True) for one in responses]
    heads = prompt_ids(reader, [prompt for prompt, _ in flat])
    of_response = response_kl(
        subject,
        reference,
        heads,
        [one.ids for _, one in flat],
        temperature=settings.temperature,
        batch_size=settings.batch_size,
    )
    return of_response.reshape(len(prompts), settings.samples).tolist()
