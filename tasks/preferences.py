"""The stages `sample` and `label`: responses of the SFT model, and who prefers which of them."""

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from models.generate import generate
from models.load import device, load_model, load_tokenizer, prompt_text
from posttrain.annotators import Candidate, Quality, annotator_noise, informative_pairs, label
from posttrain.config import LabelSettings, ModelSettings, SampleSettings
from posttrain.errors import DataError
from posttrain.graders import Sample, build_grader
from posttrain.records import Preference, Question
from tasks.progress import bar
from tasks.records import read_rows, required, write_rows
from tasks.stage import Log, Outcome
from tasks.trainer import quiet_libraries
from tasks.weights import source_of


def sample(
    out: Path,
    log: Log,
    *,
    data: Path,
    start: Path,
    tokenizer: Path,
    model: ModelSettings,
    settings: SampleSettings,
    max_new_tokens: int,
    context: int,
    seed: int,
) -> Outcome:
    """Write `samples.jsonl`: for each training question, responses of the model in `start`."""
    questions = required(data, "questions", Question, why="responses are sampled for")
    reader = load_tokenizer(tokenizer)
    source, revision = source_of(start)
    started = time.perf_counter()
    with quiet_libraries(), bar("sample", len(questions)) as advance:
        responses = generate(
            load_model(source, model, on=device(), revision=revision),
            reader,
            [prompt_text(reader, question.prompt) for question in questions],
            samples=settings.per_prompt,
            temperature=settings.temperature,
            max_new_tokens=max_new_tokens,
            context=context,
            batch_size=settings.batch_size,
            seed=seed,
            advance=lambda prompts: advance(prompts, ""),
        )
    write_rows(
        out / "samples.jsonl",
        (
            {"question": question.model_dump(mode="json"), "responses": [[one.text, one.is_finished] for one in given]}
            for question, given in zip(questions, responses, strict=True)
        ),
    )
    tokens = sum(one.tokens for given in responses for one in given)
    return Outcome(
        metrics={
            "responses": sum(len(given) for given in responses),
            "response_tokens": tokens / max(1, sum(map(len, responses))),
        },
        costs={"generated_tokens": tokens, "train_seconds": time.perf_counter() - started},
    )


def label_simulated(out: Path, log: Log, *, samples: Path, settings: LabelSettings, seed: int) -> Outcome:
    """Write `preferences.jsonl`: pairs of samples labelled by simulated annotators, who know the right answers.

    Raises:
        DataError: the questions have no answers, or no prompt has both a better and a worse response.
    """
    noise = annotator_noise(annotators=settings.annotators, flip_rate=settings.flip_rate, seed=seed)
    random = Random(f"{seed}/labels")
    pairs = list(_pairs(samples, settings, random))
    if not pairs:
        raise DataError(
            "label: no prompt has both a better and a worse response, so there is nothing to prefer. "
            "Sample more (sample.per_prompt), or train the SFT model to answer some questions right"
        )
    random.shuffle(pairs)
    bought = pairs[: settings.budget] if settings.budget else pairs
    flipped = 0

    def rows() -> Iterator[dict[str, object]]:
        nonlocal flipped
        for number, (question, pair) in enumerate(bought):
            choice = label(pair, annotator=number % settings.annotators, noise=noise, random=random)
            flipped += choice.is_flipped
            yield Preference(
                id=f"{question.id}-{number}",
                family=question.family,
                prompt=question.prompt,
                chosen=choice.chosen,
                rejected=choice.rejected,
                annotator=choice.annotator,
            ).model_dump(mode="json")

    count = write_rows(out / "preferences.jsonl", rows())
    return Outcome(metrics={"pairs": count, "flipped_share": flipped / count}, costs={"labels": count})


def _pairs(samples: Path, settings: LabelSettings, random: Random) -> Iterator[tuple[Question, tuple[Candidate, Candidate]]]:
    grader = build_grader("answer")
    for row in read_rows(samples / "samples.jsonl"):
        question = Question.model_validate(row["question"])
        if not question.answers:
            raise DataError(
                f"question {question.id} has no answers, and simulated annotators prefer right responses to wrong ones. "
                'Use imported preferences instead: SET="label.source=dataset"'
            )
        grades = grader.grade([Sample(text, {"id": question.id, "answers": question.answers}) for text, _ in row["responses"]])
        candidates = [
            Candidate(text=text, quality=Quality(is_right=told.is_right, is_finished=is_finished))
            for (text, is_finished), told in zip(row["responses"], grades, strict=True)
        ]
        for pair in informative_pairs(candidates, most=settings.pairs_per_prompt, ties=settings.ties, random=random):
            yield question, pair


def label_from_dataset(out: Path, log: Log, *, data: Path, settings: LabelSettings) -> Outcome:
    """Write `preferences.jsonl`: the dataset's own preferences, as many as the budget buys."""
    pairs = required(data, "preferences", Preference, why="label.source=dataset takes labels from")
    bought = pairs[: settings.budget] if settings.budget else pairs
    count = write_rows(out / "preferences.jsonl", (pair.model_dump(mode="json") for pair in bought))
    return Outcome(metrics={"pairs": count}, costs={"labels": count})
