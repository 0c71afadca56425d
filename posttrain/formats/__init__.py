"""From the rows of public datasets to records: one function a format, and no file is touched here.

format     one row
gsm8k      {"question", "answer": "… <<48/2=24>>24 …\\n#### 72"}                                 arXiv:2110.14168
svamp      {"Body", "Question", "Equation": "( 76.0 - 25.0 )", "Answer": 51.0}                    arXiv:2103.07191
alpaca     {"instruction", "input", "output"}, also "system" and "history"
sharegpt   {"conversations": [{"from": "human", "value"}, {"from": "gpt", "value"}]}
hh         {"chosen": "\\n\\nHuman: …\\n\\nAssistant: …", "rejected": …}                          arXiv:2204.05862
trl        text | messages | prompt (+ completion (+ label) | + chosen, rejected), plain or as messages
openai     {"messages"} | {"input": {"messages"}, "preferred_output", "non_preferred_output"}
hub        rows of a Hugging Face dataset, read as whichever of these its columns show
records    our own form (posttrain/records.py)
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from pydantic import ValidationError

from posttrain.errors import DataError, RequestError, did_you_mean
from posttrain.formats.items import (
    ASSISTANT,
    Item,
    as_completion,
    as_list,
    as_messages,
    as_prompt,
    as_reference,
    guess,
    shown,
)
from posttrain.records import ANY_RECORD, Demonstration, Message, Preference, Prompt, Question, Rating, Record, Text

REFERENCE_FIELDS = ("reference_answer", "answer", "answers", "solution", "ground_truth", "reference", "expected")
"""Where reinforcement items keep what an answer is checked against, most telling name first."""

_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_WHOLE_FLOAT = re.compile(r"(?<![\w.])(\d+)\.0+(?![\w.])")
_TURN = re.compile(r"\n\n(Human|Assistant):")


def read(form: str, items: Iterable[Item]) -> Iterator[Record]:
    """Yield one record a row, in order; a record whose format gives no id is called `<format>-<row number>`.

    Raises:
        RequestError: there is no such format.
        DataError: a row does not have the format's form, two rows have one id, or there is no row at all.
    """
    reader = reader_of(form)
    seen: set[str] = set()
    item = None
    for item in items:
        if not isinstance(item.row, Mapping):
            item.fail(f"a row must be a JSON object, got {shown(item.row)}")
        item.form = form
        record = reader(item)
        if form == "records":
            if record.id in seen:
                item.fail(f"id must be unique, {record.id} was there before")
            seen.add(record.id)
        yield record
    if item is None:
        raise DataError("there is not one row to import. Check that the file is the one you meant and was written to its end")


def reader_of(form: str) -> Callable[[Item], Record]:
    """Return the function that reads one row of a format.

    Raises:
        RequestError: there is no such format.
    """
    if form not in FORMATS:
        raise RequestError(f"there is no format {form}{did_you_mean(form, FORMATS)}; formats are {', '.join(FORMATS)}")
    return FORMATS[form]


def gsm8k(item: Item) -> Record:
    """Read a grade-school problem; calculator annotations are dropped, since no calculator answers them here."""
    solution = item.text("answer")
    before, marker, answer = solution.rpartition("####")
    if not marker or not answer.strip():
        item.fail(f'answer must end in "#### <final answer>", got {shown(solution)}')
    completion = _CALCULATOR.sub("", before) + marker + answer.rstrip()
    return Demonstration(id=_id("gsm8k", item), prompt=item.text("question"), completion=completion, answer=answer.strip())


def svamp(item: Item) -> Record:
    """Read a SVAMP problem; its completion shows the equation, then "Answer: N"."""
    body = item.text("Body").strip()
    prompt = f"{body}{'' if body[-1:] in '.,?!' else ','} {item.text('Question').strip()}".strip()
    answer = as_reference(item, "Answer", item.get("Answer"))
    equation = _WHOLE_FLOAT.sub(r"\1", item.text("Equation")).strip()
    if equation.startswith("(") and equation.endswith(")") and equation.count("(") == 1:
        equation = equation[1:-1].strip()
    return Demonstration(
        id=_id("svamp", item), prompt=prompt, completion=f"{equation} = {answer}\nAnswer: {answer}", answer=answer
    )


def alpaca(item: Item) -> Record:
    """Read an instruction with its optional input and, where there are any, a system text and earlier rounds."""
    prompt = item.text("instruction")
    if item.row.get("input"):
        prompt = f"{prompt}\n\n{item.text('input')}"
    turns: list[Message] = []
    if item.row.get("system"):
        turns.append(Message(role="system", content=item.text("system")))
    for pair in as_list(item, "history", item.row.get("history") or []):
        if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            item.wrong("history", "a list of [instruction, output]", pair)
        turns += [Message(role="user", content=pair[0]), Message(role="assistant", content=pair[1])]
    whole: Prompt = (*turns, Message(role="user", content=prompt)) if turns else prompt
    return Demonstration(id=_id("alpaca", item), prompt=whole, completion=item.text("output"))


def sharegpt(item: Item) -> Record:
    """Read a conversation: its last gpt turn is the completion, what follows is dropped; `chosen`, `rejected` make a pair."""
    turns = as_messages(item, "conversations", item.get("conversations"), role="from", content="value")
    if item.row.get("system"):
        turns = (Message(role="system", content=item.text("system")), *turns)
    if "chosen" in item.row and "rejected" in item.row:
        (chosen,), (rejected,) = (
            as_messages(item, field, [item.row[field]], role="from", content="value") for field in ("chosen", "rejected")
        )
        prompt = as_prompt(item, "conversations", turns)
        return Preference(id=_id("sharegpt", item), prompt=prompt, chosen=chosen.content, rejected=rejected.content)
    last = max((place for place, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
    if last < 0:
        item.fail("conversations has no turn from gpt, so there is nothing to learn")
    prompt = as_prompt(item, "conversations", turns[:last])
    return Demonstration(id=_id("sharegpt", item), prompt=prompt, completion=turns[last].content)


def hh(item: Item) -> Record:
    """Read a pair of transcripts: what they share up to an assistant's turn is the prompt, what follows the two completions."""
    chosen, rejected = item.text("chosen"), item.text("rejected")
    shared = chosen.rfind(ASSISTANT)
    while shared >= 0 and not rejected.startswith(chosen[: shared + len(ASSISTANT)]):
        shared = chosen.rfind(ASSISTANT, 0, shared)
    if shared < 0:
        item.fail('chosen and rejected must share their start up to a "\\n\\nAssistant:", got ' + shown(chosen))
    after = shared + len(ASSISTANT)
    prompt = as_prompt(item, "chosen", _turns(chosen[:shared]))
    return Preference(id=_id("hh", item), prompt=prompt, chosen=_spoken(chosen[after:]), rejected=_spoken(rejected[after:]))


