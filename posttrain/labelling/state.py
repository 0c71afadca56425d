"""How the labels of a dataset stand: counts, agreement, who is steady, quick or dissents, and what is left."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posttrain.feedback.agreement import Agreement, agreement_of, as_json
from posttrain.feedback.labels import Label
from posttrain.labelling.ab import Picks, Thumb, Thumbs, picks_of, thumbs_of
from posttrain.labelling.progress import BatchProgress, Progress
from posttrain.labelling.standing import Standing
from posttrain.statistics.intervals import Interval, wilson

ELSEWHERE = "imported"
"""Kind of a label that no batch here made."""
UNSAID = "not said"
"""Selection of a label that does not say how its pair was chosen."""
OPEN, CLOSED, FINISHED = "open", "closed", "finished"


@dataclass(frozen=True)
class BatchState:
    """One batch.

    Attributes:
        name: of it.
        kind: what it asks.
        state: `open`, `closed` (its labels are becoming a version) or `finished`.
        made_at: when it was made, ISO 8601 in UTC.
        per_item: people who answer each item.
        progress: how far it is.
    """

    name: str
    kind: str
    state: str
    made_at: str
    per_item: int
    progress: BatchProgress

    @property
    def left(self) -> int:
        """Answers that it still wants; none once it takes no more."""
        return max(0, self.progress.size - self.progress.done) if self.state == OPEN else 0


@dataclass(frozen=True)
class Work:
    """A batch as it is read: what it is, its events folded, and the labels that they make."""

    state: BatchState
    standing: Standing
    labels: Sequence[Label]


@dataclass(frozen=True)
class Labeller:
    """One annotator, over all batches and imports.

    Attributes:
        labels: how many.
        selections: of them, by how their pairs were chosen.
        seconds: the median of a label, as far as it is known.
        own: share of repeated items that got the same answer again.
        repeated: how many those are.
        right: share of items of known order that were answered right.
        known: how many those are.
        dissent: share of pairs on which the choice was against the majority of the others.
        against_others: how many those are.
        contradictions: pairs labelled both ways.
        cycles: prompts in which the annotator's own choices go in a circle.
        left: items of open batches that the annotator could still be shown.
    """

    labels: int
    selections: Mapping[str, int]
    seconds: float | None
    own: Interval | None
    repeated: int
    right: Interval | None
    known: int
    dissent: Interval | None
    against_others: int
    contradictions: int
    cycles: int
    left: int


@dataclass(frozen=True)
class LabelState:
    """How the labels of a dataset stand.

    Attributes:
        dataset: its name.
        labels: how many there are, in the dataset and in batches that are not finished.
        in_dataset: of them, those that are part of the dataset.
        kinds: labels by what was asked.
        selections: labels by how their pairs were chosen.
        agreement: of all of them; None without any.
        people: each annotator by name.
        batches: the oldest first.
        waiting: who has a link to an open batch and has not begun it.
        left: answers that open batches want.
        hours_left: that one person would take for them, an estimate from medians; None where no answer says how long one takes.
        picks: what people picked of two models' answers, which is no label of the dataset.
        thumbs: how often they liked each model's answers there.
    """

    dataset: str
    labels: int
    in_dataset: int
    kinds: Mapping[str, int]
    selections: Mapping[str, int]
    agreement: Agreement | None
    people: Mapping[str, Labeller]
    batches: Sequence[BatchState]
    waiting: Sequence[str]
    left: int
    hours_left: float | None
    picks: Sequence[Picks] = ()
    thumbs: Sequence[Thumbs] = ()

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values; what is undefined is null."""
        told = {name: getattr(self, name) for name in ("dataset", "labels", "in_dataset", "kinds", "selections", "left")}
        return {
            **told,
            "waiting": list(self.waiting),
            "hours_left": self.hours_left,
            "ab": [one.as_json() for one in self.picks],
            "thumbs": [one.as_json() for one in self.thumbs],
            "agreement": self.agreement and _agreement_json(self.agreement),
            "people": {name: _plain(vars(one)) for name, one in self.people.items()},
            "batches": [_batch_json(batch) for batch in self.batches],
        }


