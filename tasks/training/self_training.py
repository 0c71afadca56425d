"""The stage `self_training`: the base fine-tuned on right samples of the SFT model (RFT, arXiv:2308.01825)."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from posttrain.errors import DataError
from posttrain.graders import Sample, build_grader
from posttrain.records import Demonstration, Prompt, Question
from posttrain.settings.model import ModelSettings
from posttrain.settings.self_training import SelfTrainingSettings
from tasks.training.sft import imitate
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import read_rows, required


def train(
    out: Path,
    log: Log,
    *,
    samples: Path,
    data: Path,
    start: Path,
    tokenizer: Path,
    model: ModelSettings,
    settings: SelfTrainingSettings,
    context: int,
    seed: int,
) -> Outcome:
    """Write `model/`: the model in `start` fine-tuned on right samples, with the dataset's demonstrations where those are wanted.

    Raises:
        DataError: no sample is right.
    """
    asked = [(Question.model_validate(row["question"]), right_texts(row)) for row in read_rows(samples / "samples.jsonl")]
    chosen = [
        (question.prompt, text)
        for question, texts in asked
        for text in drawn(texts, most=settings.per_question, seed=seed, question=question.id)
    ]
    if not chosen:
        raise DataError(
            f"self-training has nothing to learn from: none of the samples of {len(asked):,} questions is right and ended with "
            "EOS. Draw more of them (sample.per_prompt, sample.question_share), or train SFT longer (sft.epochs)"
        )
    shown = _demonstrations(data) if settings.with_demonstrations else []
    outcome = imitate(
        out,
        log,
        [*shown, *chosen],
        stage="self_training",
        start=start,
        tokenizer=tokenizer,
        model=model,
        settings=settings,
        context=context,
        seed=seed,
    )
    counts = {
        "questions": len(asked),
        "questions_solved": sum(bool(texts) for _, texts in asked),
        "right_samples": sum(len(texts) for _, texts in asked),
        "samples": len(chosen),
        "demonstrations": len(shown),
    }
    return Outcome(metrics={**outcome.metrics, **counts}, costs=outcome.costs)


def right_texts(row: Mapping[str, Any]) -> list[str]:
    """Return the responses of a row of `samples.jsonl` that ended with EOS and are right, each text once, in their order.

    Those of a question without an answer to check against are none.
    """
    question = Question.model_validate(row["question"])
    finished = list(dict.fromkeys(text for text, is_finished in row["responses"] if is_finished))
    if not question.answers:
        return []
    record = {"id": question.id, "answers": question.answers}
    grades = build_grader("answer").grade([Sample(text, record) for text in finished])
    return [text for text, grade in zip(finished, grades, strict=True) if grade.is_right]


def drawn(texts: Iterable[str], *, most: int, seed: int, question: str) -> list[str]:
    """Return up to `most` of a question's texts, in their order; which of them, seed and question alone decide."""
    given = list(texts)
    places = sorted(Random(f"{seed}/self_training/{question}").sample(range(len(given)), min(most, len(given))))
    return [given[place] for place in places]


def _demonstrations(data: Path) -> list[tuple[Prompt, str]]:
    found = required(data, "demonstrations", Demonstration, why="self_training.with_demonstrations learns from")
    return [(one.prompt, one.completion) for one in found]
