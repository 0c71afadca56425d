"""The advice on the terminal: the sentence first, then why."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from posttrain.advice.advise import Advice
from posttrain.advice.costs import Cost
from posttrain.advice.words import ASSUMED, HEAD, facts_lines, method_row
from posttrain.printable import printable


def print_advice(
    advice: Advice,
    costs: Mapping[str, Cost],
    power: tuple[Sequence[str], Sequence[Sequence[str]]],
    comparisons: Sequence[Mapping[str, Any]],
    *,
    console: Console | None = None,
) -> None:
    """Print the recommendation, what comparisons found, the facts, the table of methods, and what would show an effect."""
    console = console or Console(width=min(140, max(100, Console().width)))

    def line(text: str, style: str = "") -> None:
        console.print(Text(printable(text), style=style), soft_wrap=True)

    line(advice.sentence, "bold")
    console.print()
    for found in comparisons:
        other = "" if found["same_data"] else " (of another version of the data)"
        line(f"compared here{other}, {found['created']}: {found['verdict']}")
    for told in facts_lines(advice.situation):
        line(told)
    for warning in advice.warnings:
        line(f"warning: {warning.text}{f'; {warning.remedy}' if warning.remedy else ''}", "yellow")
    console.print()
    console.print(_table(HEAD, [method_row(one, costs[one.method.name]) for one in advice.methods], widths=(13, 8, None, 38)))
    head, rows = power
    console.print(Text("What would show an effect of 1, 2 or 5 points of accuracy", style="bold"))
    console.print(_table(head, rows, widths=()))
    line(ASSUMED, "dim")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, widths: Sequence[int | None]) -> Table:
    is_wide = bool(widths)
    table = Table(box=None, padding=(0, 2, int(is_wide), 0), header_style="bold")
    for place, name in enumerate(head):
        width = widths[place] if is_wide else None
        table.add_column(Text(name), justify="left" if is_wide else "right", width=width)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
