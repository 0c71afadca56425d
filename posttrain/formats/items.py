"""A row of a source on its way to a record: what its fields hold, or the sentence that says what is wrong and where."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn

from pydantic_core import to_json

from posttrain.errors import DataError
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
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""What the formats call the speakers."""

ASSISTANT = "\n\nAssistant:"
"""How a transcript of the HH data opens an assistant's turn."""


class Item:
    """A row of a source, and where it came from, for the sentence that a fault is told in."""

    __slots__ = ("form", "number", "row", "source", "unit")

    def __init__(self, row: Any, *, source: str, unit: str, number: int) -> None:
        self.form = ""
        self.row = row
        self.source = source
        self.unit = unit
        self.number = number

    def fail(self, problem: str, remedy: str = "") -> NoReturn:
        """Raise the DataError that says where, what and what to do."""
        remedy = remedy or f"Correct or drop this {self.unit}, then import again"
        number = f"[{self.number}]" if self.unit == "item" else self.number
        raise DataError(f"{self.source} {self.unit} {number}: {problem}. {remedy}")

    def get(self, field: str) -> Any:
        """Return a field that must be there."""
        try:
            return self.row[field]
        except KeyError:
            other = guess(self.row)
            hint = f". The fields are those of format={other}" if other and other != self.form else ""
            self.fail(f"there is no field {field} (there is: {shown(', '.join(self.row))}){hint}")

    def text(self, field: str) -> str:
        """Return a field that must be there and be text."""
        value = self.get(field)
        return value if isinstance(value, str) else self.wrong(field, "text", value)

    def wrong(self, field: str, wanted: str, value: Any) -> NoReturn:
        """Raise the DataError for a value of the wrong type."""
        self.fail(f"{field} must be {wanted}, got {shown(value)}")


def guess(row: Mapping[str, Any]) -> str | None:
    """Return the format whose fields a row has, the most specific first; None where no format fits."""
    fields = row.keys()
    if {"kind", "prompt"} <= fields or {"kind", "text"} <= fields:
        return "records"
    if {"Body", "Question"} <= fields:
        return "svamp"
    if {"question", "answer"} <= fields:
        return "gsm8k"
    if {"instruction", "output"} <= fields:
        return "alpaca"
    if "conversations" in fields:
        return "sharegpt"
    if {"input", "preferred_output"} <= fields:
        return "openai"
    if {"chosen", "rejected"} <= fields and "prompt" not in fields and ASSISTANT in str(row["chosen"]):
        return "hh"
    return "trl" if fields & {"prompt", "messages", "text"} or {"chosen", "rejected"} <= fields else None


def shown(value: Any) -> str:
    """Return a value as it is quoted in a message: its first 60 characters."""
    text = value if isinstance(value, str) else repr(value)
    return repr(text[:60] + "…") if len(text) > 60 else repr(value)


def as_list(item: Item, field: str, value: Any) -> Sequence[Any]:
    """Return a value that must be a list."""
    return value if isinstance(value, list | tuple) else item.wrong(field, "a list", value)


def as_messages(item: Item, field: str, value: Any, *, role: str = "role", content: str = "content") -> tuple[Message, ...]:
    """Return a list of turns as messages; text parts of a multi-part content are joined, any other part is refused."""
    messages = []
    for place, turn in enumerate(as_list(item, field, value)):
        if not isinstance(turn, Mapping) or role not in turn or content not in turn:
            item.wrong(f"{field}[{place}]", f'an object with "{role}" and "{content}"', turn)
        speaker, said = ROLES.get(turn[role]) if isinstance(turn[role], str) else None, turn[content]
        if speaker is None:
            item.wrong(f"{field}[{place}].{role}", f"one of {', '.join(ROLES)}", turn[role])
        if isinstance(said, list):
            parts = [part.get("text") if isinstance(part, Mapping) else None for part in said]
            said = said if None in parts else "".join(str(part) for part in parts)
        if not isinstance(said, str):
            item.wrong(f"{field}[{place}].{content}", "text (calls of tools, images and audio cannot be learnt here)", said)
        messages.append(Message(role=speaker, content=said))
    return tuple(messages)


def as_prompt(item: Item, field: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages before a completion, one of which must be the user's."""
    if not any(message.role == "user" for message in messages):
        item.fail(f"{field} must hold a user's turn before the assistant's completion, got {len(messages)} turns before it")
    return messages


def as_completion(item: Item, field: str, value: Any) -> str:
    """Return a completion given as text, or as a list of one assistant message."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        item.wrong(field, "text or one assistant message", value)
    turns = as_messages(item, field, value)
    if len(turns) != 1 or turns[0].role != "assistant":
        item.wrong(field, "text or one assistant message", [turn.role for turn in turns])
    return turns[0].content


def as_reference(item: Item, field: str, value: Any) -> str:
    """Return one reference answer as text: 51.0 as "51", an object as JSON."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Mapping):
        return to_json(value).decode()
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        item.wrong(field, "text or a number", value)
    return str(value)
