"""Colours and type of the figures. Each colour has a light and a dark value, and the page's CSS swaps one for the other."""

from dataclasses import dataclass
from typing import Any

FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
WIDE, NARROW = 900, 340
"""Widths in pixels of a figure on a desk (and on paper), and on a phone of 390 pixels."""


@dataclass(frozen=True)
class Colour:
    """A colour on a white page, and its counterpart on a dark one."""

    light: str
    dark: str


COLOURS: dict[str, Colour] = {
    "paper": Colour("#ffffff", "#14181d"),
    "ink": Colour("#1b1f24", "#e8ebef"),
    "muted": Colour("#57606a", "#a9b2bd"),
    "rule": Colour("#8c959f", "#76808b"),
    "grid": Colour("#e3e7eb", "#2b323a"),
    "band": Colour("#eceff2", "#252c34"),
    # Okabe and Ito's blue, vermilion and green (jfly.uni-koeln.de/color), darkened to 4.5 to 1 on white, lightened on dark
    "blue": Colour("#0067a3", "#62b5ee"),
    "red": Colour("#b44600", "#f39c66"),
    "green": Colour("#00705a", "#4fcdaa"),
    "grey": Colour("#6a737d", "#98a2ad"),
}
VERDICT_COLOURS = {"better": "blue", "worse": "red", "equal": "green", "undecided": "grey", "disagree": "grey"}


def light(name: str) -> str:
    """Return the value that a figure is drawn with."""
    return COLOURS[name].light


def verdict_colour(verdict: str | None) -> str:
    """Return the colour of a verdict, grey for none."""
    return light(VERDICT_COLOURS.get(verdict or "", "grey"))


def css_variables() -> tuple[str, str]:
    """Return the colours as custom properties of CSS: on a light page, and on a dark one."""
    return (
        "".join(f"--{name}:{colour.light};" for name, colour in COLOURS.items()),
        "".join(f"--{name}:{colour.dark};" for name, colour in COLOURS.items()),
    )


def css_of_figures() -> str:
    """Return rules that give whatever a figure draws in a colour of ours the page's value of it."""
    return "\n".join(
        f'.chart [fill="{colour.light}"]{{fill:var(--{name})}}.chart [stroke="{colour.light}"]{{stroke:var(--{name})}}'
        for name, colour in COLOURS.items()
    )


def config(*, size: int = 12) -> dict[str, Any]:
    """Return vega-lite's configuration: thin rules, no frame, text of one size."""
    return {
        "background": light("paper"),
        "font": FONT,
        "view": {"stroke": None},
        "text": {"color": light("ink"), "fontSize": size, "font": FONT},
        "axis": {
            **{"labelColor": light("muted"), "titleColor": light("ink"), "labelFontSize": size, "titleFontSize": size},
            **{"labelFont": FONT, "titleFont": FONT, "titleFontWeight": "normal", "gridColor": light("grid")},
            **{"domainColor": light("rule"), "tickColor": light("rule"), "titlePadding": 6},
        },
        "title": {
            **{"color": light("ink"), "fontSize": size, "fontWeight": "bold", "font": FONT, "anchor": "start", "offset": 6},
        },
        "header": {"labelColor": light("ink"), "labelFontSize": size},
        "legend": {"labelColor": light("ink"), "labelFontSize": size, "titleColor": light("ink"), "labelFont": FONT},
    }
