"""From a prompt record to the text a model reads."""

from posttrain.records import Message, Prompt

PLAIN_CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}{{ message.content }}"
    "{%- elif message.role == 'assistant' -%}{{ '\n\nAssistant: ' + message.content }}"
    "{%- else -%}{{ '\n\nHuman: ' + message.content }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '\n\nAssistant:' }}{%- endif -%}"
)
"""The transcript form of Anthropic's HH data (arXiv:2204.05862), for tokenizers that bring no chat template of their own."""


def separated(text: str) -> str:
    """Return a plain-text prompt that ends in white space, so that prompt and completion never share a token."""
    return text if text[-1:].isspace() else text + "\n"


def transcript(messages: tuple[Message, ...]) -> str:
    """Return the messages in the form of `PLAIN_CHAT_TEMPLATE`, up to where the assistant is to go on."""
    parts = []
    for message in messages:
        speaker = {"system": "", "assistant": "\n\nAssistant: "}.get(message.role, "\n\nHuman: ")
        parts.append(speaker + message.content)
    return "".join(parts) + "\n\nAssistant:"


def plain(prompt: Prompt) -> str:
    """Return a prompt as text where no tokenizer is at hand (corpus, pages, near-duplicate search)."""
    return separated(prompt) if isinstance(prompt, str) else transcript(prompt)
