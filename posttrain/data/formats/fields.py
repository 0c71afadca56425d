"""What the fields of public datasets are called, and what a field does to a row that was read without it.

Formats name their own fields; beside them stand others, and most say nothing that training needs (an id, a source). Some do: a
verdict turns a completion from an example into a warning, an image holds what the question is about. `settle` looks at every
field that a format left unread, and keeps it, or refuses the row, or has it said that the field was left aside.
"""

import math
from collections.abc import Mapping
from typing import Any

from posttrain.data.formats.items import Item, as_reference, is_nothing, shown
from posttrain.data.formats.turns import as_text_of_tools
from posttrain.graders.answer import final_answers, grade
from posttrain.records import Demonstration, Message, Preference, Prompt, Question, Rating, Record, Text

PROMPT_FIELDS = ("prompt", "question", "instruction", "query", "problem")
"""Where a prompt stands, most telling name first."""

REFERENCE_FIELDS = (
    "reference_answer",
    "expected_answer",
    "final_answer",
    "gold_answer",
    "correct_answer",
    "answer",
    "answers",
    "answer_value",
    "ground_truth",
    "reward_model",
    "target",
    "expected",
    "gold",
    "reference",
    "solution",
    "label",
)
"""Where datasets keep what an answer is checked against, most telling name first; `reward_model` holds `ground_truth`."""

VERDICTS = ("label", "kto_tag", "is_correct", "correct", "is_right", "accepted", "is_good", "desirable", "thumbs_up", "upvoted")
"""True or false of the completion: it is good, or it is not."""

SCORES = (
    "score",
    "rating",
    "reward",
    "overall_score",
    "quality",
    "stars",
    "helpfulness",
    "correctness",
    "coherence",
    "harmlessness",
    "toxicity",
    "overall_rating",
)
"""A number that says how good the completion is, on a scale of its own."""

MEDIA = ("images", "image", "videos", "video", "audios", "audio", "image_path", "image_url")
SYSTEM = ("system", "system_prompt")
TOOLS = ("tools", "functions")

CONTENT = (
    "messages",
    "conversations",
    "conversation",
    "chosen",
    "rejected",
    "rejected_response",
    "rejected_messages",
    "completion",
    "preferred_output",
    "non_preferred_output",
)
"""What is learnt from: a format that leaves one of these unread has read something else than the row says."""

BESIDE_TEXT = ("completions", "responses", "response", "output", "outputs", "instruction", "question", "answer", "answers")
"""What shows that `text` is a part of a row (a judge's prompt, a rendered template), not a document."""

CHECKABLE = 80
"""Characters of an answer that can still be checked as a whole; a longer one is an explanation."""


def settle(item: Item, record: Record) -> Record:
    """Return the record with what the unread fields add to it, or refuse the row.

    Raises:
        DataError: a field that says what the row means, or holds a part of it, would have been dropped.
    """
    unread = {name: value for name, value in item.row.items() if name not in item.used}
    left = {name: value for name, value in unread.items() if not is_nothing(value)}
    if isinstance(record, Demonstration):
        for name in (*VERDICTS, *SCORES):
            if name in unread and name not in left:
                item.refuse_field(name, f"{name} is empty, so the row does not say whether its completion is good")
    if not left:
        return record
    for name in MEDIA:
        if name in left:
            item.refuse_field(name, f"{name} cannot be learnt by a model of text, and the row is about them")
    record = _with_context(item, record, left)
    record = _judged(item, record, left)
    _refuse_unread(item, record, left)
    for name in sorted(left):
        item.note(f"a field that is not read: {name}")
    return record


def _with_context(item: Item, record: Record, left: dict[str, Any]) -> Record:
    """Return the record with its system text, and the tools that the assistant may call, before the prompt."""
    if isinstance(record, Text):
        return record
    parts = []
    for name in SYSTEM:
        if name in left:
            parts.append(item.text(name))
            del left[name]
    for name in TOOLS:
        if name in left:
            if text := as_text_of_tools(item, name, left[name]):
                parts.append(text)
            del left[name]
    prompt: Prompt = record.prompt  # type: ignore[attr-defined]  # every kind but Text has one
    return record.model_copy(update={"prompt": with_system(prompt, *parts)}) if parts else record


def with_system(prompt: Prompt, *parts: str) -> Prompt:
    """Return a prompt whose system message begins with `parts`; one that says the same already stays as it is."""
    turns = (Message(role="user", content=prompt),) if isinstance(prompt, str) else prompt
    own = turns[0].content if turns and turns[0].role == "system" else None
    new = [part for part in parts if part != own]
    if not new:
        return prompt
    rest = turns if own is None else turns[1:]
    return (Message(role="system", content="\n\n".join([*new, own] if own else new)), *rest)


