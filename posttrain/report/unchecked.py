"""What a report says of quality where no program can check an answer: losses, held-out pairs, a judge's verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

START_NAMES = {"sft": "SFT"}
"""What people call the model that a method starts from."""


@dataclass(frozen=True)
class Figure:
    """A line of the results table: the key within a model's metrics, its label, what it is multiplied by, and its digits.

    `{start}` in a label is the model that a method started from.
    """

    key: str
    label: str
    scale: float
    digits: int


FIGURES = (
    Figure("reference_loss", "held-out loss (nats)", 1, 3),
    Figure("reference_loss_change", "against {start}, paired", 1, 3),
    Figure("perplexity", "held-out perplexity", 1, 2),
    Figure("preference_accuracy", "pairs ranked right (%)", 100, 1),
    Figure("judge_win_rate", "judge's wins vs {start} (%)", 100, 1),
)
"""Each has an interval; a model that has none of a figure gets "–", and a figure that no model has gets no line."""


def start_name(report: Mapping[str, Any]) -> str:
    """Return what people call the model that win rates and changes are taken against."""
    name = str(report["baseline"])
    return START_NAMES.get(name, name)


def unchecked_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return these figures as text, one row each: its label, then one cell a model."""
    models = report["models"].values()
    return [
        [one.label.format(start=start_name(report)), *(_cell(values.get(one.key), one) for values in models)]
        for one in FIGURES
        if any(values.get(one.key) for values in models)
    ]


def unchecked_headline(report: Mapping[str, Any]) -> str:
    """Say in one sentence how the method's model does where the held-out questions have no answers to check against.

    Under METHOD=sft the model is itself the start, and the base is what it is held against.
    """
    models, start = report["models"], report["baseline"]
    final = list(models)[-1]
    told = []
    if final != start:
        change, win = models[final].get("reference_loss_change"), models[final].get("judge_win_rate")
        other = start_name(report)
    else:
        before = models[next(iter(models))]
        change, win = (_mirrored(before.get(key), at) for key, at in (("reference_loss_change", 0.0), ("judge_win_rate", 0.5)))
        other = next(iter(models))
    if win:
        told.append(f"wins {_range(win, scale=100, digits=1)} % of its comparisons with {other} by the judge")
    if accuracy := models[final].get("preference_accuracy"):
        told.append(f"ranks {_range(accuracy, scale=100, digits=1)} % of the held-out pairs as their annotators did")
    if change:
        nats = _range(change, digits=3, sign="+")
        told.append(
            f"finds held-out completions {_direction(change)}: {nats} nats a token against {other}, on the same questions"
        )
    if not told:
        return f"{final} has no figure of quality: the held-out questions have neither answers nor completions to compare with."
    return f"{final} {'; it '.join(told)} (in brackets: 95 % intervals)."


def _direction(change: Mapping[str, float]) -> str:
    if change["high"] < 0:
        return "likelier"
    return "less likely" if change["low"] > 0 else "about as likely"


def _mirrored(value: Mapping[str, float] | None, at: float) -> Mapping[str, float] | None:
    """Return the figure as seen from the other model: B against A where it is A against B."""
    if not value:
        return None
    return {"estimate": 2 * at - value["estimate"], "low": 2 * at - value["high"], "high": 2 * at - value["low"]}


def _range(value: Mapping[str, float], *, scale: float = 1, digits: int, sign: str = "") -> str:
    estimate, low, high = (f"{scale * value[name]:{sign}.{digits}f}" for name in ("estimate", "low", "high"))
    return f"{estimate} [{low}, {high}]"


def _cell(value: Mapping[str, float] | None, figure: Figure) -> str:
    if not value:
        return "–"
    estimate, low, high = (f"{figure.scale * value[name]:.{figure.digits}f}" for name in ("estimate", "low", "high"))
    separator = ", " if value["low"] < 0 else "–"
    return f"{estimate} [{low}{separator}{high}]"
