"""A base as it is shipped: what is mended in it, and what cannot be, before anything runs."""

from pathlib import Path

from transformers import AutoConfig, AutoTokenizer

from models.embedding import rows_needed
from models.endings import end_ids, generation_config, savable
from models.load import load_tokenizer
from posttrain.errors import RequestError


def notes_on(source: str | Path, *, revision: str | None = None, setting: str = "model.base") -> list[str]:
    """Return what is changed or read otherwise than its tokenizer says, a sentence each; none for most bases.

    Args:
        source: directory or hub id that can be loaded.
        revision: at the hub.
        setting: that names it.

    Raises:
        RequestError: its configuration cannot be loaded, it has no EOS token, or its tokenizer is another model's.
    """
    name = f"{setting}={source}"
    tokenizer = load_tokenizer(source, revision=revision, setting=setting)
    try:
        config = AutoConfig.from_pretrained(str(source), revision=revision, trust_remote_code=False).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().partition("\n")[0]
        raise RequestError(f"{name}: its configuration cannot be loaded: {first}") from None
    rows: int = getattr(config, "vocab_size", None) or len(tokenizer)
    needed = rows_needed(tokenizer, rows=rows, name=name)
    notes = []
    named = AutoTokenizer.from_pretrained(str(source), revision=revision, trust_remote_code=False).pad_token
    if named != tokenizer.pad_token:
        instead = "none" if named is None else named
        notes.append(f"{name}: {tokenizer.pad_token} pads, as its tokenizer names {instead} for that")
    if needed > rows:
        notes.append(f"{name}: the embedding grows from {rows:,} to {needed:,} rows, new ones the mean of the old")
    if len(ends := end_ids(tokenizer)) > 1:
        tokens = ", ".join(tokenizer.convert_ids_to_tokens(list(ends)))
        notes.append(f"{name}: a response ends with any of {tokens}")
    told = generation_config(source, revision=revision)
    if told and (change := savable(told)[1]):
        notes.append(f"{name}: in the generation config of models made from it, {change}")
    return notes