def _judged(item: Item, record: Record, left: dict[str, Any]) -> Record:
    """Return a demonstration that carries a verdict as the rating it is."""
    verdicts = [name for name in VERDICTS if name in left]
    scores = [name for name in SCORES if name in left]
    if isinstance(record, Question) or not (verdicts or scores):
        return record
    if isinstance(record, Preference):
        if verdicts:
            item.refuse_field(verdicts[0], f"{verdicts[0]} is {shown(left[verdicts[0]])} in a row that has chosen and rejected")
        return record
    if not isinstance(record, Demonstration):
        name = (verdicts + scores)[0]
        item.refuse_field(name, f"{name} is a verdict, and a {record.kind} holds none")  # type: ignore[attr-defined]
    if len(verdicts + scores) > 1:
        item.refuse_field(verdicts + scores, f"{', '.join(verdicts + scores)} are several verdicts on one completion")
    (name,) = verdicts + scores
    low, high = (0.0, 1.0) if verdicts else _scale(item, name, left)
    value = _truth(item, name, left.pop(name)) if verdicts else _number(item, name, left.pop(name))
    if not low <= value <= high:
        item.fail(f"{name} must lie between low and high, {low:g} and {high:g}, got {value:g}")
    return Rating(id=record.id, prompt=record.prompt, completion=record.completion, score=value, low=low, high=high)


def _scale(item: Item, name: str, left: dict[str, Any]) -> tuple[float, float]:
    if "low" not in left or "high" not in left:
        item.refuse_field(
            name,
            f"{name} is a verdict on the completion, whose scale the row does not say",
            'Give the ends of the scale, MAP="low=1 high=5", or fields low and high',
        )
    return _number(item, "low", left.pop("low")), _number(item, "high", left.pop("high"))


def _truth(item: Item, name: str, value: Any) -> float:
    """Return 1 or 0 for true or false, however a file writes them (csv knows text only)."""
    text = value.strip().casefold() if isinstance(value, str) else value
    known: dict[Any, float] = {True: 1.0, False: 0.0, "true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}
    if isinstance(text, str | bool | int | float) and text in known:
        return known[text]
    return item.wrong(name, "true or false, since it is a verdict on the completion", value)


def _number(item: Item, name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    return number if math.isfinite(number) else item.wrong(name, "a finite number", value)


def _refuse_unread(item: Item, record: Record, left: dict[str, Any]) -> None:
    unread = [name for name in CONTENT if name in left]
    if isinstance(record, Text):
        unread += [name for name in BESIDE_TEXT if name in left]
    if isinstance(record, Question):
        unread += [name for name in ("completions", "responses", "output", "outputs") if name in left]
    if isinstance(record, Preference) and "messages" in unread and _is_a_side(item, left["messages"]):
        unread.remove("messages")
        del left["messages"]
    if unread:
        kind = record.kind  # type: ignore[attr-defined]
        fault = f"{', '.join(unread)} would not be read, and a {kind} would be made of the rest{item.other_format()}"
        item.refuse_field(unread, fault)


def _is_a_side(item: Item, messages: Any) -> bool:
    """Return whether a pair's `messages` only repeat its chosen or rejected conversation."""
    return any(messages == item.row.get(side) for side in ("chosen", "rejected"))


def margin_of(item: Item) -> float | None:
    """Return by how much the chosen completion is better, as the row says it; None where it does not."""
    if item.has("margin"):
        return _number(item, "margin", item.get("margin"))
    for chosen, rejected in (
        ("score_chosen", "score_rejected"),
        ("chosen_score", "rejected_score"),
        ("chosen_rating", "rejected_rating"),
        ("chosen-rating", "rejected-rating"),
    ):
        if item.has(chosen) and item.has(rejected):
            margin = _number(item, chosen, item.get(chosen)) - _number(item, rejected, item.get(rejected))
            if margin < 0:
                item.note("chosen scores lower than rejected: the data gate puts the pair aside")
            if margin == 0:
                item.note("chosen scores no higher than rejected: the pair is kept, without a margin")
            return margin or None
    return None


def references(item: Item) -> tuple[str, ...]:
    """Return what the row gives to check an answer against; () where it gives nothing."""
    for field in REFERENCE_FIELDS:
        if not item.has(field):
            continue
        name, value = field, item.row[field]
        if field == "reward_model":
            if not isinstance(value, Mapping) or is_nothing(value.get("ground_truth")):
                continue
            name, value = "reward_model.ground_truth", value["ground_truth"]
        item.used.add(field)
        answers = final_answers([as_reference(item, name, each) for each in _each(value)])
        kept = tuple(dict.fromkeys(answer for answer in answers if answer.strip()))
        if kept:
            return kept
    return ()


def _each(value: Any) -> list[Any]:
    """Return the answers of a value: a list's own, those of SQuAD's and of a `target` in an object, else the value itself."""
    if isinstance(value, Mapping):
        for inner in ("target", "text"):
            if set(value) <= {inner, "answer_start"} and inner in value:
                return _each(value[inner])
    return [one for one in value if not is_nothing(one)] if isinstance(value, list | tuple) else [value]


def demonstration(item: Item, *, name: str, prompt: Prompt, completion: str) -> Demonstration:
    """Return a demonstration with the answer that the row gives beside it, if the completion's own can be compared with it."""
    has_verdict = any(item.has(field) for field in VERDICTS)
    answers = () if has_verdict else references(item)
    if not answers:
        return Demonstration(id=name, prompt=prompt, completion=completion)
    if len(answers) > 1 or grade(completion, answers[:1]).extracted is None:
        item.note("an answer that is not kept: it cannot be compared with what the completion ends in")
        return Demonstration(id=name, prompt=prompt, completion=completion)
    return Demonstration(id=name, prompt=prompt, completion=completion, answer=answers[0])
