"""Where a response ends: which tokens end it, which of them is taught, and what a saved model's generation config says of it."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase
from transformers.utils import logging

from posttrain.errors import RequestError
from posttrain.prompts import separated
from posttrain.records import Prompt

ENDS, TURN_END = "end_token_ids", "turn_end_token_id"
"""Keys of tokenizer_config.json, which a tokenizer keeps when it is saved and loaded."""
_SAID = "qzvxk"
"""What the assistant says in the conversation that a template is tried out on; no template writes it."""


def end_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the tokens that end a response, each of them, in ascending order."""
    return tuple(tokenizer.init_kwargs.get(ENDS) or (tokenizer.eos_token_id,))


def taught_end(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, text: str) -> int:
    """Return the token that training puts behind a completion: the chat template's where the prompt went through it, else EOS.

    Args:
        tokenizer: as `models.load.load_tokenizer` gives it.
        prompt: the record's.
        text: what `models.load.prompt_text` made of it; examples may stand before it.
    """
    went_through = not (isinstance(prompt, str) and text.endswith(separated(prompt)))
    turn_end: int | None = tokenizer.init_kwargs.get(TURN_END)
    eos: int = tokenizer.eos_token_id
    return turn_end if went_through and turn_end is not None else eos


def with_endings(tokenizer: PreTrainedTokenizerBase, source: str | Path, *, revision: str | None) -> PreTrainedTokenizerBase:
    """Return the tokenizer, holding which tokens end a response; one that holds it already stays as it is.

    These are EOS, the token with which the chat template ends an assistant's turn, and what the model's `eos_token_id` lists: in
    generation_config.json, which `generate` ends by, or in config.json. An id of the latter counts where it is a special token:
    transformers fills gaps there with defaults (2 for a Llama), which may be any word of another tokenizer.

    Args:
        tokenizer: with an EOS token; it is changed.
        source: directory or hub id of the model.
        revision: at the hub.
    """
    if ENDS not in tokenizer.init_kwargs:
        turn_end = _turn_end(tokenizer)
        found: set[int] = {tokenizer.eos_token_id, *_listed(tokenizer, source, revision)}
        found |= set() if turn_end is None else {turn_end}
        tokenizer.init_kwargs |= {ENDS: sorted(found), TURN_END: turn_end}
    return tokenizer


def _listed(tokenizer: PreTrainedTokenizerBase, source: str | Path, revision: str | None) -> set[int]:
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    found: set[int] = set()
    if given := generation_config(source, revision=revision):
        ids = _as_ids(given.eos_token_id)
        found |= ids & special if getattr(given, "_from_model_config", False) else ids
    try:
        config = AutoConfig.from_pretrained(str(source), revision=revision, trust_remote_code=False).get_text_config()
    except (OSError, ValueError, KeyError):
        return found  # a folder that holds a tokenizer alone
    found |= _as_ids(getattr(config, "eos_token_id", None)) & special
    return {number for number in found if number < max(len(tokenizer), getattr(config, "vocab_size", 0))}


def _as_ids(given: Any) -> set[int]:
    ids: Iterable[Any] = given if isinstance(given, list | tuple) else [given]
    return {number for number in ids if isinstance(number, int) and number >= 0}


def _turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the special token that the chat template writes behind an assistant's turn; None where it writes none."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _SAID}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except (TemplateError, ValueError):
        return None
    behind = text.rpartition(_SAID)[2].lstrip()
    tokens = {str(token): number for number, token in tokenizer.added_tokens_decoder.items() if number != _begins_only(tokenizer)}
    fitting = [token for token in tokens if behind.startswith(token)]
    return tokens[max(fitting, key=len)] if fitting else None


def _begins_only(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return BOS, where it is not EOS as well."""
    return None if tokenizer.bos_token_id == tokenizer.eos_token_id else tokenizer.bos_token_id


# --- generation configs -----------------------------------------------------------------------------------------------


def generation_config(source: str | Path, *, revision: str | None = None) -> GenerationConfig | None:
    """Return what generation_config.json says; None where there is none that can be read, as transformers takes it.

    Raises:
        RequestError: transformers would load no model beside it.
    """
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # what is wrong with it, `savable` tells
    try:
        return GenerationConfig.from_pretrained(str(source), revision=revision)
    except OSError:
        return None
    except ValueError as error:
        first = str(error).partition("\n")[0].rstrip(".")
        raise RequestError(
            f"{source}: transformers refuses its generation_config.json: {first}. Mend that file, or delete it"
        ) from None
    finally:
        logging.set_verbosity(before)


def savable(config: GenerationConfig) -> tuple[GenerationConfig, str]:
    """Return a generation config that transformers saves, and what was changed in it, as a clause; no text for nothing.

    transformers refuses to save sampling parameters without `do_sample`, as some models are shipped with. Sampling is what they
    were meant for, so it is turned on. Where that is not enough, its special tokens alone are kept.
    """
    if not (trouble := _trouble(config)):
        return config, ""
    sampling = copy.deepcopy(config)
    sampling.do_sample = True
    if not _trouble(sampling):
        return sampling, "do_sample=true is set, without which transformers saves none of its sampling parameters"
    tokens = {name: getattr(config, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return GenerationConfig(**tokens), f"its special tokens alone are kept, as transformers refuses to save the rest ({trouble})"


def _trouble(config: GenerationConfig) -> str:
    try:
        config.validate(strict=True)
    except ValueError as error:
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip().startswith("-")]
        return lines[0] if lines else str(error).partition("\n")[0]
    return ""


def ending_alike(config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Return a config that transformers saves, and by which its `generate` ends where ours does."""
    told, _ = savable(config)
    ends = end_ids(tokenizer)
    told.eos_token_id = list(ends) if len(ends) > 1 else ends[0]
    told.pad_token_id = tokenizer.pad_token_id
    return told
