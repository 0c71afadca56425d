"""The stages `tokenizer` and `base`: the model that every method starts from."""

import json
import time
from itertools import chain
from pathlib import Path

import torch

from models import tiny
from models.load import context_length, device, load_tokenizer
from posttrain.chat import plain
from posttrain.config import ModelSettings, PretrainSettings, TinySettings
from posttrain.errors import DataError
from posttrain.records import Demonstration, Question, Text
from tasks.bases import TINY, base_digest
from tasks.progress import bar
from tasks.records import read_records
from tasks.stage import Log, Outcome
from tasks.weights import save

WORLD = "world"


def make_tokenizer(out: Path, log: Log, *, data: Path, dataset: str, model: ModelSettings, settings: TinySettings) -> Outcome:
    """Write `tokenizer/`, and the number of tokens that prompt and response may have together as the metric `context`."""
    if model.base != TINY:
        load_tokenizer(model.base, revision=model.revision).save_pretrained(out / "tokenizer")
        return Outcome(metrics={"context": context_length(model.base, model, revision=model.revision)})
    texts = [document + "\n" for document in corpus(data)]
    tokenizer = tiny.world_tokenizer(texts) if dataset == WORLD else tiny.bpe_tokenizer(texts, vocabulary=settings.vocabulary)
    tokenizer.save_pretrained(out / "tokenizer")
    return Outcome(metrics={"context": model.context, "vocabulary": len(tokenizer)})


def make_base(
    out: Path,
    log: Log,
    *,
    data: Path,
    tokenizer: Path,
    model: ModelSettings,
    tiny_settings: TinySettings,
    settings: PretrainSettings,
    seed: int,
) -> Outcome:
    """Write `model/`: the tiny base pretrained on the dataset's corpus; or `source.json`, which names the model asked for."""
    if model.base != TINY:
        told = {"base": model.base, "revision": model.revision, "digest": base_digest(model)}
        (out / "source.json").write_text(json.dumps(told), encoding="utf-8")
        return Outcome()
    reader = load_tokenizer(tokenizer)
    documents = [
        [*ids[: model.context - 1], reader.eos_token_id]
        for ids in reader(list(corpus(data)), return_attention_mask=False, return_token_type_ids=False)["input_ids"]
    ]
    torch.manual_seed(seed)
    network = tiny.network(
        tiny_settings, vocabulary=len(reader), context=model.context, pad=reader.pad_token_id, eos=reader.eos_token_id
    ).to(device())
    started, tokens, loss = time.perf_counter(), 0, 0.0
    with bar("base", settings.steps) as advance:
        for step in tiny.pretrain(network, documents, settings, seed=seed, pad=reader.pad_token_id):
            tokens, loss = tokens + step.tokens, step.loss
            if step.step % 20 == 0:
                log(step.step, {"loss": step.loss, "learning_rate": step.learning_rate})
            advance(1, f"loss {step.loss:.2f}")
    save(network, reader, out / "model")
    return Outcome(
        metrics={"loss": loss, "parameters": sum(weight.numel() for weight in network.parameters())},
        costs={"train_seconds": time.perf_counter() - started, "trained_tokens": tokens},
    )


def corpus(data: Path) -> list[str]:
    """Return the documents to make a tiny base from: the corpus, or what the training records themselves say.

    Raises:
        DataError: there is no text at all.
    """
    if (data / "corpus.jsonl").is_file():
        texts = [record.text for record in read_records(data / "corpus.jsonl", Text)]
    else:
        demonstrations = _if_there(data / "demonstrations.jsonl", Demonstration)
        questions = _if_there(data / "questions.jsonl", Question)
        texts = list(
            chain(
                (plain(record.prompt) + record.completion for record in demonstrations),
                (plain(record.prompt) for record in questions),
            )
        )
    if not texts:
        raise DataError(f'{data}: there is no text to make the tiny base from; name a model instead: SET="model.base=…"')
    return texts


def _if_there(path: Path, kind):  # type: ignore[no-untyped-def]  # tasks/ is not under mypy
    return read_records(path, kind) if path.is_file() else ()
