"""Demonstrations that stand before a prompt: part of a model that is prompted, not trained: `shots.json` beside its weights."""

import json
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from models.endings import taught_end
from models.load import prompt_text
from models.prompt_format import format_of
from posttrain.records import Demonstration, Message, Prompt

SHOTS = "shots.json"


def save_shots(shots: Sequence[Demonstration], tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write `shots.json`: the demonstrations, and as `text` what stands before a plain prompt that is no message."""
    text = {} if format_of(tokenizer).is_chat else {"text": text_of(tokenizer, shots)}
    told = {**text, "shots": [one.model_dump(mode="json") for one in shots]}
    (folder / SHOTS).write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def shots_of(artifact: Path) -> tuple[Demonstration, ...]:
    """Return the demonstrations that the model of a base or training artifact has before each prompt; none for most models."""
    return shots_in(artifact / "model")


def shots_in(folder: Path) -> tuple[Demonstration, ...]:
    """Return the demonstrations that lie beside a model's weights."""
    file = folder / SHOTS
    if not file.is_file():
        return ()
    told = json.loads(file.read_text(encoding="utf-8"))
    return tuple(Demonstration.model_validate(one) for one in told["shots"])


def text_of(tokenizer: PreTrainedTokenizerBase, shots: Sequence[Demonstration]) -> str:
    """Return demonstrations as documents of a corpus: each prompt with its completion, and what ends it behind it."""
    prompts = [prompt_text(tokenizer, one.prompt) for one in shots]
    ends = [taught_end(tokenizer, one.prompt, prompt) for one, prompt in zip(shots, prompts, strict=True)]
    return "".join(
        f"{prompt}{one.completion}{tokenizer.decode([end])}" for prompt, one, end in zip(prompts, shots, ends, strict=True)
    )


def prompt_after(tokenizer: PreTrainedTokenizerBase, shots: Sequence[Demonstration], prompt: Prompt) -> str:
    """Return the text that a model reads before its response: demonstrations, then the prompt; without any, `prompt_text`.

    Before plain text they are documents (`text_of`). Before messages, and where plain text is a message, they are earlier turns,
    behind the prompt's own system message, so that the chat template writes them as it writes every conversation; their own
    system messages are left out.
    """
    form = format_of(tokenizer)
    if not shots or (isinstance(prompt, str) and not form.is_chat):
        return text_of(tokenizer, shots) + prompt_text(tokenizer, prompt)
    prompt = form.messages(prompt) if isinstance(prompt, str) else prompt
    system = tuple(message for message in prompt[:1] if message.role == "system")
    turns = tuple(turn for one in shots for turn in _turns(one))
    return prompt_text(tokenizer, (*system, *turns, *prompt[len(system) :]))


def _turns(shot: Demonstration) -> tuple[Message, ...]:
    asked = (Message(role="user", content=shot.prompt),) if isinstance(shot.prompt, str) else shot.prompt
    said = Message(role="assistant", content=shot.completion)
    return (*(message for message in asked if message.role != "system"), said)
