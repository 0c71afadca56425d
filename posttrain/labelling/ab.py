"""Two models side by side without their names: how often one was picked over the other."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from posttrain.feedback.labels import Label, is_equal
from posttrain.statistics.figures import mean
from posttrain.statistics.intervals import Interval, wilson, win_rate

SELECTION = "ab"
"""How the pairs of such labels were chosen: by somebody who typed a prompt."""


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


def _picks(one: str, other: str, told: list[tuple[str, float, bool]]) -> Picks:
    by_prompt: dict[str, list[float]] = {}
    for question, won, _ in told:
        by_prompt.setdefault(question, []).append(won)
    means = [mean(values) for values in by_prompt.values()]
    return Picks(
        one=one,
        other=other,
        picks=len(told),
        equals=sum(equal for _, _, equal in told),
        prompts=len(means),
        wins=win_rate(means) if len(means) > 1 else wilson(means[0], 1),
    )


def _by_number(uri: str) -> tuple[str, int, str]:
    """Put version 10 behind version 9."""
    name, _, number = uri.rpartition("/")
    return (name, int(number), "") if number.isdecimal() else (uri, 0, "")