def state_of(
    dataset: str, there: Sequence[Label], work: Sequence[Work], picks: Sequence[Label] = (), thumbs: Sequence[Thumb] = ()
) -> LabelState:
    """Return how the labels of a dataset stand.

    Args:
        dataset: its name.
        there: labels that are part of it.
        work: its batches, the oldest first; labels of theirs that are part of the dataset already count once.
        picks: labels of two models' answers to prompts that somebody typed.
        thumbs: what was said of single ones of those answers.
    """
    of_kind = {label.id: one.state.kind for one in work for label in one.labels}
    every = {label.id: label for label in there}
    for one in work:
        for label in one.labels:
            every.setdefault(label.id, label)
    labels = list(every.values())
    agreement = agreement_of(labels) if labels else None
    return LabelState(
        dataset=dataset,
        labels=len(labels),
        in_dataset=len({label.id for label in there}),
        kinds=dict(Counter(of_kind.get(label.id, ELSEWHERE) for label in labels).most_common()),
        selections=_selections(labels),
        agreement=agreement,
        people=_people(labels, agreement, work),
        batches=[one.state for one in work],
        waiting=sorted({one.person for one in _of_open_batches(work) if not one.done}),
        left=sum(one.state.left for one in work),
        hours_left=_hours_left([one.state for one in work], labels),
        picks=picks_of(picks),
        thumbs=thumbs_of(thumbs),
    )


def _hours_left(batches: Iterable[BatchState], labels: Iterable[Label]) -> float | None:
    """Return the hours of one person; a batch that nobody has begun takes the pace of all labels."""
    times = [label.seconds for label in labels if label.seconds is not None]
    pace = float(np.median(times)) / 3600 if times else None
    hours = 0.0
    for batch in batches:
        if batch.left and batch.progress.hours_left is not None:
            hours += batch.progress.hours_left
        elif batch.left:
            if pace is None:
                return None
            hours += pace * batch.left
    return hours


def _selections(labels: Iterable[Label]) -> dict[str, int]:
    return dict(Counter(label.selection or UNSAID for label in labels).most_common())


def _of_open_batches(work: Iterable[Work]) -> list[Progress]:
    return [person for one in work if one.state.state == OPEN for person in one.state.progress.people]


def _people(labels: Iterable[Label], agreement: Agreement | None, work: Sequence[Work]) -> dict[str, Labeller]:
    own: dict[str, list[Label]] = {}
    for label in labels:
        own.setdefault(label.annotator, []).append(label)
    found = {}
    for name in sorted(own):
        acts = [one.standing.people[name] for one in work if name in one.standing.people]
        steady = [likeness for one in acts for likeness in one.steady.values()]
        right = [float(is_right) for one in acts for is_right in one.right.values()]
        times = [label.seconds for label in own[name] if label.seconds is not None]
        beside = agreement.annotators[name] if agreement else None
        found[name] = Labeller(
            labels=len(own[name]),
            selections=_selections(own[name]),
            seconds=float(np.median(times)) if times else None,
            own=_share(steady),
            repeated=len(steady),
            right=_share(right),
            known=len(right),
            dissent=beside.dissent_rate if beside else None,
            against_others=beside.against_others if beside else 0,
            contradictions=beside.contradictions if beside else 0,
            cycles=beside.cycles if beside else 0,
            left=sum(one.left_for_him for one in _of_open_batches(work) if one.person == name),
        )
    return found


def _share(values: Sequence[float]) -> Interval | None:
    """Return the mean with its interval, items being the independent draws; None without any."""
    return wilson(min(sum(values), len(values)), len(values)) if values else None


# --- as JSON ------------------------------------------------------------------------------------------------------------


def _agreement_json(agreement: Agreement) -> dict[str, Any]:
    """Return the agreement of all; what it says of each annotator stands with the annotator."""
    return {name: value for name, value in as_json(agreement).items() if name != "annotators"}


def _batch_json(batch: BatchState) -> dict[str, Any]:
    told = {name: getattr(batch, name) for name in ("name", "kind", "state", "made_at", "per_item", "left")}
    progress = {name: getattr(batch.progress, name) for name in ("done", "size", "skipped", "seconds", "hours_left")}
    return {**told, **progress, "people": [_plain(vars(person)) for person in batch.progress.people]}


def _plain(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.as_dict() if isinstance(value, Interval) else list(value) if isinstance(value, tuple) else value
        for name, value in told.items()
    }
