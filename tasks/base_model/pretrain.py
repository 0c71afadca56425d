"""The stage `base`: the model that every method starts from."""

import json
import time
from pathlib import Path

import torch

from models import tiny
from models.encoding import prompt_ids
from models.load import device, load_model, load_tokenizer
from models.probe import check_network
from models.size import size_of
from posttrain.compute import learning
from posttrain.settings.model import ModelSettings, PretrainSettings, TinySettings
from tasks.base_model.corpus import corpus
from tasks.base_model.identity import TINY, base_digest
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.progress import bar
from tasks.workspace.weights import save


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
    """Write `model/`: the tiny base pretrained on the dataset's corpus; or `source.json`, which names the model asked for.

    Raises:
        RequestError: the model asked for cannot be loaded, or cannot be sampled from, trained and scored with.
    """
    if model.base != TINY:
        network = load_model(model.source, model, on=device(), revision=model.revision)
        check_network(network, model, named=f"model.base={model.base}")
        told = {"base": model.source, "revision": model.revision, "digest": base_digest(model)}
        (out / "source.json").write_text(json.dumps(told), encoding="utf-8")
        return Outcome()
    reader = load_tokenizer(tokenizer)
    documents = [[*ids[: model.context - 1], reader.eos_token_id] for ids in prompt_ids(reader, corpus(data))]
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
        costs={
            "train_seconds": time.perf_counter() - started,
            "trained_tokens": tokens,
            **learning(size_of(network), tokens).as_costs(),
        },
    )
