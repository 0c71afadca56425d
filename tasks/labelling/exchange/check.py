"""What a foreign file says of labels, checked against the dataset: all of it can be used, or none of it is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.errors import DataError
from posttrain.feedback.labels import Label
from posttrain.records import Prompt, Question
from tasks.feedback.store import BadLineError, check_label, label_of
from tasks.labelling.exchange.interface import Bad, Draft, Found, Passed, digest_of, shortened, shown_text

SHOWN = 5
"""Bad places that an error tells of; all are counted."""


@dataclass(frozen=True)
class Checked:
    """What a file came to.

    Attributes:
        new: labels that are to be added, in the order of the file.
        known: how many are there already.
        notes: a line each, of what was passed over and why.
    """

    new: Sequence[Label]
    known: int
    notes: Sequence[str]


class Questions:
    """The questions of a dataset, by id and by what people read of them."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self.by_id = {question.id: question for question in questions}
        self._by_text: dict[str, list[str]] = {}
        for question in self.by_id.values():
            self._by_text.setdefault(shown_text(question.prompt), []).append(question.id)

    def complete(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a label with question, prompt and family, as far as one of the first two tells the rest.

        Raises:
            BadLineError: no question has this prompt, or several have.
        """
        told = dict(fields)
        if "question" not in told:
            told["question"] = self._named_by(told.get("prompt"))
        question = self.by_id.get(told["question"]) if isinstance(told["question"], str) else None
        if question is None:  # the check of the whole label says it
            told.setdefault("prompt", "")
            return told
        if told.get("prompt", shown_text(question.prompt)) == shown_text(question.prompt):
            told["prompt"] = _as_json(question.prompt)
        if told.get("family") is None and question.family is not None:
            told["family"] = question.family
        return told

    def _named_by(self, prompt: Any) -> str:
        if isinstance(prompt, str):
            names = self._by_text.get(prompt, [])
        else:
            names = [name for name, question in self.by_id.items() if _as_json(question.prompt) == prompt]
        if len(names) == 1:
            return names[0]
        found = f"{len(names)} questions of the dataset have" if names else "no question of the dataset has"
        raise BadLineError(
            f"{found} the prompt {shortened(prompt)}. Name one by question, drop it, or choose another dataset (DATA)"
        )


def _as_json(prompt: Prompt) -> Any:
    return prompt if isinstance(prompt, str) else [one.model_dump(mode="json") for one in prompt]


def checked(
    found: Iterable[Found],
    *,
    shown: str,
    questions: Questions,
    there: Mapping[str, Label],
    annotators: Sequence[str] | None,
) -> Checked:
    """Return the labels of a file that are new, each of them checked.

    Args:
        found: what its places say.
        shown: the file's name, for errors.
        questions: of the dataset.
        there: labels that the dataset has already, by id.
        annotators: names that may stand in it; None: any.

    Raises:
        DataError: a place cannot be used (the first few are told), or there is no label.
    """
    labels: dict[str, Label] = {}
    place_of: dict[str, str] = {}
    bad: list[str] = []
    counted: dict[str, int] = {}
    count = known = 0
    for one in found:
        if isinstance(one, Passed):
            counted[f"passed over: {one.why}"] = counted.get(f"passed over: {one.why}", 0) + 1
            continue
        count += 1
        if isinstance(one, Bad):
            bad.append(f"  {one.where}: {one.problem}")
            continue
        try:
            label, fields = _label(one, questions, annotators)
            _check_id(label, fields, one.where, labels=labels, place_of=place_of, there=there)
        except BadLineError as error:
            bad.append(f"  {one.where}: {error}")
            continue
        for note in one.notes:
            counted[note] = counted.get(note, 0) + 1
        if label.id in there or label.id in labels:
            known += label.id in there
            continue
        labels[label.id], place_of[label.id] = label, one.where
    notes = [f"{number:,} {'place' if number == 1 else 'places'} {note}" for note, number in sorted(counted.items())]
    if bad:
        rest = [f"  and {len(bad) - SHOWN:,} more"] if len(bad) > SHOWN else []
        head = f"{shown}: {len(bad):,} of {count:,} labels cannot be used, so none was taken:"
        raise DataError("\n".join([head, *bad[:SHOWN], *rest]))
    if not count:
        told = "; ".join(notes)
        raise DataError(
            f"{shown} holds no label{f' ({told})' if told else ''}. Label some pairs there first, then write it again"
        )
    return Checked(list(labels.values()), known, notes)


def _label(draft: Draft, questions: Questions, annotators: Sequence[str] | None) -> tuple[Label, dict[str, Any]]:
    """Return a draft as a label, and the fields that the file itself gives.

    Raises:
        BadLineError: it cannot be one, or not one of a person.
    """
    given = {name: value for name, value in draft.fields.items() if value is not None}
    fields = questions.complete({"source": "person", **given})
    fields.setdefault("id", f"import-{digest_of(fields)}")
    fields.setdefault("group", fields["id"])
    label = label_of(fields)
    check_label(label, questions=questions.by_id, responses=None, annotators=annotators)
    if label.source != "person":
        raise BadLineError(f"source must be person, got {label.source}. The labels of a dataset are people's; drop it")
    return label, given


def _check_id(
    label: Label,
    given: Mapping[str, Any],
    where: str,
    *,
    labels: Mapping[str, Label],
    place_of: Mapping[str, str],
    there: Mapping[str, Label],
) -> None:
    """Refuse an id that names another label already, as far as the file says what it is.

    Raises:
        BadLineError: it does.
    """
    other = there.get(label.id) or labels.get(label.id)
    if other is None:
        return
    for name in given:
        before, now = getattr(other, name), getattr(label, name)
        if before != now:
            place = "in the dataset" if label.id in there else f"in {place_of[label.id]}"
            raise BadLineError(
                f"id {shortened(label.id)} is there already with other content ({place}): {name} is {shortened(before)} there "
                f"and {shortened(now)} here. Give it an id of its own, or drop it"
            )
