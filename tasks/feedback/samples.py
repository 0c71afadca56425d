"""The stage `sample`: responses of the SFT model, for annotators to compare."""

import time
from pathlib import Path

from models.encoding import prompt_ids
from models.generate import generate
from models.load import device, load_model, load_tokenizer, prompt_text
from models.size import size_of
from posttrain.compute import reading
from posttrain.errors import DataError
from posttrain.feedback.labels import first_questions, sampled_questions
from posttrain.records import Question
from posttrain.settings.feedback import SampleSettings
from posttrain.settings.model import ModelSettings
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import required, write_rows
from tasks.workspace.progress import bar
from tasks.workspace.quiet import quiet_libraries
from tasks.workspace.weights import source_of


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
    """Write `samples.jsonl`: responses of the model in `start` to a share of the training questions (`sample.question_share`).

    They are as many as `sample.max_questions`, at most.

    Raises:
        DataError: there is no such question.
    """
    found = required(data, "questions", Question, why="responses are sampled for")
    of_share = sampled_questions([one.id for one in found], share=settings.question_share, seed=seed)
    chosen = set(first_questions(of_share, most=settings.max_questions, seed=seed))
    questions = [one for one in found if one.id in chosen]
    if not questions:
        raise DataError(
            f"sample.question_share={settings.question_share:g} leaves no training question to sample responses for. Raise it"
        )
    reader = load_tokenizer(tokenizer)
    source, revision = source_of(start)
    started = time.perf_counter()
    network = load_model(source, model, on=device(), revision=revision)
    prompts = [prompt_text(reader, question.prompt) for question in questions]
    with quiet_libraries(), bar("sample", len(questions)) as advance:
        responses = generate(
            network,
            reader,
            prompts,
            samples=settings.per_prompt,
            temperature=settings.temperature,
            max_new_tokens=max_new_tokens,
            context=context,
            batch_size=settings.batch_size,
            seed=seed,
            names=[question.id for question in questions],
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
    asked = sum(map(len, prompt_ids(reader, prompts)))
    read = reading(size_of(network), settings.per_prompt * asked + tokens)
    return Outcome(
        metrics={
            "responses": sum(len(given) for given in responses),
            "response_tokens": tokens / max(1, sum(map(len, responses))),
        },
        costs={"generated_tokens": tokens, "train_seconds": time.perf_counter() - started, **read.as_costs()},
    )
