"""Whether plain-text prompts go through the chat template: decided once, and kept in the tokenizer's own configuration.

`save_pretrained` writes the decision into `tokenizer_config.json` and `from_pretrained` reads it back, so that a trained,
registered or exported model carries it, and every caller of `models.load.prompt_text` is right by construction.
"""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from posttrain.errors import RequestError
from posttrain.prompts import PLAIN_CHAT_TEMPLATE
from posttrain.records import Message

KEY = "posttrain_prompts"
"""Of `tokenizer_config.json`: `{"chat": true, "system": null}`."""
REMEDY = "model.prompt_format=plain gives plain-text prompts as they are"


@dataclass(frozen=True)
class PromptFormat:
    """How a plain-text prompt is read by a model; a prompt of messages goes through the chat template in any case.

    Attributes:
        is_chat: it is one user message in the chat template; else it stands on a line of its own.
        system: content of a system message before that one; None for none.
    """

    is_chat: bool = False
    system: str | None = None

    def messages(self, prompt: str) -> tuple[Message, ...]:
        """Return a plain-text prompt as the conversation that the chat template writes."""
        system = () if self.system is None else (Message(role="system", content=self.system),)
        return (*system, Message(role="user", content=prompt))


def has_own_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a tokenizer brings a chat template, and not only the one that is put there where it has none."""
    return bool(tokenizer.chat_template) and tokenizer.chat_template != PLAIN_CHAT_TEMPLATE


def format_of(tokenizer: PreTrainedTokenizerBase) -> PromptFormat:
    """Return what was decided for a tokenizer; plain text where nothing was."""
    kept = tokenizer.init_kwargs.get(KEY) or {}
    return PromptFormat(is_chat=bool(kept.get("chat")), system=kept.get("system"))


def is_decided(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether something was decided for a tokenizer."""
    return KEY in tokenizer.init_kwargs


def decide_format(
    tokenizer: PreTrainedTokenizerBase, *, prompt_format: str = "auto", system: str | None = None, name: str
) -> PromptFormat:
    """Decide how plain-text prompts are read, keep that in the tokenizer, and return it.

    `auto` goes by the chat template where the tokenizer has one of its own; but a model that was trained here stays with what
    it was trained with.

    Args:
        tokenizer: of a base, or of any model that others made; it is changed.
        prompt_format: `auto`, `chat` or `plain`.
        system: content of a system message; None for none.
        name: of the model, for errors: "model.base=…".

    Raises:
        RequestError: the chat template is asked for, by `chat` or by a system message, and there is none to use.
    """
    before = format_of(tokenizer)
    if prompt_format == "auto" and is_decided(tokenizer):
        is_chat, system = before.is_chat, before.system if system is None else system
    else:
        is_chat = prompt_format == "chat" or (prompt_format == "auto" and has_own_template(tokenizer))
    if is_chat and not has_own_template(tokenizer):
        raise RequestError(
            f"model.prompt_format=chat: {name} has no chat template of its own. Take a base that has one, or "
            "model.prompt_format=auto, which takes plain text where there is none"
        )
    if system is not None and not is_chat:
        reason = "model.prompt_format=plain does not use" if has_own_template(tokenizer) else f"{name} does not have"
        raise RequestError(f"model.system is a message of the chat template, which {reason}. Leave model.system at none")
    tokenizer.init_kwargs[KEY] = {"chat": is_chat, "system": system}
    return PromptFormat(is_chat, system)


def as_shipped(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model that others made: its prompts go through its own chat template, where it has one."""
    if not is_decided(tokenizer):
        decide_format(tokenizer, name="the model")
    return tokenizer
