"""Preferences: two completions, the prompt before them, and by how much the better one is better."""

import re
from collections.abc import Iterator

from posttrain.data.formats.fields import PROMPT_FIELDS, margin_of
from posttrain.data.formats.items import Item
from posttrain.data.formats.turns import as_completion, as_messages, as_prompt
from posttrain.records import Message, Preference, Prompt

ASSISTANT = "\n\nAssistant:"
"""How a transcript of the HH data opens an assistant's turn."""
TURN = re.compile(r"\n\n(Human|Assistant):")


def preference(item: Item, *, name: str, prompt: Prompt, chosen: str, rejected: str) -> Preference:
    """Return the preference with the margin that the row gives."""
    return Preference(id=name, prompt=prompt, chosen=chosen, rejected=rejected, margin=margin_of(item))


def given_prompt(item: Item) -> Prompt | None:
    """Return the prompt that has a field of its own, an instruction with its input; None where there is no such field."""
    for field in PROMPT_FIELDS:
        if not item.has(field):
            continue
        value = item.get(field)
        if field == "instruction":
            return instruction(item)
        if isinstance(value, list | tuple):
            return as_prompt(item, field, as_messages(item, field, value))
        return value if isinstance(value, str) else item.wrong(field, "text or a list of messages", value)
    return None


def instruction(item: Item) -> str:
    """Return an instruction with the input, or the context, that it is about."""
    text = item.text("instruction")
    for field in ("input", "context"):
        if item.has(field) and item.row[field] != "<noinput>":
            text = f"{text}\n\n{item.text(field)}"
        item.used.add(field)
    return text


def pair(item: Item, name: str) -> Preference:
    """Return TRL's preference, its prompt given, or implicit in what `chosen` and `rejected` have in common."""
    chosen, rejected = item.get("chosen"), item.get("rejected")
    given = given_prompt(item)
    if isinstance(chosen, str) and isinstance(rejected, str):
        if given is not None:
            return preference(item, name=name, prompt=given, chosen=chosen, rejected=rejected)
        if TURN.search(chosen):
            return hh(item, name)
        return _implicit_prompt(item, name, chosen, rejected)
    one, other = _turns_of(item, "chosen"), _turns_of(item, "rejected")
    common = sum(1 for _ in _while_equal(one[:-1], other[:-1]))
    before = _before(item, given, one[:common])
    answers = [[{"role": turn.role, "content": turn.content} for turn in turns[common:]] for turns in (one, other)]
    return preference(
        item,
        name=name,
        prompt=as_prompt(item, "chosen" if given is None else "prompt", before),
        chosen=as_completion(item, "chosen", answers[0]),
        rejected=as_completion(item, "rejected", answers[1]),
    )


def _turns_of(item: Item, field: str) -> tuple[Message, ...]:
    value = item.get(field)
    return as_messages(item, field, [value] if isinstance(value, dict) else value)


def _before(item: Item, given: Prompt | None, shared: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages before the completions, from a prompt of its own and from what the conversations share."""
    if given is None:
        return shared
    if isinstance(given, str):
        if not shared:
            return (Message(role="user", content=given),)
        same_question(item, given, shared, field="chosen and rejected")
        return shared
    if shared[: len(given)] == given:
        return shared
    if any(turn.role == "user" for turn in given) and shared and given[-1].role != "assistant":
        item.fail("prompt is not how the messages of chosen and rejected begin, so they answer something else")
    return given + shared


def same_question(item: Item, prompt: str, turns: tuple[Message, ...], *, field: str) -> None:
    """Refuse a prompt that none of the user's turns repeats: then the row says two things."""
    if not any(turn.role == "user" and turn.content.strip() == prompt.strip() for turn in turns):
        item.fail(f"prompt is {prompt[:60]!r}, but in {field} the user does not say that, so the row contradicts itself")


def _implicit_prompt(item: Item, name: str, chosen: str, rejected: str) -> Preference:
    """Return the preference whose prompt is what two texts share, up to a word's start (TRL cuts "blue" | "black" at "bl")."""
    shared = _shared(chosen, rejected)
    while shared and not chosen[shared - 1].isspace():
        shared -= 1
    if not chosen[:shared].strip():
        item.fail(
            f"there is no field prompt, and chosen and rejected do not start with the same words{item.other_format()}",
            'Name the column that holds the prompt: MAP="prompt=<column>"',
        )
    item.note("a pair without a prompt: what chosen and rejected share at their start was taken for it")
    return preference(item, name=name, prompt=chosen[:shared], chosen=chosen[shared:], rejected=rejected[shared:])


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their start, by bisection."""
    same, most = 0, min(len(one), len(other))
    while same < most:
        middle = (same + most + 1) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same


def _while_equal(one: tuple[Message, ...], other: tuple[Message, ...]) -> Iterator[Message]:
    for left, right in zip(one, other, strict=False):
        if left != right:
            return
        yield left


def hh(item: Item, name: str) -> Preference:
    """Read a pair of transcripts: what they share up to an assistant's turn is the prompt, that turn of each the completions."""
    chosen, rejected = item.text("chosen"), item.text("rejected")
    shared = chosen.rfind(ASSISTANT)
    while shared >= 0 and not rejected.startswith(chosen[: shared + len(ASSISTANT)]):
        shared = chosen.rfind(ASSISTANT, 0, shared)
    if shared < 0:
        item.fail('chosen and rejected must share their start up to a "\\n\\nAssistant:", got ' + repr(chosen[:60]))
    after = shared + len(ASSISTANT)
    one, other = TURN.split(chosen[after:], maxsplit=1), TURN.split(rejected[after:], maxsplit=1)
    if len(one) > 1 or len(other) > 1:
        item.note("transcripts that part before their last turn: the pair is made of the first turns that differ")
    prompt = as_prompt(item, "chosen", _transcript(chosen[:shared]))
    return preference(item, name=name, prompt=prompt, chosen=_spoken(one[0]), rejected=_spoken(other[0]))


def _transcript(text: str) -> tuple[Message, ...]:
    """Return the messages of a transcript; what stands before the first turn is the system's."""
    if text.startswith(("Human:", "Assistant:")):
        text = "\n\n" + text
    opening, *rest = TURN.split(text)
    messages = [Message(role="system", content=opening)] if opening.strip() else []
    for speaker, said in zip(rest[::2], rest[1::2], strict=True):
        messages.append(Message(role="user" if speaker == "Human" else "assistant", content=_spoken(said)))
    return tuple(messages)


def _spoken(text: str) -> str:
    return text.removeprefix(" ")
