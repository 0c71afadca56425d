"""Turns of a conversation, as public datasets write them, become messages; nothing that a turn says is dropped.

What has no place of its own in a message becomes text in it, in the form that the chat templates of Hermes and Qwen write, so
that every stage sees it (the gate, the split, a judge) and a model can learn it as a completion:

    reasoning_content, thinking       <think>…</think> before what the assistant says
    tool_calls, function_call         <tool_call>{"name": …, "arguments": …}</tool_call> after it
    tools, functions                  <tools>…</tools> in the system message
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from pydantic_core import from_json

from posttrain.data.formats.items import Item, as_list, is_nothing, shown
from posttrain.records import Message

Role = Literal["system", "user", "assistant", "tool"]

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
}
"""What the formats call the speakers."""

CALLERS = ("function_call", "tool_call")
"""Speakers whose whole turn is a call."""
SPEAKER, SAID = ("role", "from"), ("content", "value")
REASONING = ("reasoning_content", "reasoning", "thinking")
CALLS = ("tool_calls", "function_call")
TURN_MEDIA = ("images", "image", "videos", "video", "audios", "audio")
WEIGHTS = ("weight", "loss_weight", "train", "learn")
"""0 or false in the assistant's last turn: the dataset does not want it learnt."""


def as_messages(item: Item, field: str, value: Any) -> tuple[Message, ...]:
    """Return a list of turns, `role` and `content` or `from` and `value`, as messages.

    Raises:
        DataError: a turn has no speaker or says nothing, or holds what is no text.
    """
    return tuple(as_message(item, f"{field}[{place}]", turn) for place, turn in enumerate(as_list(item, field, value)))


def as_message(item: Item, field: str, turn: Any) -> Message:
    """Return one turn as a message."""
    if not isinstance(turn, Mapping) or not any(name in turn for name in SPEAKER):
        item.wrong(field, 'an object with "role" and "content", or "from" and "value"', turn)
    who = next(name for name in SPEAKER if name in turn)
    said = next((name for name in SAID if name in turn), SAID[0])
    role = ROLES.get(turn[who].casefold()) if isinstance(turn[who], str) else None
    if role is None:
        item.wrong(f"{field}.{who}", f"one of {', '.join(ROLES)}", turn[who])
    for name in TURN_MEDIA:
        if not is_nothing(turn.get(name)):
            item.fail(f"{field} holds {name}, which cannot be learnt by a model of text")
    calls = _calls(item, field, turn)
    text = _said(item, f"{field}.{said}", turn, said, may_be_null=bool(calls))
    if turn[who].casefold() in CALLERS:
        text = _call_text(item, f"{field}.{said}", text)
    return Message(role=role, content="\n".join(part for part in (_reasoning(item, field, turn) + text, *calls) if part))


def _said(item: Item, field: str, turn: Mapping[str, Any], name: str, *, may_be_null: bool) -> str:
    """Return what is said in a turn: text, or the text parts of a list; a refusal where there is nothing else."""
    said = turn.get(name)
    if said is None:
        refusal = turn.get("refusal")
        if isinstance(refusal, str) and refusal:
            return refusal
        if may_be_null:
            return ""
        item.fail(f"{field} is null" if name in turn else f"there is no {field}")
    if isinstance(said, list | tuple):
        return "".join(_part(item, f"{field}[{place}]", part) for place, part in enumerate(said))
    return said if isinstance(said, str) else item.wrong(field, "text or a list of parts", said)


def _part(item: Item, field: str, part: Any) -> str:
    """Return the text of one part of a content, which names its type."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        item.wrong(field, "a part with its type and text", part)
    text = part.get("text", part.get("value"))
    if part.get("type", "text") in ("text", "input_text", "output_text") and isinstance(text, str):
        return text
    if part.get("type") in ("reasoning", "thinking") and isinstance(text, str):
        return _thought(text)
    return item.fail(f"{field} is of type {shown(part.get('type'))}, and only text can be learnt here")


def _reasoning(item: Item, field: str, turn: Mapping[str, Any]) -> str:
    for name in REASONING:
        thought = turn.get(name)
        if not is_nothing(thought):
            return _thought(thought) if isinstance(thought, str) else item.wrong(f"{field}.{name}", "text", thought)
    return ""


def _thought(text: str) -> str:
    return f"<think>\n{text.strip()}\n</think>\n\n"


def _calls(item: Item, field: str, turn: Mapping[str, Any]) -> list[str]:
    """Return the calls of tools that a turn makes, each as text."""
    made = []
    for name in CALLS:
        value = turn.get(name)
        if is_nothing(value):
            continue
        listed = [value] if isinstance(value, Mapping) else as_list(item, f"{field}.{name}", value)
        for place, call in enumerate(listed):
            inner = call.get("function", call) if isinstance(call, Mapping) else call
            made.append(_one_call(item, f"{field}.{name}[{place}]", inner))
    return made


def _call_text(item: Item, field: str, text: str) -> str:
    """Return a turn that is one call, or a list of calls, written as JSON."""
    try:
        value = from_json(text)
    except ValueError:
        return _tagged(text.strip())
    calls = value if isinstance(value, list) else [value]
    return "\n".join(_one_call(item, field, call) if isinstance(call, dict) and call else _tagged(text) for call in calls)


def _one_call(item: Item, field: str, call: Any) -> str:
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        item.wrong(field, "a call with a name and arguments", call)
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):
        with suppress(ValueError):  # a broken call, which a dataset may show on purpose, is kept as the text that it is
            arguments = from_json(arguments)
    return _tagged(json.dumps({"name": call["name"], "arguments": arguments}, ensure_ascii=False))


def _tagged(call: str) -> str:
    return f"<tool_call>\n{call}\n</tool_call>"


def as_text_of_tools(item: Item, field: str, value: Any) -> str:
    """Return the tools that may be called, one a line, as a part of the system message; "" where there is none."""
    if isinstance(value, str):
        try:
            value = from_json(value)
        except ValueError:
            item.wrong(field, "a list of tools, or one written as JSON", value)
    listed = [value] if isinstance(value, Mapping) and value else as_list(item, field, value or [])
    lines = "\n".join(json.dumps(tool, ensure_ascii=False, default=str) for tool in listed)
    return f"You may call these tools:\n<tools>\n{lines}\n</tools>" if listed else ""


def is_learnt(item: Item, turns: Any) -> None:
    """Refuse a conversation whose last turn the dataset marks as one not to learn."""
    last = turns[-1] if isinstance(turns, list | tuple) and turns else None
    for name in WEIGHTS:
        if isinstance(last, Mapping) and name in last and last[name] in (0, False):
            item.fail(f"the last turn has {name}: {last[name]}, so the dataset does not want it learnt, and nothing else is left")


def as_prompt(item: Item, field: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages before a completion, one of which must be the user's."""
    if not any(message.role == "user" for message in messages):
        item.fail(f"{field} must hold a user's turn before the assistant's completion, got {len(messages)} turns before it")
    return messages


def as_completion(item: Item, field: str, value: Any) -> str:
    """Return a completion given as text, as one assistant message, or as a list of one."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list | tuple):
        item.wrong(field, "text or one assistant message", value)
    turns = as_messages(item, field, value)
    if len(turns) != 1 or turns[0].role != "assistant":
        item.wrong(field, "text or one assistant message", [turn.role for turn in turns])
    return turns[0].content
