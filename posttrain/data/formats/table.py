"""The formats that can be read, and a function each that reads one row."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

from pydantic import ValidationError

from posttrain.data.formats import pairs, questions
from posttrain.data.formats.fields import demonstration, references
from posttrain.data.formats.guess import guess
from posttrain.data.formats.items import Item, as_list, shown
from posttrain.data.formats.pairs import instruction, pair, preference, same_question
from posttrain.data.formats.turns import as_completion, as_messages, as_prompt, as_text_of_tools, is_learnt
from posttrain.records import ANY_RECORD, Message, Prompt, Question, Record, Text


def alpaca(item: Item) -> Record:
    """Read an instruction with its optional input and earlier rounds, and its output, or two of which one is better."""
    prompt, name = instruction(item), _id("alpaca", item)
    turns: list[Message] = []
    for round_ in as_list(item, "history", item.get("history") if item.has("history") else []):
        if not isinstance(round_, Sequence) or len(round_) != 2 or not all(isinstance(part, str) for part in round_):
            item.wrong("history", "a list of [instruction, output]", round_)
        turns += [Message(role="user", content=round_[0]), Message(role="assistant", content=round_[1])]
    item.used |= {"history", "text"}  # text is the row again, written out
    whole: Prompt = (*turns, Message(role="user", content=prompt)) if turns else prompt
    if "chosen" in item.row or "rejected" in item.row:
        return preference(item, name=name, prompt=whole, chosen=item.text("chosen"), rejected=item.text("rejected"))
    output = "response" if "output" not in item.row and "response" in item.row else "output"
    return demonstration(item, name=name, prompt=whole, completion=item.text(output))


def sharegpt(item: Item) -> Record:
    """Read a conversation: its last assistant's turn is the completion; `chosen`, `rejected` make a pair."""
    name, said = _id("sharegpt", item), item.get("conversations")
    turns = as_messages(item, "conversations", said)
    if "chosen" in item.row or "rejected" in item.row:
        answers = [as_completion(item, field, item.get(field)) for field in ("chosen", "rejected")]
        prompt = as_prompt(item, "conversations", turns)
        return preference(item, name=name, prompt=prompt, chosen=answers[0], rejected=answers[1])
    last = max((place for place, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
    if last < 0:
        item.fail("conversations has no turn from gpt, so there is nothing to learn")
    if last + 1 < len(turns):
        item.note("a conversation that goes on after the assistant's last turn: what follows is left out")
    return _last_turn(item, name, "conversations", said[: last + 1], turns[: last + 1])


def hh(item: Item) -> Record:
    """Read a pair of transcripts, in the form of Anthropic's HH data."""
    return pairs.hh(item, _id("hh", item))


def trl(item: Item) -> Record:
    """Read TRL's standard and conversational types; unpaired preferences become ratings, 1 for a label that is true."""
    name = _id("trl", item)
    if "chosen" in item.row or "rejected" in item.row:
        return pair(item, name)
    completion = next((field for field in ("completion", "response") if field in item.row), "")
    if "messages" in item.row and not completion:
        return _conversation(item, name)
    if "prompt" in item.row:
        prompt = _any_prompt(item)
        if not completion:
            return Question(id=name, prompt=prompt, answers=references(item))
        said = as_completion(item, completion, item.get(completion))
        return demonstration(item, name=name, prompt=prompt, completion=said)
    if "text" not in item.row:
        item.get("prompt")  # says what there is instead
    return Text(id=name, text=item.text("text"))


def openai(item: Item) -> Record:
    """Read a chat to imitate, a preference, or a reinforcement item (messages that end with the user, and a reference field)."""
    name = _id("openai", item)
    if "input" not in item.row:
        return _conversation(item, name)
    source = item.get("input")
    if not isinstance(source, Mapping) or "messages" not in source:
        item.wrong("input", 'an object with "messages"', source)
    turns = as_messages(item, "input.messages", source["messages"])
    if tools := as_text_of_tools(item, "input.tools", source.get("tools")):
        turns = (Message(role="system", content=tools), *turns)
    prompt = as_prompt(item, "input.messages", turns)
    chosen, rejected = (as_completion(item, field, item.get(field)) for field in ("preferred_output", "non_preferred_output"))
    return preference(item, name=name, prompt=prompt, chosen=chosen, rejected=rejected)


def hub(item: Item) -> Record:
    """Read a row of a Hugging Face dataset as the format that its columns show."""
    form = guess(item.row)
    if form is None:
        item.fail(
            f"no format has the columns {shown(', '.join(item.row))}",
            'Say what the columns are, for example MAP="prompt=<column> completion=<column>"',
        )
    item.form = form
    return FORMATS[form](item)


def records(item: Item) -> Record:
    """Read a record in our own form; a missing id is filled in."""
    row = item.row if "id" in item.row else {**item.row, "id": _id("records", item)}
    for field in ("margin", "score", "low", "high"):
        if isinstance(row.get(field), float) and not isfinite(row[field]):
            item.wrong(field, "a finite number", row[field])
    try:
        return ANY_RECORD.validate_python(row)
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["type"].startswith("union_tag"):
            kinds = "text, demonstration, question, preference, rating, ranking"
            item.fail(f"kind must be one of {kinds}, got {shown(row.get('kind'))}")
        field = ".".join(str(part) for part in problem["loc"][1:])
        if problem["type"] == "missing":
            item.fail(f"there is no field {field}, which a {row['kind']} needs")
        if problem["type"] == "extra_forbidden":
            item.fail(f"a {row['kind']} has no field {field}")
        reason = problem["msg"].removeprefix("Value error, ")
        item.fail(f"{field or row['kind']}: {reason[:1].lower()}{reason[1:]}, got {shown(problem['input'])}")


FORMATS: dict[str, Callable[[Item], Record]] = {
    "gsm8k": questions.gsm8k,
    "svamp": questions.svamp,
    "qa": questions.qa,
    "reft": questions.reft,
    "alpaca": alpaca,
    "sharegpt": sharegpt,
    "hh": hh,
    "trl": trl,
    "openai": openai,
    "hub": hub,
    "records": records,
}


def _id(form: str, item: Item) -> str:
    return f"{form}-{item.number}"


def _any_prompt(item: Item) -> Prompt:
    value = item.get("prompt")
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        item.wrong("prompt", "text or a list of messages", value)
    return as_prompt(item, "prompt", as_messages(item, "prompt", value))


def _conversation(item: Item, name: str) -> Record:
    """Return what `messages` hold: a pair, a demonstration if the assistant has the last word, else a question."""
    said = item.get("messages")
    turns = as_messages(item, "messages", said)
    prompt = item.get("prompt") if item.has("prompt") else None
    if isinstance(prompt, str):
        same_question(item, prompt, turns, field="messages")
    elif prompt is not None and turns[: len(prompt)] != as_messages(item, "prompt", prompt):
        item.fail("prompt is not how messages begin, so the row contradicts itself")
    if not turns or turns[-1].role != "assistant":
        return Question(id=name, prompt=as_prompt(item, "messages", turns), answers=references(item))
    if item.has("rejected_response"):  # the form of ms-swift: the last turn is the better one
        rejected = as_completion(item, "rejected_response", item.get("rejected_response"))
        before = as_prompt(item, "messages", turns[:-1])
        return preference(item, name=name, prompt=before, chosen=turns[-1].content, rejected=rejected)
    return _last_turn(item, name, "messages", said, turns)


def _last_turn(item: Item, name: str, field: str, said: Sequence[Any], turns: Sequence[Message]) -> Record:
    """Return the last turn of a conversation as what is learnt, the others as its prompt."""
    is_learnt(item, said)
    if any(turn.role == "assistant" for turn in turns[:-1]):
        item.note("a conversation of several rounds: the assistant's last turn is learnt, the earlier ones are its context")
    prompt = as_prompt(item, field, tuple(turns[:-1]))
    return demonstration(item, name=name, prompt=prompt, completion=turns[-1].content)
