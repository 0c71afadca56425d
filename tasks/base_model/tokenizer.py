"""The stage `tokenizer`: made of the dataset's text, or the base model's own."""

from pathlib import Path

from models.load import context_length, load_tokenizer
from models.tokenizers import bpe_tokenizer, world_tokenizer
from posttrain.settings.model import ModelSettings, TinySettings
from tasks.base_model.corpus import corpus
from tasks.base_model.identity import TINY
from tasks.workspace.artifacts import Log, Outcome

WORLD = "world"


def make_tokenizer(out: Path, log: Log, *, data: Path, dataset: str, model: ModelSettings, settings: TinySettings) -> Outcome:
    """Write `tokenizer/`, and the number of tokens that prompt and response may have together as the metric `context`."""
    if model.base != TINY:
        load_tokenizer(model.source, revision=model.revision).save_pretrained(out / "tokenizer")
        return Outcome(metrics={"context": context_length(model.source, model, revision=model.revision)})
    texts = [document + "\n" for document in corpus(data)]
    tokenizer = world_tokenizer(texts) if dataset == WORLD else bpe_tokenizer(texts, vocabulary=settings.vocabulary)
    tokenizer.save_pretrained(out / "tokenizer")
    return Outcome(metrics={"context": model.context, "vocabulary": len(tokenizer)})
