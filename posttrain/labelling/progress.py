"""How far a batch is: counts, what is left, time, and how far people agree with each other and with themselves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from posttrain.labelling.answers import Event
from posttrain.labelling.standing import Standing
from posttrain.labelling.turns import left_for
from posttrain.statistics.intervals import Interval, wilson

RECENT = 50
"""Answers of a person whose median says how long one takes him now."""


@dataclass(frozen=True)
class Progress:
    """How far one person is.

    Attributes:
        person: name.
        done: answers that stand.
        skipped: items that he skipped.
        left_for_him: items that he could still be shown, if all that others have before them came back.
        batch_done: answers of all that stand.
        batch_size: answers that the batch wants.
        own_agreement: how far his answers to repeated items agree with his first ones; None where nothing was repeated.
        agreement_with_others: how far his answers agree with those of others to the same items; None where there are none.
        known_right: checks of known order that he found, and how many he was asked.
        seconds: that an answer takes him, the median of his last ones; None before the first.
    """

    person: str
    done: int
    skipped: int
    left_for_him: int
    batch_done: int
    batch_size: int
    own_agreement: Interval | None
    agreement_with_others: Interval | None
    known_right: tuple[int, int]
    seconds: float | None


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is.

    Attributes:
        people: each who has any event, or a link.
        done: answers that stand.
        size: answers that the batch wants.
        skipped: items that somebody skipped and that want more answers.
        seconds: that people took for the answers that stand.
        hours_left: what is left at the pace of one person, the median of all answers; None before the first.
    """

    people: tuple[Progress, ...]
    done: int
    size: int
    skipped: int
    seconds: float
    hours_left: float | None


def progress_of(standing: Standing, person: str) -> Progress:
    """Return how far one person is."""
    acts = standing.acts(person)
    skipped = sum(event.kind == "skip" for event in acts.done)
    times = _times(acts.done[-RECENT:])
    return Progress(
        person=person,
        done=len(acts.done) - skipped,
        skipped=skipped,
        left_for_him=left_for(standing, person),
        batch_done=standing.answered,
        batch_size=len(standing.items) * standing.per_item,
        own_agreement=_share(list(acts.steady.values())),
        agreement_with_others=_share(list(acts.agreed.values())),
        known_right=(sum(acts.right.values()), len(acts.right)),
        seconds=float(np.median(times)) if times else None,
    )


def batch_progress(standing: Standing, people: Iterable[str] = ()) -> BatchProgress:
    """Return how far a batch is.

    Args:
        standing: of the batch.
        people: who have links, for those who have not begun.
    """
    names = sorted({*people, *(name for name, acts in standing.people.items() if acts.done)})
    times = [time for acts in standing.people.values() for time in _times(acts.done)]
    size = len(standing.items) * standing.per_item
    return BatchProgress(
        people=tuple(progress_of(standing, name) for name in names),
        done=standing.answered,
        size=size,
        skipped=sum(bool(standing.skips[standing.order[place]]) for place in standing.open),
        seconds=sum(times),
        hours_left=max(0, size - standing.answered) * float(np.median(times)) / 3600 if times else None,
    )


def _times(events: Sequence[Event]) -> list[float]:
    return [event.seconds for event in events if event.kind == "answer" and event.seconds is not None]


def _share(agreed: Sequence[float]) -> Interval | None:
    """Return the mean with its interval, items being the independent draws."""
    return wilson(min(sum(agreed), len(agreed)), len(agreed)) if agreed else None
