"""A comparison on the terminal: the verdict, a short table, and where the page is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from posttrain.comparison.numbers import minutes
from posttrain.printable import printable

HEAD = ("method", "mean", "gain", "verdict", "minutes")


def print_comparison(record: Mapping[str, Any], *, page: Path, console: Console | None = None) -> None:
    """Print the last words of a comparison, within 100 columns."""
    console = console or Console(width=min(100, Console().width))
    console.print()
    console.print(Text(printable(record["verdict"]), style="bold"), soft_wrap=True)
    console.print()
    table = Table(*HEAD, box=None, padding=(0, 2, 0, 0), header_style="bold")
    for row in result_rows(record):
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)
    console.print(Text(f"in brackets: {record['design']['covers']}", style="dim"), soft_wrap=True)
    for warning in record["warnings"]:
        console.print(Text(printable(f"warning: {warning}"), style="yellow"), soft_wrap=True)
    console.print()
    console.print(Text(printable(f"page       {page}")), soft_wrap=True)


def result_rows(record: Mapping[str, Any]) -> list[list[str]]:
    """Return a row a method: its mean, its gain over the reference, the verdict on that, minutes of training a seed."""
    design = record["design"]
    gains = {pair["a"]: pair for pair in record["pairs"] if pair["family"] == "reference"}
    rows = []
    for method in record["methods"]:
        gain, seconds = gains.get(method["name"]), method["costs"]["train_seconds"]
        rows.append(
            [
                method["title"],
                _bounded(method["mean"], design["unit"], sign=""),
                "–" if gain is None else _bounded(gain, design["unit"], sign="+"),
                "reference" if method["is_reference"] else "–" if gain is None else gain["verdict"],
                "–" if seconds is None else minutes(seconds),
            ]
        )
    return rows


def _bounded(found: Mapping[str, float], unit: str, *, sign: str) -> str:
    scale, digits = (100, 1) if unit == "share" else (1, 3)
    estimate, low, high = (scale * found[name] + 0.0 for name in ("estimate", "low", "high"))
    return f"{estimate:{sign}.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
