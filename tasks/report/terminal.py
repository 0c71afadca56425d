"""The report of a pipeline on the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from posttrain.printable import printable
from posttrain.report.audit import audit_rows
from posttrain.report.pipeline import has_audit_picture, headline, result_rows, stage_rows
from posttrain.statistics.intervals import INTERVALS_COVER


def print_report(report: Mapping[str, Any], *, console: Console | None = None) -> None:
    """Print the stages, the results and where to look next, within 100 columns."""
    console = console or Console(width=min(100, Console().width))
    console.print()
    console.print(Text(f"{report['method']} on {report['dataset']}, seed {report['seed']}", style="bold"))
    console.print(_table(["stage", "", "cost", "key"], stage_rows(report), numbers=(2,)))
    console.print()
    console.print(_table(["held-out questions", *report["models"]], result_rows(report), numbers=range(1, 9)))
    console.print(Text(f"in brackets: {INTERVALS_COVER}", style="dim"))
    console.print()
    for heading, rows in audit_rows(report.get("audit", {})).items():
        console.print(_table([heading, ""], rows, numbers=(1,)))
        console.print()
    console.print(Text(headline(report)), soft_wrap=True)
    for note in report["notes"]:
        console.print(Text(printable(f"note: {note}")), soft_wrap=True)
    for warning in report["warnings"]:
        console.print(Text(printable(f"warning: {warning}"), style="yellow"), soft_wrap=True)
    console.print()
    places = [
        ("model", f"{report['model']['uri']}  ({report['champion']['why']})"),
        ("loads from", report["model"]["path"]),
        ("report", f"reports/{report['pipeline_id']}.md, .json, .png{', -audit.png' if has_audit_picture(report) else ''}"),
        ("look", "make ui, then open"),
        ("", report["mlflow"]["compare_url"]),
    ]
    for name, text in places:
        # one line each, however long: an address that is broken in two cannot be clicked
        console.print(Text(printable(f"{name:<11}{text}")), soft_wrap=True)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left", header_style="bold")
    for place, name in enumerate(head):
        table.add_column(Text(name), justify="right" if place in numbers else "left")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
