"""The page of a check: index.html, which needs neither network nor JavaScript, with Markdown, JSON and figures beside it."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from posttrain.comparison.markdown import escape, printable_all, section_lines
from posttrain.comparison.sections import Section
from tasks.monitoring.charts import lengths, separation
from tasks.monitoring.words import KEYS, SAYS, headline, sections_of, sentence_of
from tasks.pages.look import Figure, drawn, rendered
from tasks.workspace.disk import storage_errors, write_whole
from tasks.workspace.paths import Paths

HERE = Path(__file__).parent
FIGURES = {"separation": separation, "lengths": lengths}
JSON, PAGE, MARKDOWN = "monitor.json", "index.html", "monitor.md"


def folder_of(paths: Paths) -> Path:
    """Return where checks lie, a folder each, and `latest.json`."""
    return paths.reports / "monitor"


def write_check(paths: Paths, record: Mapping[str, Any]) -> dict[str, Path]:
    """Write the page of a check and what stands beside it to `reports/monitor/<id>/`, its JSON last, and that as `latest.json`.

    Args:
        paths: of the repository.
        record: of schema posttrain.monitor/1; every number of the page comes from it.

    Returns:
        The path of each file: "page", "markdown", "json", and "figure <name>" for each figure.

    Raises:
        StorageError: the disk refused.
        ValueError: the record holds a number that JSON has not, such as nan.
    """
    # refused before anything is drawn or written
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    shown = printable_all(record)
    figures = draw_figures(shown)
    folder = folder_of(paths) / record["id"]
    files = {
        **{f"figure {name}": (folder / f"{name}.svg", f"{figure.wide}\n") for name, figure in figures.items()},
        "markdown": (folder / MARKDOWN, as_markdown(shown)),
        "page": (folder / PAGE, render_page(shown, figures)),
        "json": (folder / JSON, text),
    }
    with storage_errors("the check", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in (*files.values(), (folder_of(paths) / "latest.json", text)):
            write_whole(path, content.encode("utf-8", "backslashreplace"))
    return {kind: path for kind, (path, _) in files.items()}


def draw_figures(record: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures of a check by name."""
    return {
        name: drawn(partial(make, record), name=name, says=SAYS[name](record), key=KEYS[name]) for name, make in FIGURES.items()
    }


def render_page(record: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """Return index.html of a check whose texts are printable."""
    return rendered(
        HERE,
        "page.html.j2",
        record=record,
        headline=headline(record),
        verdict=sentence_of(record),
        sections=sections_of(record),
        figures=figures,
        folds=_folds,
    )


def _folds(section: Section) -> str:
    """Return what the fold below a section is called."""
    return "The numbers of the figure, and the figure in words" if section.figure else "More numbers"


def as_markdown(record: Mapping[str, Any]) -> str:
    """Return a check whose texts are printable as Markdown: the sections of the page without its pictures."""
    lines = ["# Check of new prompts", "", f"**{escape(sentence_of(record))}.**", "", escape(headline(record)), ""]
    for section in sections_of(record):
        lines += section_lines(section)
    return "\n".join(lines).rstrip() + "\n"
