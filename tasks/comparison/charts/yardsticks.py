"""pass@k, majority and best of k: a panel a method, a line a yardstick, one scale for all."""

from collections.abc import Mapping
from typing import Any

from posttrain.comparison.measures import YARDSTICKS
from posttrain.comparison.numbers import share
from posttrain.comparison.verdicts import ordered, titles_of
from tasks.comparison.charts.panels import Axis, arranged, layout, level_axis
from tasks.pages.svg import MARK
from tasks.pages.theme import NARROW, config, light

HEIGHT = 130
DRESS = {
    # colour, dash and shape, so that the three are apart without colour
    "pass": ("blue", [1, 0], "circle", "pass@k"),
    "majority": ("green", [5, 3], "square", "majority of k"),
    "best_of": ("red", [1, 2], "triangle-up", "best of k"),
}


def yardsticks(comparison: Mapping[str, Any], width: int) -> Any:
    """Return the yardsticks as a chart of altair, `width` pixels wide."""
    import altair as alt

    methods = [one for _, one in ordered(comparison) if one.get("yardsticks")]
    rows = {one["name"]: yardstick_rows(one, titles_of(comparison)[one["name"]]) for one in methods}
    every = [row for held in rows.values() for row in held]
    levels = level_axis([row["y"] for row in every])
    sizes = sorted({row["k"] for row in every})
    row, inner = (2, 118) if width <= NARROW else layout(width, len(methods), most=4, axis=46)
    panels = []
    for place, one in enumerate(methods):
        title = titles_of(comparison)[one["name"]]
        short = title if len(title) <= 24 else f"{title[:23]}…"
        panels.append(
            _panel(alt, rows[one["name"]], levels, sizes, is_first=place % row == 0).properties(
                width=inner, height=HEIGHT, title=short
            )
        )
    return arranged(alt, panels, row, config(size=11))


def _panel(alt: Any, rows: list[dict[str, Any]], levels: Axis, sizes: list[int], *, is_first: bool) -> Any:
    x = (
        alt.X("k:Q")
        .scale(type="log", base=2, domain=[sizes[0] / 1.15, sizes[-1] * 1.15], nice=False)
        .axis(values=sizes, format="d")
        .title("k samples")
    )
    y = alt.Y("y:Q").scale(levels.scale(alt)).title("right, %" if is_first else None).axis(tickCount=4)
    layers = []
    for name, (colour, dash, shape, _) in DRESS.items():
        held = [row for row in rows if row["yardstick"] == name]
        if held:
            base = alt.Chart(alt.Data(values=held)).encode(x=x, y=y)
            layers.append(base.mark_line(color=light(colour), strokeDash=dash, strokeWidth=1.6))
            layers.append(
                base.mark_point(shape=shape, filled=True, size=36, opacity=1, color=light(colour)).encode(description="says:N")
            )
    return alt.layer(*layers)


def yardstick_rows(method: Mapping[str, Any], title: str) -> list[dict[str, Any]]:
    """Return the points of a method's yardsticks, in per cent, from the smallest k."""
    rows = []
    for name, says in YARDSTICKS:
        values = method["yardsticks"].get(name) or {}
        for size in sorted(values, key=int):
            if values[size] and values[size].get("estimate") is not None:
                said = f"{MARK}{title}, {says}{size}: {share(values[size])}"
                rows.append({"yardstick": name, "k": int(size), "y": values[size]["estimate"] * 100, "says": said})
    return rows