def trl(item: Item) -> Record:
    """Read TRL's standard and conversational types; unpaired preferences become ratings, 1 for a label that is true."""
    row, name = item.row, _id("trl", item)
    if "chosen" in row or "rejected" in row:
        return _pair(item, name)
    if "prompt" in row:
        if "completion" not in row:
            return Question(id=name, prompt=_any_prompt(item), answers=_references(item))
        prompt, completion = _any_prompt(item), as_completion(item, "completion", item.get("completion"))
        if "label" not in row:
            return Demonstration(id=name, prompt=prompt, completion=completion)
        if not isinstance(row["label"], bool):
            item.wrong("label", "true or false", row["label"])
        return Rating(id=name, prompt=prompt, completion=completion, score=float(row["label"]))
    if "messages" in row:
        return _conversation(item, name)
    return Text(id=name, text=item.text("text"))


def openai(item: Item) -> Record:
    """Read a chat to imitate, a preference, or a reinforcement item (messages that end with the user, and a reference field)."""
    name = _id("openai", item)
    if "input" not in item.row:
        return _conversation(item, name)
    source = item.get("input")
    if not isinstance(source, Mapping) or "messages" not in source:
        item.wrong("input", 'an object with "messages"', source)
    prompt = as_prompt(item, "input.messages", as_messages(item, "input.messages", source["messages"]))
    chosen, rejected = (as_completion(item, field, item.get(field)) for field in ("preferred_output", "non_preferred_output"))
    return Preference(id=name, prompt=prompt, chosen=chosen, rejected=rejected)


