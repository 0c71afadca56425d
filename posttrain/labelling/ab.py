"""Two models side by side without their names: how often one was picked over the other, and how often an answer was liked."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from posttrain.feedback.labels import Label, is_equal
from posttrain.records import Prompt, Row
from posttrain.statistics.figures import mean
from posttrain.statistics.intervals import Interval, wilson, win_rate

SELECTION = "ab"
"""How the pairs of such labels were chosen: by somebody who typed a prompt."""


class Thumb(Row):
    """Whether one answer to a prompt is good, whatever another model said to it.

    Attributes:
        id: of the showing and the place; a later thumb of the same id takes the earlier one back.
        question: of no dataset; equal for equal prompts.
        response: the answer.
        is_good: thumb up.
        model: URI of the model that answered.
        finished: whether it ended by itself, rather than at the limit of its length.
        annotator: who.
        at: when, ISO 8601 in UTC.
        seconds: from the answers' standing there to the thumb.
    """

    kind: Literal["thumb"] = "thumb"
    prompt: Prompt
    question: str
    response: str
    is_good: bool
    model: str
    finished: bool
    annotator: str
    source: Literal["person"] = "person"
    at: str
    seconds: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Thumbs:
    """How often people liked a model's answers.

    Attributes:
        model: its URI.
        thumbs: how many.
        prompts: different prompts.
        up: share of thumbs up; prompts are the independent draws.
    """

    model: str
    thumbs: int
    prompts: int
    up: Interval

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {**vars(self), "up": self.up.as_dict()}


@dataclass(frozen=True)
class Picks:
    """What people picked of the answers of two models.

    Attributes:
        one: URI of the model whose wins are counted.
        other: URI of the model it stood beside.
        picks: how many.
        equals: of them, how many say that both are equally good.
        prompts: different prompts.
        wins: how often `one` was picked, "equal" for a half; prompts are the independent draws.
    """

    one: str
    other: str
    picks: int
    equals: int
    prompts: int
    wins: Interval

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {**vars(self), "wins": self.wins.as_dict()}


def picks_of(labels: Iterable[Label]) -> list[Picks]:
    """Return what was picked of every two models, the newer one (the later in the order of names and numbers) as `one`."""
    found: dict[tuple[str, str], list[tuple[str, float, bool]]] = {}
    for label in labels:
        other, one = sorted((label.first_model, label.second_model), key=_by_number)
        won = label.preference if label.first_model == one else 1 - label.preference
        found.setdefault((one, other), []).append((label.question, won, is_equal(label.preference)))
    return [_picks(one, other, told) for (one, other), told in sorted(found.items())]


def thumbs_of(thumbs: Iterable[Thumb]) -> list[Thumbs]:
    """Return how often each model's answers were liked, the newest version first."""
    last = {thumb.id: thumb for thumb in thumbs}
    found: dict[str, list[tuple[str, float]]] = {}
    for thumb in last.values():
        found.setdefault(thumb.model, []).append((thumb.question, float(thumb.is_good)))
    models = sorted(found, key=_by_number, reverse=True)
    return [Thumbs(model, len(found[model]), *_over_prompts(found[model])) for model in models]


def _picks(one: str, other: str, told: list[tuple[str, float, bool]]) -> Picks:
    prompts, wins = _over_prompts((question, won) for question, won, _ in told)
    equals = sum(equal for _, _, equal in told)
    return Picks(one=one, other=other, picks=len(told), equals=equals, prompts=prompts, wins=wins)


def _over_prompts(told: Iterable[tuple[str, float]]) -> tuple[int, Interval]:
    """Return how many prompts there are, and the mean over them of each prompt's mean."""
    by_prompt: dict[str, list[float]] = {}
    for question, value in told:
        by_prompt.setdefault(question, []).append(value)
    means = [mean(values) for values in by_prompt.values()]
    return len(means), win_rate(means) if len(means) > 1 else wilson(means[0], 1)


def _by_number(uri: str) -> tuple[str, int, str]:
    """Put version 10 behind version 9."""
    name, _, number = uri.rpartition("/")
    return (name, int(number), "") if number.isdecimal() else (uri, 0, "")
