"""From the rows of public datasets to records: one function a format, and no file is touched here.

format     one row
gsm8k      {"question", "answer": "… <<48/2=24>>24 …\\n#### 72"}                                 arXiv:2110.14168
           or MATH's {"problem", "solution": "… \\boxed{72}"}, MMLU's {"question", "choices", "answer": 1}
svamp      {"Body", "Question", "Equation": "( 76.0 - 25.0 )", "Answer": 51.0}                    arXiv:2103.07191
qa         {"question", "answer"}, with or without the way to it
alpaca     {"instruction", "input", "output" | "chosen", "rejected"}, also "system" and "history"
sharegpt   {"conversations": [{"from": "human", "value"}, {"from": "gpt", "value"}]} (+ chosen, rejected)
hh         {"chosen": "\\n\\nHuman: …\\n\\nAssistant: …", "rejected": …}                          arXiv:2204.05862
trl        text | messages | prompt (+ completion (+ label) | + chosen, rejected), plain or as messages
openai     {"messages"} | {"input": {"messages"}, "preferred_output", "non_preferred_output"}
hub        rows of a Hugging Face dataset, read as whichever of these its columns show
records    our own form (posttrain/records.py)

What stands in a row beside these is never dropped without a word: posttrain/data/formats/fields.py.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from math import isfinite
from typing import Any

from pydantic import ValidationError

from posttrain.data.formats import pairs, questions
from posttrain.data.formats.fields import demonstration, references, settle
from posttrain.data.formats.items import Item, as_list, shown
from posttrain.data.formats.pairs import ASSISTANT, instruction, pair, preference, same_question
from posttrain.data.formats.turns import as_completion, as_messages, as_prompt, as_text_of_tools, is_learnt
from posttrain.errors import DataError, RequestError, did_you_mean
from posttrain.records import ANY_RECORD, Message, Prompt, Question, Record, Text

LOOKED_AT = 20
"""Rows, at most, from which the format is guessed where nobody named it."""
HINTED = 10
"""Bad rows for which another format is looked for; no more of them are told."""
MOST_NOTES = 100
"""Different notes that are kept: rows with names of their own making must not fill the memory."""

BadRow = Callable[[Item, DataError], None]


def read(
    form: str, items: Iterable[Item], *, notes: Counter[str] | None = None, on_bad: BadRow | None = None
) -> Iterator[Record]:
    """Yield one record a row, in order; a record whose format gives no id is called `<format>-<row number>`.

    Args:
        form: a name in `FORMATS`, in any case.
        items: the rows.
        notes: receives what the user should hear about rows, and of how many each holds.
        on_bad: is told of a row that cannot be read; without it, the first such row ends the reading.

    Raises:
        RequestError: there is no such format.
        DataError: a row does not have the format's form, two rows have one id, or there is no row at all.
    """
    form = format_named(form)
    seen: set[str] = set()
    item, bad = None, 0
    for item in items:
        item.hint = suggestion if bad < HINTED else None
        try:
            record = record_of(form, item)
            if form == "records":
                if record.id in seen:
                    item.fail(f"id must be unique, {record.id} was there before")
                seen.add(record.id)
        except DataError as error:
            if on_bad is None:
                raise
            on_bad(item, error)
            bad += 1
            continue
        if isinstance(record, Question) and not record.answers:
            item.note("a question that has nothing to check an answer against")
        if notes is not None:
            notes.update({note: count for note, count in item.notes.items() if note in notes or len(notes) < MOST_NOTES})
        yield record
    if item is None:
        raise DataError("there is not one row to import. Check that the file is the one you meant and was written to its end")


def record_of(form: str, item: Item) -> Record:
    """Return what one row says.

    Raises:
        DataError: the row does not have the format's form, or holds what would have to be dropped.
    """
    if item.fault:
        item.fail(item.fault, item.remedy)
    if not isinstance(item.row, Mapping):
        item.fail(f"a row must be a JSON object, got {shown(item.row)}")
    item.form, item.used = form, set()
    record = FORMATS[form](item)
    return record if form == "records" or item.form == "records" else settle(item, record)


def format_named(form: str) -> str:
    """Return the name of a format that was asked for in any case.

    Raises:
        RequestError: there is no such format.
    """
    known = form.strip().casefold()
    if known not in FORMATS:
        raise RequestError(f"there is no format {form}{did_you_mean(known, FORMATS)}; formats are {', '.join(FORMATS)}")
    return known


def recognised(items: Iterable[Item]) -> tuple[str, Iterator[Item]]:
    """Return the format that reads the first row which any format reads, else the likeliest, and all the rows.

    Raises:
        DataError: none of the first rows is of a known form.
    """
    rows = iter(items)
    first = list(islice(rows, LOOKED_AT))
    for item in first:
        form = suggestion(item)
        if form:
            return form, chain(first, rows)
    if not first:
        raise DataError("there is not one row to import. Check that the file is the one you meant and was written to its end")
    likely = next((form for item in first if isinstance(item.row, Mapping) and (form := guess(item.row))), None)
    if likely:  # it will say what is wrong with the rows
        return likely, chain(first, rows)
    if first[0].fault:
        first[0].fail(first[0].fault, first[0].remedy)
    fields = shown(", ".join(map(str, first[0].row))) if isinstance(first[0].row, Mapping) else shown(first[0].row)
    return first[0].fail(
        f"no format reads these rows, whose fields are {fields}",
        f"Name the format, FORMAT={'|'.join(form for form in FORMATS if form != 'hub')}, to hear what is wrong, "
        'or what the columns are: MAP="prompt=<column> completion=<column>"',
    )


def suggestion(item: Item) -> str | None:
    """Return a format that reads a row, tried, the most likely first; None where none does."""
    if item.fault or not isinstance(item.row, Mapping):
        return None
    for form in dict.fromkeys([guess(item.row), *FORMATS]):
        if form is None or form in ("hub", item.form):
            continue
        trial = Item(item.row, source=item.source, unit=item.unit, number=item.number)
        try:
            record_of(form, trial)
        except DataError:
            continue
        return form
    return None


def guess(row: Mapping[str, Any]) -> str | None:
    """Return the format whose fields a row has, the most specific first; None where no format fits."""
    fields = row.keys()
    if {"kind", "prompt"} <= fields or {"kind", "text"} <= fields:
        return "records"
    if {"Body", "Question"} <= fields:
        return "svamp"
    if "conversations" in fields:
        return "sharegpt"
    if {"chosen", "rejected"} <= fields:
        if "instruction" in fields:
            return "alpaca"
        return "hh" if "prompt" not in fields and ASSISTANT in str(row["chosen"]) else "trl"
    if {"question", "answer"} <= fields:
        return "gsm8k" if "####" in str(row["answer"]) else "qa"
    if "instruction" in fields and fields & {"output", "response"}:
        return "alpaca"
    if {"input", "preferred_output"} <= fields:
        return "openai"
    if fields & {"prompt", "messages", "text"}:
        return "trl"
    return "qa" if fields & {"question", "problem", "query"} else None


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