def hub(item: Item) -> Record:
    """Read a row of a Hugging Face dataset as the format that its columns show."""
    form = guess(item.row)
    if form is None:
        item.fail(
            f"no format has the columns {shown(', '.join(item.row))}",
            "Write the rows as JSON lines of format records (posttrain/records.py), then import with format=records",
        )
    return FORMATS[form](item)


def records(item: Item) -> Record:
    """Read a record in our own form; a missing id is filled in."""
    row = item.row if "id" in item.row else {**item.row, "id": _id("records", item)}
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
    "gsm8k": gsm8k,
    "svamp": svamp,
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
    """Return what `messages` hold: a demonstration if the assistant has the last word, else a question."""
    turns = as_messages(item, "messages", item.get("messages"))
    if turns and turns[-1].role == "assistant":
        return Demonstration(id=name, prompt=as_prompt(item, "messages", turns[:-1]), completion=turns[-1].content)
    return Question(id=name, prompt=as_prompt(item, "messages", turns), answers=_references(item))


def _pair(item: Item, name: str) -> Record:
    """Return TRL's preference, its prompt given, or implicit in what `chosen` and `rejected` have in common."""
    chosen, rejected = item.get("chosen"), item.get("rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if "prompt" in item.row:
            return Preference(id=name, prompt=_any_prompt(item), chosen=chosen, rejected=rejected)
        if _TURN.search(chosen):
            return hh(item).model_copy(update={"id": name})
        return _implicit_prompt(item, name, chosen, rejected)
    one, other = as_messages(item, "chosen", chosen), as_messages(item, "rejected", rejected)
    common = sum(1 for _ in _while_equal(one[:-1], other[:-1]))
    given = item.row.get("prompt")
    before: tuple[Message, ...] = one[:common]
    if isinstance(given, str) and not before:
        before = (Message(role="user", content=given),)
    elif given is not None and not isinstance(given, str):
        opening = as_messages(item, "prompt", given)
        before = before if before[: len(opening)] == opening else opening + before
    answers = [[{"role": turn.role, "content": turn.content} for turn in turns[common:]] for turns in (one, other)]
    prompt = as_prompt(item, "prompt" if given is not None else "chosen", before)
    return Preference(
        id=name,
        prompt=prompt,
        chosen=as_completion(item, "chosen", answers[0]),
        rejected=as_completion(item, "rejected", answers[1]),
    )


def _implicit_prompt(item: Item, name: str, chosen: str, rejected: str) -> Record:
    """Return the preference whose prompt is what two texts share, up to a word's start (TRL cuts "blue" | "black" at "bl")."""
    shared = _shared(chosen, rejected)
    while shared and not chosen[shared - 1].isspace():
        shared -= 1
    if not chosen[:shared].strip():
        item.fail("there is no field prompt, and chosen and rejected do not start with the same words")
    return Preference(id=name, prompt=chosen[:shared], chosen=chosen[shared:], rejected=rejected[shared:])


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


def _turns(text: str) -> tuple[Message, ...]:
    """Return the messages of a transcript; what stands before the first turn is the system's."""
    if text.startswith(("Human:", "Assistant:")):
        text = "\n\n" + text
    opening, *rest = _TURN.split(text)
    messages = [Message(role="system", content=opening)] if opening.strip() else []
    for speaker, said in zip(rest[::2], rest[1::2], strict=True):
        messages.append(Message(role="user" if speaker == "Human" else "assistant", content=_spoken(said)))
    return tuple(messages)


def _spoken(text: str) -> str:
    return text.removeprefix(" ")


def _references(item: Item) -> tuple[str, ...]:
    """Return what the row gives to check an answer against; () where it gives nothing."""
    for field in REFERENCE_FIELDS:
        value = item.row.get(field)
        if isinstance(value, list | tuple):
            return tuple(as_reference(item, field, answer) for answer in value)
        if value is not None:
            return (as_reference(item, field, value),)
    return ()
