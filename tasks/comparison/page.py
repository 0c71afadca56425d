"""The page of a comparison: index.html, readable without a network and without JavaScript, with Markdown, JSON and figures.

The figures are SVG that is drawn here, not by the reader's browser: vega's own JavaScript would weigh 0.9 MB in each page and
wants to evaluate text as code, which the page's policy refuses. Marks bear tooltips, and the numbers stand below each figure.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from posttrain.comparison.alternatives import SAYS
from posttrain.comparison.markdown import as_markdown, headline, printable_all
from posttrain.comparison.sections import Section, sections_of
from posttrain.errors import StorageError
from tasks.comparison.answers import questions_of
from tasks.comparison.charts.costs import costs
from tasks.comparison.charts.forest import forest
from tasks.comparison.charts.groups import groups
from tasks.comparison.charts.learning import learning
from tasks.comparison.charts.levels import levels
from tasks.comparison.charts.proxy import proxy
from tasks.comparison.charts.yardsticks import yardsticks
from tasks.pages.look import Figure, drawn, rendered

HERE = Path(__file__).parent
SHOWN = 12
"""Questions with answers side by side that stand open; the others are a fold."""
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


def write_page(comparison: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Write index.html, comparison.md, comparison.json and the figures into `folder`, made if need be.

    Args:
        comparison: of schema posttrain.comparison/1; every number of the page comes from it.
        folder: of this comparison. A file of the same name there is replaced.

    Returns:
        The path of each file: "page", "markdown", "json", and "figure <name>" for each figure.

    Raises:
        StorageError: the disk refused; a file is the old one or the whole new one.
        ValueError: the comparison holds a number that JSON has not, such as nan.
    """
    # refused before anything is drawn or written
    text = json.dumps(comparison, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    shown = printable_all(comparison)
    figures = draw_figures(shown)
    files = {
        "page": (folder / "index.html", render_page(shown, figures)),
        "markdown": (folder / "comparison.md", as_markdown(comparison)),
        **{f"figure {name}": (folder / f"{name}.svg", figure.wide + "\n") for name, figure in figures.items()},
        "json": (folder / "comparison.json", text),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in files.values():
            part = path.with_name(f".{path.name}.part")
            part.write_bytes(content.encode("utf-8", "backslashreplace"))
            part.replace(path)
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written: {error.strerror}. Free the disk or its permissions, then run again: "
            "finished runs are reused"
        ) from error
    return {kind: path for kind, (path, _) in files.items()}


def draw_figures(comparison: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures that the comparison has data for, by name."""
    figures: dict[str, Figure] = {}
    for section in sections_of(comparison)[0]:
        if section.figure:
            make, key = FIGURES[section.figure]
            says = SAYS[section.figure](comparison)
            figures[section.figure] = drawn(partial(make, comparison), name=section.figure, says=says, key=key)
    return figures


def render_page(comparison: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """Return index.html of a comparison whose texts are printable (`printable_all`)."""
    sections, _ = sections_of(comparison)
    return rendered(
        HERE,
        "page.html.j2",
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        comparison=comparison,
        headline=headline(comparison),
        sections=sections,
        figures=figures,
        questions=questions_of(comparison),
        shown=SHOWN,
        folds=_folds,
    )


def _folds(section: Section) -> str:
    """Return what the fold below a section is called."""
    return "The numbers of the figure, and the figure in words" if section.figure else "More numbers"
