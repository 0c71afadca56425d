"""The stage `judge`: the tiny base after practice on simulated reviews, which is the default judge of the tiny world."""

import time
from itertools import islice
from pathlib import Path

import torch

from models.encoding import prompt_ids
from models.fingerprint import must_move
from models.load import device, load_model, load_tokenizer
from models.options import option_ids
from models.practice import practise
from models.size import size_of
from posttrain.compute import learning
from posttrain.judges.reviews import VERDICTS, reviewer, reviews
from posttrain.records import Demonstration, Question
from posttrain.settings.judge import JudgeSettings
from posttrain.settings.model import ModelSettings
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import read_records
from tasks.workspace.progress import bar
from tasks.workspace.weights import save, source_of

DOCUMENTS_A_STEP = 24
"""Reviews written for each optimiser step, which is about as many as it reads: none is read much more than once."""
TAKEN = (("held_out", Question), ("questions", Question), ("demonstrations", Demonstration))
"""Roles of the data of which no story is reviewed."""


def practise_judge(
    out: Path,
    log: Log,
    *,
    data: Path,
    base: Path,
    tokenizer: Path,
    model: ModelSettings,
    settings: JudgeSettings,
    context: int,
    seed: int,
) -> Outcome:
    """Write `model/`: the base after `judge.practice_steps` steps on reviews of stories that no other role of the data tells.

    Args:
        out: the artifact.
        log: for the curve.
        data: the validated world.
        base: artifact of the tiny base.
        tokenizer: of the base.
        model: how the base is loaded.
        settings: of the judge.
        context: tokens of a document, at most.
        seed: of the reviews and of their order.
    """
    reader = load_tokenizer(tokenizer)
    taken = {one.family for role, kind in TAKEN for one in read_records(data / f"{role}.jsonl", kind) if one.family}
    by = reviewer(settings.misread_verbs, slip_share=settings.slip_share)
    written = reviews(taken, by=by, seed=f"{seed}/practice")
    texts = list(islice(written, DOCUMENTS_A_STEP * settings.practice_steps))
    documents = [[*ids[: context - 1], reader.eos_token_id] for ids in prompt_ids(reader, texts)]
    verdicts = [ids[0] for ids in option_ids(reader, "Verdict:", VERDICTS)]
    torch.manual_seed(seed)
    source, revision = source_of(base)
    trained_in_full = model.model_copy(update={"lora_rank": 0, "quantization": "none"})
    network = load_model(source, trained_in_full, on=device(), revision=revision, train=True)
    started, tokens, loss = time.perf_counter(), 0, 0.0
    with bar("judge", settings.practice_steps) as advance, must_move(network, stage="judge", remedy="Raise judge.practice_steps"):
        for step in practise(
            network, documents, verdicts=verdicts, steps=settings.practice_steps, seed=seed, pad=reader.pad_token_id
        ):
            tokens, loss = tokens + step.tokens, step.loss
            if step.step % 20 == 0:
                log(step.step, {"loss": step.loss, "learning_rate": step.learning_rate})
            advance(1, f"loss {step.loss:.2f}")
    save(network, reader, out / "model")
    return Outcome(
        metrics={"loss": loss},
        costs={
            "train_seconds": time.perf_counter() - started,
            "trained_tokens": tokens,
            **learning(size_of(network), tokens).as_costs(),
        },
    )
