"""The stage `tokenizer`: made of the dataset's text, or the base model's own."""

from pathlib import Path

from models.encoding import check_reads
from models.load import check_template, context_length, load_tokenizer
from models.prompt_format import decide_format
from models.tokenizers import bpe_tokenizer, world_tokenizer
from posttrain.settings.model import ModelSettings, TinySettings
from tasks.base_model.corpus import corpus
from tasks.base_model.identity import TINY
from tasks.workspace.artifacts import Log, Outcome

WORLD = "world"
CHAT = "chat"
"""Metric: whether plain-text prompts go through the chat template."""


def make_tokenizer(out: Path, log: Log, *, data: Path, dataset: str, model: ModelSettings, settings: TinySettings) -> Outcome:
    """Write `tokenizer/`, in which it is decided how plain-text prompts are read.

    The metric `context` is the number of tokens that prompt and response may have together, `chat` is 1 where plain-text
    prompts go through the chat template.

    Raises:
        RequestError: the base's tokenizer reads texts as nothing; there is no chat template where one is asked for, or it fails
            on a plain question.
    """
    if model.base != TINY:
        name = f"model.base={model.base}"
        tokenizer = load_tokenizer(model.source, revision=model.revision)
        check_reads(tokenizer, name=name)
        form = decide_format(tokenizer, prompt_format=model.prompt_format, system=model.system, name=name)
        check_template(tokenizer)
        tokenizer.save_pretrained(out / "tokenizer")
        context = context_length(model.source, model, revision=model.revision)
        return Outcome(metrics={"context": context, CHAT: float(form.is_chat)})
    texts = [document + "\n" for document in corpus(data)]
    tokenizer = world_tokenizer(texts) if dataset == WORLD else bpe_tokenizer(texts, vocabulary=settings.vocabulary)
    tokenizer.save_pretrained(out / "tokenizer")
    return Outcome(metrics={"context": model.context, "vocabulary": len(tokenizer)})
