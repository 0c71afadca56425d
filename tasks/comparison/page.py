"""The page of a comparison: index.html, readable without a network and without JavaScript, with Markdown, JSON and figures.

The figures are SVG that is drawn here, not by the reader's browser: vega's own JavaScript would weigh 0.9 MB in each page and
wants to evaluate text as code, which the page's policy refuses. Marks bear tooltips, and the numbers stand below each figure.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posttrain.comparison.markdown import as_markdown, headline, printable_all
from posttrain.comparison.sections import Section, sections_of
from posttrain.errors import StorageError
from tasks.comparison.answers import questions_of
from tasks.pages.look import Figure, rendered

HERE = Path(__file__).parent
SHOWN = 12
"""Questions with answers side by side that stand open; the others are a fold."""


def write_page(comparison: Mapping[str, Any], figures: Mapping[str, Figure], folder: Path) -> dict[str, Path]:
    """Write index.html, comparison.md, comparison.json and the figures into `folder`, made if need be.

    Args:
        comparison: of schema posttrain.comparison/1; every number of the page comes from it.
        figures: of it, as `figures_of` returns them.
        folder: of this comparison. A file of the same name there is replaced.

    Returns:
        The path of each file: "page", "markdown", "json", and "figure <name>" for each figure.

    Raises:
        StorageError: the disk refused; a file is the old one or the whole new one.
        ValueError: the comparison holds a number that JSON has not, such as nan.
    """
    # refused before anything is written
    text = json.dumps(comparison, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    shown = printable_all(comparison)
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
