"""A store of labels that people filled: JSON lines that are only ever appended to, one label each (docs/feedback.md).

Beside it may lie `<store>.annotators.json`, a list of names: then everybody else is unknown.
"""

import json
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from posttrain.errors import DataError, RequestError, did_you_mean
from posttrain.feedback.labels import Label
from posttrain.records import Question

SHOWN = 5
"""Bad lines that an error tells of; all are counted."""
LONGEST = 60
"""Characters of a value that an error repeats."""


class BadLineError(Exception):
    """What is wrong with one line, and what to do."""


def store_files(file: Path) -> list[Path]:
    """Return the files that a store consists of, which a stage's key must depend on: itself, and who may write it."""
    return [path for path in (file, _annotators_file(file)) if path.is_file()]


def read_store(file: Path, *, questions: Mapping[str, Question], responses: Mapping[str, Collection[str]] | None) -> list[Label]:
    """Return the labels of a store, every line of which must be usable; blank lines are passed over.

    Args:
        file: the store.
        questions: by id, those that a label may name.
        responses: by question's id, those that it may compare; None where any will do.

    Raises:
        RequestError: the file cannot be read.
        DataError: lines cannot be used (the first few are told with their numbers), or there is none; or the list of annotators
            is none.
    """
    annotators = annotators_of(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RequestError(
            f"cannot read {file}: {error.strerror}. labels.file names a store of labels (docs/feedback.md)"
        ) from None

    def check(label: Label) -> None:
        check_label(label, questions=questions, responses=responses, annotators=annotators)

    labels = _labels_in(content, shown=str(file), check=check)
    if not labels:
        raise DataError(f"{file} holds no label. Label some pairs first, or choose another source (labels.source)")
    return labels


def labels_in(content: bytes, *, shown: str) -> list[Label]:
    """Return the labels of a store's bytes, whatever questions they are of; every line must be usable but for that.

    Args:
        content: of the file.
        shown: its name in messages.

    Raises:
        DataError: lines cannot be used; the first few are told with their numbers.
    """
    return _labels_in(content, shown=shown, check=_check_itself)


def _labels_in(content: bytes, *, shown: str, check: Callable[[Label], None]) -> list[Label]:
    labels: list[Label] = []
    line_of: dict[str, int] = {}
    bad: list[str] = []
    count = 0
    for number, raw in enumerate(content.split(b"\n"), 1):
        if not raw.strip():
            continue
        count += 1
        try:
            label = _parsed(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw)
            if label.id in line_of:
                _bad(f"id {_shown(label.id)} was there before, in line {line_of[label.id]}", "Give each label an id of its own")
            line_of[label.id] = number
            check(label)
            labels.append(label)
        except BadLineError as error:
            bad.append(f"  line {number}: {error}")
    if bad:
        rest = [f"  and {len(bad) - SHOWN:,} more"] if len(bad) > SHOWN else []
        raise DataError(
            "\n".join([f"{shown}: {len(bad):,} of {count:,} labels cannot be used, so none was taken:", *bad[:SHOWN], *rest])
        )
    return labels


def _bad(problem: str, remedy: str) -> NoReturn:
    raise BadLineError(f"{problem}{'' if problem.endswith('?') else '.'} {remedy}")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _parsed(raw: bytes) -> Label:
    try:
        row = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        _bad(f"byte {error.start + 1} is 0x{raw[error.start]:02x}, which is not UTF-8", "Save the file as UTF-8")
    except (ValueError, RecursionError) as error:
        reason = str(error).partition(":")[0]
        _bad(f"broken JSON ({reason})", "Each line is one whole JSON object; drop a line that was cut off while it was written")
    if not isinstance(row, dict):
        _bad(f"a label is a JSON object, got {_shown(row)}", "docs/feedback.md shows its form")
    return label_of(row)


def label_of(row: Mapping[str, Any]) -> Label:
    """Return the label of its fields, as JSON has them.

    Raises:
        BadLineError: one is missing, unknown or out of range.
    """
    try:
        return Label.model_validate_json(json.dumps(row), strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
    if not problem["loc"]:  # half a surrogate pair, which Python's own reader lets through
        _bad(f"broken JSON ({problem['msg'][:1].lower()}{problem['msg'][1:]})", "Correct or drop the line")
    field = str(problem["loc"][0])
    if problem["type"] == "missing":
        _bad(f"there is no field {field}, which a label needs", "Add it, or drop the line")
    if problem["type"] == "extra_forbidden":
        _bad(f"a label has no field {field}{did_you_mean(field, Label.model_fields)}", "docs/feedback.md names its fields")
    if field == "preference":
        _bad(
            f"preference must be a number from 0 to 1, got {_shown(row[field])}",
            "Write 1 where first is better, 0 where second is, 0.5 where they are equal",
        )
    reason = problem["msg"][:1].lower() + problem["msg"][1:]
    _bad(f"{field}: {reason}, got {_shown(row.get(field))}", "docs/feedback.md says what it may be")


def check_label(
    label: Label,
    *,
    questions: Mapping[str, Question],
    responses: Mapping[str, Collection[str]] | None,
    annotators: Collection[str] | None,
) -> None:
    """Refuse a label of other questions, responses or people than these; where None stands for them, any will do.

    Raises:
        BadLineError: it is one, or contradicts itself.
    """
    _check_question(label, questions=questions, responses=responses)
    _check_itself(label)
    _check_annotator(label, annotators)


def _check_question(label: Label, *, questions: Mapping[str, Question], responses: Mapping[str, Collection[str]] | None) -> None:
    question = questions.get(label.question)
    if question is None:
        _bad(
            f"question {_shown(label.question)} is not among the dataset's {len(questions)} questions",
            "Correct its id, drop the line, or choose the dataset that was labelled (data.name)",
        )
    if label.prompt != question.prompt:
        _bad(f"the prompt is not that of question {label.question}", "Correct the question's id or the prompt, or drop the line")
    if responses is not None and label.first != label.second:
        for side in ("first", "second"):
            text = getattr(label, side)
            if text not in responses.get(label.question, ()):
                _bad(
                    f"{side} is not among the {len(responses.get(label.question, ()))} samples of question {label.question}, "
                    f"got {_shown(text)}",
                    "Drop the line, or run with the settings and the seed under which it was labelled",
                )


def _check_itself(label: Label) -> None:
    if label.first == label.second:
        _bad("first and second are the same text, so neither can be better", "Drop the line")
    if not label.annotator.strip():
        _bad("annotator is empty", "Say who chose: a name or a number will do")
    if label.at and not _is_utc(label.at):
        _bad(
            f"at must be a time in UTC as ISO 8601 has it, got {_shown(label.at)}",
            "Write it like 2026-03-31T09:15:00Z, or leave it out",
        )


def _check_annotator(label: Label, annotators: Collection[str] | None) -> None:
    if annotators is not None and label.annotator not in annotators:
        _bad(
            f"annotator {_shown(label.annotator)} is not on the list{did_you_mean(label.annotator, annotators)}",
            "Correct the name, or add it to the .annotators.json beside the store",
        )


def _is_utc(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).utcoffset() == timedelta(0)
    except ValueError:
        return False


def annotators_of(file: Path) -> list[str] | None:
    """Return who may write a store; None where it is not said.

    Raises:
        DataError: the list beside it is none.
    """
    return _annotators(_annotators_file(file))


def _annotators_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.annotators.json")


def _annotators(file: Path) -> list[str] | None:
    """Return who may have written the store; None where it is not said."""
    if not file.is_file():
        return None
    try:
        names = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f'cannot read {file}: {error}. It holds a JSON list of names, as ["Ada", "Ben"]') from None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(
            f'{file} must hold a JSON list of names, as ["Ada", "Ben"], got {_shown(names)}. Correct it, or remove it'
        )
    return names
