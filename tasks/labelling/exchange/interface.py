"""What a form of labels is: how it is written, and what reading it comes to, line by line or task by task."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posttrain.digests import text_digest
from posttrain.errors import DataError
from posttrain.feedback.labels import Label
from posttrain.records import Prompt

OF_PAIR = (
    "prompt",
    "question",
    "family",
    "first",
    "second",
    "first_model",
    "second_model",
    "first_finished",
    "second_finished",
    "gold",
)
"""Fields of a label that say what was shown: those who were shown the same share one task, trace or record."""
PREFERENCE = "preference"
"""What the question is called where a form names it."""
FIRST, SECOND, EQUAL = "first", "second", "equal"
CHOICES = {FIRST: 1.0, SECOND: 0.0, EQUAL: 0.5}
"""What forms without numbers call a choice."""
OF_ASKED = ("selection", "prompt_version")
"""Fields that are told of a pair which is still to be labelled, so that its labels have them too."""
LONGEST = 60
"""Characters of a value that an error repeats."""


@dataclass(frozen=True)
class Draft:
    """What a place of a foreign file says of one label, as far as its form holds it.

    Attributes:
        where: "line 3", "task 2, annotation 1".
        fields: of a `Label`, as JSON has them; what the form does not hold is not there.
        notes: what somebody should know of how it was read.
    """

    where: str
    fields: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Passed:
    """A place of a foreign file that holds no label, and need not: somebody skipped it, or a model wrote it."""

    where: str
    why: str


@dataclass(frozen=True)
class Bad:
    """A place of a foreign file that cannot be used: what is wrong, and what to do."""

    where: str
    problem: str


Found = Draft | Passed | Bad


@dataclass(frozen=True)
class Form:
    """A form in which labels are exchanged.

    Attributes:
        name: behind EXPORT and IMPORT.
        says: what it is.
        loses: fields of a label that it does not hold, or not for ever, and why.
        write: gives the text of a file with these labels.
        ask: gives the text of a file with these pairs, labelled or not; None for a form that holds labels alone.
        read: gives what each place of such a file says.
        beside: files that are written with it, by what their names end in.
    """

    name: str
    says: str
    loses: str
    write: Callable[[Sequence[Label]], str]
    read: Callable[[str], Iterator[Found]]
    ask: Callable[[Sequence["ShownPair"]], str] | None = None
    beside: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownPair:
    """What was shown, and the labels that it was given.

    Attributes:
        name: a digest of what was shown, the same in every export.
        fields: of a `Label`, those of `OF_PAIR` that are set; of a pair that is still to be labelled those of `OF_ASKED` too.
        labels: the rest of each label.
    """

    name: str
    fields: Mapping[str, Any]
    labels: Sequence[Mapping[str, Any]]


def listed(row: Callable[[ShownPair], Mapping[str, Any]], **rest: Any) -> Form:
    """Return a form whose file is a JSON list, with a value for each pair that was shown.

    Args:
        row: gives the value of a pair.
        rest: of the form.
    """

    def ask(pairs: Sequence[ShownPair]) -> str:
        return json.dumps([row(pair) for pair in pairs], ensure_ascii=False) + "\n"

    return Form(write=lambda labels: ask(by_shown_pair(labels)), ask=ask, **rest)


def by_shown_pair(labels: Iterable[Label]) -> list[ShownPair]:
    """Return what was shown, each once and in the order shown, with the labels that it was given; the first seen comes first."""
    found: dict[str, ShownPair] = {}
    for label in labels:
        told = label.model_dump(mode="json", exclude_defaults=True)
        shown = {name: told[name] for name in OF_PAIR if name in told}
        own = {name: value for name, value in told.items() if name not in OF_PAIR}
        name = digest_of(shown)
        pair = found.setdefault(name, ShownPair(name, shown, []))
        found[name] = ShownPair(name, pair.fields, [*pair.labels, own])
    return list(found.values())


def shown_in(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a label that are told of what was shown."""
    return {name: told[name] for name in (*OF_PAIR, *OF_ASKED) if told.get(name) is not None}


def digest_of(value: Any) -> str:
    """Return 16 hexadecimal digits that name a JSON value, the same on every machine."""
    return text_digest(json.dumps(value, sort_keys=True, ensure_ascii=False)).hex()


def choice_of(preference: float) -> str:
    """Return what a preference leans to, as forms without numbers have it."""
    return FIRST if preference > CHOICES[EQUAL] else SECOND if preference < CHOICES[EQUAL] else EQUAL


def chosen(choice: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preference that a choice is, with the fields that were written beside it.

    Where they hold a preference that leans the same way, it is the label of that time, to the last digit. Where it leans another
    way, somebody has chosen anew since.
    """
    told = own.get(PREFERENCE)
    is_same = isinstance(told, int | float) and choice_of(told) == choice
    return {**own, PREFERENCE: told if is_same else CHOICES[choice]}


def shown_prompt(prompt: Any) -> str:
    """Return a prompt, as JSON has it, as the text that people read."""
    return prompt if isinstance(prompt, str) else transcript_of(prompt)


def transcript_of(messages: Sequence[Mapping[str, str]]) -> str:
    """Return the messages of a conversation one below the other, each behind the name of who speaks."""
    return "\n\n".join(f"{one['role']}: {one['content']}" for one in messages)


def shown_text(prompt: Prompt) -> str:
    """Return a prompt of a dataset as the text that people read in another tool."""
    if isinstance(prompt, str):
        return prompt
    return transcript_of([{"role": one.role, "content": one.content} for one in prompt])


def shortened(value: object) -> str:
    """Return a value as an error repeats it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def json_of(text: str, what: str) -> Any:
    """Return the JSON value of a file, or the list of its lines' values where each line is one.

    Args:
        text: of the file.
        what: it should be, for the error.

    Raises:
        DataError: it is neither.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise DataError(f"the file is nested too deeply for {what}") from None
    except ValueError as error:
        whole = error
    try:
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        raise DataError(f"the file is no JSON ({whole}); {what} is wanted") from None
    if not rows:
        raise DataError(f"the file is empty; {what} is wanted")
    return rows


def rows_of(text: str, what: str) -> list[Any]:
    """Return the rows of a file that holds a JSON list, or one JSON object a line.

    Raises:
        DataError: it holds something else, or nothing.
    """
    value = json_of(text, what)
    rows = value if isinstance(value, list) else [value]
    if not rows:
        raise DataError(f"the file holds an empty list; {what} is wanted")
    return rows
