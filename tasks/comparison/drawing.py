"""The figures of a comparison, drawn: a stage, since altair and vega take most of the time that a page takes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from posttrain.comparison.alternatives import SAYS
from posttrain.comparison.sections import sections_of
from tasks.comparison.charts.costs import costs
from tasks.comparison.charts.forest import forest
from tasks.comparison.charts.groups import groups
from tasks.comparison.charts.learning import learning
from tasks.comparison.charts.levels import levels
from tasks.comparison.charts.proxy import proxy
from tasks.comparison.charts.yardsticks import yardsticks
from tasks.comparison.figures import DRAWN
from tasks.pages.look import Figure, drawn
from tasks.workspace.artifacts import Log, Outcome

FIGURES: dict[str, tuple[Callable[[Mapping[str, Any], int], Any], str]] = {
    "forest": (
        forest,
        "Diamond: mean gain over the seeds, filled where it is told apart from zero. Thick line: the interval. "
        "Thin line with ends: the interval that decides, where it is another. Dots: single seeds. "
        "Shaded: differences that count as none.",
    ),
    "costs": (costs, "Filled, on the line: methods that no other beats in both. Vertical lines: intervals of the means."),
    "levels": (levels, "Dots: single seeds at what they used. Line: means over seeds. Grey: the other methods."),
    "learning": (learning, "A line is a seed, its dot the last point. A dot alone: all of it was used before the first step."),
    "groups": (groups, "Diamond: gain, filled where it is told apart from zero after the correction. Line: its interval."),
    "yardsticks": (
        yardsticks,
        "Solid with circles: pass@k. Dashed with squares: majority of k. Dotted with triangles: best of k.",
    ),
    "proxy": (proxy, "Solid: the model in training, a line a seed. Dashed with squares: best of n samples of its start."),
}
"""By name: what draws it, and what its marks mean."""


def draw(out: Path, log: Log, *, comparison: Mapping[str, Any]) -> Outcome:
    """Draw the figures of a comparison into a stage's folder."""
    figures = {name: asdict(figure) for name, figure in draw_figures(comparison).items()}
    (out / DRAWN).write_text(json.dumps(figures, ensure_ascii=False), encoding="utf-8", errors="backslashreplace")
    return Outcome()


def draw_figures(comparison: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures that the comparison has data for, by name."""
    figures: dict[str, Figure] = {}
    for section in sections_of(comparison)[0]:
        if section.figure:
            make, key = FIGURES[section.figure]
            says = SAYS[section.figure](comparison)
            figures[section.figure] = drawn(partial(make, comparison), name=section.figure, says=says, key=key)
    return figures
