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
from posttrain.errors import RequestError
from posttrain.prompts import PLAIN_CHAT_TEMPLATE, separated
from posttrain.records import Message, Prompt
from posttrain.settings.model import ModelSettings

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(settings: ModelSettings) -> torch.dtype:
    """Return the number format that weights are kept in while they are used."""
    if settings.dtype != "auto":
        return torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32
    return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32


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
    """Return the tokenizer of a model, padding on the left, with a chat template and a padding token that is not EOS.

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
        raise RequestError(f"{setting}={source}: its tokenizer cannot be loaded: {_first_line(error)}") from None
    if tokenizer.eos_token is None:
        raise RequestError(f"{setting}={source}: its tokenizer has no EOS token, without which a response never ends")
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        tokenizer.pad_token = _spare_token(tokenizer, f"{setting}={source}")
    tokenizer.padding_side = "left"
    tokenizer.chat_template = tokenizer.chat_template or PLAIN_CHAT_TEMPLATE
    return tokenizer


def _spare_token(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """Return a special token other than EOS that the model's embedding already holds."""
    special = [token for token in (tokenizer.unk_token, *tokenizer.all_special_tokens) if token]
    reserved = [token for token in tokenizer.get_vocab() if "reserved" in token or "pad" in token.lower()]
    spare = [token for token in special + reserved if token != tokenizer.eos_token]
    if not spare:
        raise RequestError(f"{name}: its tokenizer has no token to pad with other than EOS; add a pad token and save it")
    return str(spare[0])


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

    Args:
        source: directory or hub id.
        settings: how it is loaded.
        on: where its weights go.
        revision: at the hub.
        train: whether it is to be trained.
        setting: that names it, for errors.

    Raises:
        RequestError: it cannot be loaded, or its files lack some of its weights (which would then be random).
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
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise RequestError(f"{setting}={source}: it cannot be loaded: {_first_line(error)}") from None
    if missing := sorted(told["missing_keys"]):
        raise RequestError(
            f"{setting}={source}: {len(missing)} of its weights are not in its files ({missing[0]}), and would be random. "
            "Save the whole model with save_pretrained(folder)"
        )
    return without_router_logits(model).to(on).eval()


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
    """Return the text that stands before a completion: plain text on a line of its own, messages through the chat template.

    A BOS token written by the template is taken away where the tokenizer adds it by itself, so that it never stands twice.
    """
    if isinstance(prompt, str):
        return separated(prompt)
    try:
        text = _through_template(tokenizer, prompt)
    except TemplateError as error:
        roles = ", ".join(message.role for message in prompt)
        raise RequestError(f"the model's chat template refuses a prompt with the roles {roles}: {_first_line(error)}") from None
    bos = tokenizer.bos_token
    if bos and text.startswith(bos) and tokenizer.bos_token_id in tokenizer("")["input_ids"]:
        return text[len(bos) :]
    return text


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
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
