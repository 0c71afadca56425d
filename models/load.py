"""Models and tokenizers from a directory or the hub: safetensors only, and never code that lies beside them."""

from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from models.architecture import check_architecture, without_router_logits
from models.embedding import grow_embedding, rows_needed
from models.endings import savable, with_endings
from models.padding import with_pad_token
from models.prompt_format import REMEDY, format_of
from models.quantization import loaded_in_4_bits
from posttrain.errors import RequestError
from posttrain.prompts import PLAIN_CHAT_TEMPLATE, separated
from posttrain.records import Message, Prompt
from posttrain.settings.model import ModelSettings

CLOCK = "strftime_now"
"""The function by which chat templates write today's date."""
FIXED_DATE = (
    "{%- macro strftime_now(format) -%}"
    "{{ {'%d %B %Y': '26 July 2024', '%B %d, %Y': 'July 26, 2024', '%Y-%m-%d': '2024-07-26'}.get(format, '26 Jul 2024') }}"
    "{%- endmacro -%}"
)
"""The date that Llama 3's own template falls back on, in place of today's."""
_TOKENIZERS = ("tokenizer*", "vocab.*", "*.model")
_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken", "tekken.json")
ITS_OWN_FILES = "Put the files there that came with its weights: of another tokenizer each token would mean something else"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(settings: ModelSettings) -> torch.dtype:
    """Return the number format that weights are kept in while they are used."""
    if settings.dtype != "auto":
        return torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32
    return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32


WORTH_HALVING = 50_000_000
"""Weights from which bfloat16 pays on a processor that has it: below, a pass costs calls and not products."""


