"""What a report's picture shows where no program can check the answers: one bar a model of the first figure that there is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from posttrain.report.unchecked import FIGURES, Figure, start_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = ("reference_loss", "judge_win_rate", "preference_accuracy")
"""Figures worth a picture, the first that any model has."""


def shown_figure(report: Mapping[str, Any]) -> Figure | None:
    """Return the figure to draw, or None where the report has none of them."""
    known = {one.key: one for one in FIGURES if any(values.get(one.key) for values in report["models"].values())}
    return next((known[key] for key in SHOWN if key in known), None)


def draw_unchecked(axes: "Axes", report: Mapping[str, Any], *, colour: str, line: str) -> None:
    """Draw the figure of each model that has it, with its 95 % interval; without any, a sentence that says so."""
    models, figure = report["models"], shown_figure(report)
    axes.spines[["top", "right"]].set_visible(False)
    if figure is None:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no figure of quality:\nnothing to check the answers against", ha="center", va="center", fontsize=11)
        return
    known = [(place, values[figure.key]) for place, values in enumerate(models.values()) if values.get(figure.key)]
    where = [place for place, _ in known]
    heights = [figure.scale * value["estimate"] for _, value in known]
    below = [figure.scale * (value["estimate"] - value["low"]) for _, value in known]
    above = [figure.scale * (value["high"] - value["estimate"]) for _, value in known]
    axes.bar(where, heights, width=0.5, color=colour)
    axes.errorbar(where, heights, yerr=[below, above], fmt="none", ecolor=line, capsize=4, elinewidth=1.4)
    for place, height, margin in zip(where, heights, above, strict=True):
        text = f"{height:.{figure.digits}f}"
        axes.annotate(text, (place, height + margin), (0, 3), textcoords="offset points", ha="center", fontsize=10)
    axes.set_xticks(range(len(models)), list(models), fontsize=11)
    axes.set_ylabel(figure.label.format(start=start_name(report)))
    axes.set_title("held-out questions, 95 % intervals", fontsize=11)
