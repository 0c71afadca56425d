"""Quality against what was really used, at each amount of a budget: a panel a method, the other methods grey behind it."""

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.comparison.curves import level_form, levels_of
from posttrain.comparison.numbers import scale_of
from posttrain.comparison.verdicts import titles_of
from tasks.comparison.charts.panels import FACTORS, arranged, cost_axis, layout, level_axis, ticks
from tasks.pages.svg import MARK
from tasks.pages.theme import NARROW, config, light

HEIGHT = 130


def levels(comparison: Mapping[str, Any], width: int) -> Any:
    """Return the curves over budgets as a chart of altair, `width` pixels wide."""
    import altair as alt

    rows, titles, scale = level_rows(comparison), titles_of(comparison), scale_of(comparison)
    every = [row for held in rows.values() for row in held]
    across, up = cost_axis([row["x"] for row in every]), level_axis([row["y"] for row in every])
    kind, metric = comparison["design"]["budget"]["kind"], comparison["design"]["metric"].replace("_", " ")
    named = f"{metric}, {scale.level_unit}" if scale.level_unit else metric
    row, inner = (2, 118) if width <= NARROW else layout(width, len(rows), most=3, axis=52)
    panels = []
    for place, name in enumerate(rows):
        title = titles[name]
        x = alt.X("x:Q").scale(across.scale(alt)).axis(ticks(alt, across)).title(f"{_unit(kind)} used")
        y = alt.Y("y:Q").scale(up.scale(alt)).title(named if place % row == 0 else None).axis(tickCount=4)
        panels.append(
            _panel(alt, name, rows, x, y).properties(
                width=inner, height=HEIGHT, title=title if len(title) <= 24 else f"{title[:23]}…"
            )
        )
    return arranged(alt, panels, row, config(size=11))


def _unit(kind: str) -> str:
    return {"seconds": "minutes", "flops": "FLOPs"}.get(kind, kind)


def _panel(alt: Any, name: str, rows: Mapping[str, Sequence[Mapping[str, Any]]], x: Any, y: Any) -> Any:
    others = [{**row, "method": other} for other, held in rows.items() if other != name for row in means(held)]
    own = alt.Chart(alt.Data(values=list(rows[name]))).encode(x=x, y=y)
    layers = [
        alt.Chart(alt.Data(values=means(rows[name])))
        .mark_line(color=light("blue"), strokeWidth=1.6)
        .encode(x=x, y=y, order="a:Q"),
        own.mark_circle(color=light("blue"), size=26, opacity=1).encode(description="says:N"),
    ]
    if others:
        behind = alt.Chart(alt.Data(values=others)).mark_line(
            color=light("rule"), strokeWidth=0.8, point=alt.OverlayMarkDef(color=light("rule"), size=14)
        )
        layers.insert(0, behind.encode(x=x, y=y, detail="method:N", order="a:Q"))
    return alt.layer(*layers)


def level_rows(comparison: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the points of each method in the units of the axes: `a` amount, `x` used, `y` value, `says` its tooltip."""
    scale, titles, kind = scale_of(comparison), titles_of(comparison), comparison["design"]["budget"]["kind"]
    form = level_form(kind)
    factor = FACTORS.get(kind, 1.0)
    return {
        name: [
            {
                **{"a": row["amount"], "x": row["used"] * factor, "y": row["value"] * scale.factor},
                "says": f"{MARK}{titles[name]}, seed {row['seed']}, {form(row['used'])} of {form(row['amount'])} {kind}: "
                f"{scale.plain(row['value'])}",
            }
            for row in held
        ]
        for name, held in levels_of(comparison).items()
    }


def means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean over seeds of a method's points at each amount, the smallest first."""
    found = []
    for given in dict.fromkeys(row["a"] for row in rows):
        held = [row for row in rows if row["a"] == given]
        found.append({"a": given, **{key: sum(row[key] for row in held) / len(held) for key in ("x", "y")}})
    return found