def has_bfloat16(on: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16 by instructions of its own: on a CPU those of AVX-512 BF16 or AMX.

    Any CPU computes in bfloat16, correctly; without such instructions it takes longer than in float32.
    """
    if on.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def quickest_dtype(weights: int, on: torch.device) -> torch.dtype:
    """Return the number format in which a model computes soonest on a device.

    Args:
        weights: how many it has (`models.size.size_of`).
        on: the device.
    """
    pays = has_bfloat16(on) and (on.type == "cuda" or weights >= WORTH_HALVING)
    return torch.bfloat16 if pays else torch.float32


def check_base(base: str, *, setting: str = "model.base", default: str = "tiny") -> None:
    """Refuse a directory that no model can be loaded from, or whose architecture cannot serve.

    Args:
        base: directory or hub id.
        setting: that names it.
        default: of that setting.

    Raises:
        RequestError: the directory is missing, holds no config.json that can be read, holds weights as pickles only, or a model
            that is no causal language model of text.
    """
    folder = Path(base)
    looks_local = folder.is_absolute() or base.startswith(("./", "../", "~")) or folder.is_dir()
    if not looks_local:
        return
    if not folder.is_dir():
        raise RequestError(f"{setting}={base}: there is no such directory. Give {default}, a Hugging Face directory or a hub id")
    if not (folder / "config.json").is_file():
        raise RequestError(f"{setting}={base}: a Hugging Face model directory holds config.json, this one does not")
    if not list(folder.glob("*.safetensors")):
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        held = f"its weights are pickles only ({', '.join(pickles[:3])})" if pickles else "it holds no weights"
        raise RequestError(
            f"{setting}={base}: {held}, and only *.safetensors is read, because opening a pickle can run any code. "
            "Save the model again with save_pretrained(folder), in a place where you trust it"
        )
    check_architecture(_configuration(base, revision=None, named=f"{setting}={base}"), named=f"{setting}={base}")


def _configuration(source: str | Path, *, revision: str | None, named: str) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(str(source), revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{named}: its configuration cannot be loaded: {_first_line(error)}") from None


def load_tokenizer(source: str | Path, *, revision: str | None = None, setting: str = "model.base") -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model, padding on the left, with a chat template, a padding token, and what ends a response.

    Which tokens end a response is in `models.endings`, which token pads in `models.padding`. Both are kept where it is saved.

    Args:
        source: directory or hub id.
        revision: at the hub.
        setting: that names it, for errors.

    Raises:
        RequestError: it cannot be loaded, or has no EOS token (then a model could never learn to stop).
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source), revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = _first_line(error)
        if Path(source).is_dir() and not any(list(Path(source).glob(pattern)) for pattern in _VOCABULARIES):
            reason = f"the directory holds no tokenizer.json, tokenizer.model or vocab.json. {ITS_OWN_FILES}"
        raise RequestError(f"{setting}={source}: its tokenizer cannot be loaded: {reason}") from None
    if tokenizer.eos_token is None:
        raise RequestError(f"{setting}={source}: its tokenizer has no EOS token, without which a response never ends")
    tokenizer.padding_side = "left"
    tokenizer.chat_template = tokenizer.chat_template or PLAIN_CHAT_TEMPLATE
    return with_pad_token(with_endings(tokenizer, source, revision=revision))


def load_model(
    source: str | Path,
    settings: ModelSettings,
    *,
    on: torch.device,
    revision: str | None = None,
    train: bool = False,
    setting: str = "model.base",
) -> PreTrainedModel:
    """Return a causal language model, in float32 where it is to be trained in full (bfloat16 is the autocast's business then).

    Where adapters are to be trained its linear layers are in 4 bits if `model.quantization` says so.

    Its embedding has a row for each token of the tokenizer beside it, and transformers can save its generation config.

    Args:
        source: directory or hub id.
        settings: how it is loaded.
        on: where its weights go.
        revision: at the hub.
        train: whether it is to be trained.
        setting: that names it, for errors.

    Raises:
        RequestError: it cannot be loaded, its files lack some of its weights (which would then be random), or the tokenizer
            beside it is another model's.
    """
    wanted = torch.float32 if train and settings.lora_rank == 0 else dtype(settings)
    try:
        model, told = AutoModelForCausalLM.from_pretrained(
            str(source),
            revision=revision,
            dtype=wanted,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **(loaded_in_4_bits(settings, kind=wanted, on=on) if train else {}),
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise RequestError(f"{setting}={source}: it cannot be loaded: {_first_line(error)}") from None
    if missing := sorted(told["missing_keys"]):
        raise RequestError(
            f"{setting}={source}: {len(missing)} of its weights are not in its files ({missing[0]}), and would be random. "
            "Save the whole model with save_pretrained(folder)"
        )
    fit_embedding(model, source, revision=revision, setting=setting)
    if model.generation_config is not None:
        model.generation_config, _ = savable(model.generation_config)
    return without_router_logits(model).to(on).eval()


def fit_embedding(model: Any, source: str | Path, *, revision: str | None = None, setting: str = "model.base") -> None:
    """Let a model's embedding have a row for each token of the tokenizer beside it; without a tokenizer it stays as it is.

    Args:
        model: as it was loaded.
        source: directory or hub id that it was loaded from.
        revision: at the hub.
        setting: that names it, for errors.

    Raises:
        RequestError: the tokenizer is another model's.
    """
    folder = Path(source)
    if folder.is_dir() and not any(list(folder.glob(pattern)) for pattern in _TOKENIZERS):
        return
    tokenizer = load_tokenizer(source, revision=revision, setting=setting)
    rows: int = model.get_input_embeddings().weight.shape[0]
    grow_embedding(model, rows_needed(tokenizer, rows=rows, name=f"{setting}={source}"))


def context_length(source: str | Path, settings: ModelSettings, *, revision: str | None = None) -> int:
    """Return how many tokens prompt and response may have together: `model.context`, or less where the model holds less."""
    config = _configuration(source, revision=revision, named=f"model.base={source}")
    longest: int = getattr(config.get_text_config(), "max_position_embeddings", None) or settings.context
    return min(settings.context, longest)


def hub_commit(base: str, *, revision: str | None, setting: str = "model.base") -> str:
    """Return the commit that a hub id stands for now, so that a model which changed at the hub is another model to us.

    Raises:
        RequestError: there is no such model, or its architecture cannot serve.
    """
    try:
        config = AutoConfig.from_pretrained(base, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(f"{setting}={base}: neither a directory here nor a model at the hub: {_first_line(error)}") from None
    check_architecture(config, named=f"{setting}={base}")
    return str(getattr(config, "_commit_hash", None) or revision)


def prompt_text(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> str:
    """Return the text that stands before a completion: messages through the chat template; plain text on a line of its own.

    Plain text is one user message in the chat template where that was decided for the tokenizer (`models.prompt_format`).
    A BOS token written by the template is taken away where the tokenizer adds it by itself, so that it never stands twice.

    Raises:
        RequestError: the chat template refuses the prompt, or fails on it.
    """
    form = format_of(tokenizer)
    if isinstance(prompt, str) and not form.is_chat:
        return separated(prompt)
    messages = form.messages(prompt) if isinstance(prompt, str) else prompt
    try:
        text = _through_template(tokenizer, messages)
    except Exception as error:  # a template is a program of others, which can fail in any way
        roles = ", ".join(message.role for message in messages)
        remedy = f". {REMEDY}" if isinstance(prompt, str) else ""
        told = _first_line(error) or type(error).__name__
        raise RequestError(f"the model's chat template refuses a prompt with the roles {roles}: {told}{remedy}") from None
    bos = tokenizer.bos_token
    if bos and text.startswith(bos) and tokenizer.bos_token_id in tokenizer("")["input_ids"]:
        return text[len(bos) :]
    return text


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a chat template that plain-text prompts are to go through, and that fails on one or loses what it says.

    Raises:
        RequestError: it does.
    """
    form, asked = format_of(tokenizer), "How many apples?"
    if not form.is_chat:
        return
    text = prompt_text(tokenizer, asked)
    for part, said in (("a user message", asked), ("the system message (model.system)", (form.system or "").strip())):
        if said not in text:
            raise RequestError(f"the model's chat template leaves out {part}. {REMEDY}")


def _through_template(tokenizer: PreTrainedTokenizerBase, prompt: tuple[Message, ...]) -> str:
    """Return the messages as the chat template writes them; what a tool said is never lost.

    Many templates refuse the role `tool`, or leave its turns out in silence. For those it is the user who passes on what the
    tool said, marked as the templates of Hermes and Qwen mark it.
    """
    observations = [message.content.strip() for message in prompt if message.role == "tool"]
    try:
        text = _rendered(tokenizer, [message.model_dump() for message in prompt])
        if all(said in text for said in observations):
            return text
    except TemplateError:
        if not observations:
            raise
    passed_on = [
        {"role": "user", "content": f"<tool_response>\n{message.content}\n</tool_response>"}
        if message.role == "tool"
        else message.model_dump()
        for message in prompt
    ]
    return _rendered(tokenizer, passed_on)


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]]) -> str:
    template = tokenizer.get_chat_template()
    if CLOCK in template:  # some write today's date, by which the same run would read other prompts tomorrow
        template = FIXED_DATE + template
    rendered = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
    return str(rendered)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(" .:")
