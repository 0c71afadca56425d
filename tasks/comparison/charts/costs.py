"""Cost against quality: a panel a cost, with the front of the methods that no other beats on both."""

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.comparison.fronts import Priced, cost_axes, pareto_front, priced
from posttrain.comparison.numbers import Form, Scale, scale_of
from posttrain.comparison.verdicts import titles_of
from tasks.comparison.charts.panels import FACTORS, Axis, arranged, cost_axis, layout, level_axis, ticks
from tasks.pages.svg import MARK
from tasks.pages.theme import config, light

HEIGHT = 230
_LETTER, _LINE, _LONGEST = 6.6, 13, 18
"""Pixels of a letter and a line of a label, and its letters at most."""


def costs(comparison: Mapping[str, Any], width: int) -> Any:
    """Return cost against quality as a chart of altair, `width` pixels wide."""
    import altair as alt

    axes = cost_axes(comparison)
    row, inner = layout(width, len(axes), most=2)
    panels = [_panel(alt, comparison, axis, inner) for axis in axes]
    return arranged(alt, panels, row, config())


def _panel(alt: Any, comparison: Mapping[str, Any], axis: tuple[str, str, Form], width: int) -> Any:
    key, title, form = axis
    points, scale = priced(comparison, key), scale_of(comparison)
    front = pareto_front(points, higher_is_better=comparison["design"]["higher_is_better"])
    means = {one["name"]: one["mean"] for one in comparison["methods"]}
    bounds = [
        means[one.name][end] for one in points for end in ("low", "high", "estimate") if means[one.name].get(end) is not None
    ]
    levels = level_axis([value * scale.factor for value in bounds])
    factor = FACTORS.get(key, 1.0)
    amounts = cost_axis([one.cost * factor for one in points])
    rows = [_row(comparison, one, means[one.name], scale, form, factor, is_best=one in front) for one in points]
    place_labels(rows, amounts, levels, width=width, height=HEIGHT)
    unit = f", {scale.level_unit}" if scale.level_unit else ""
    x = alt.X("x:Q").scale(amounts.scale(alt)).axis(ticks(alt, amounts)).title(_titled(title, amounts))
    y = alt.Y("y:Q").scale(levels.scale(alt)).title(f"{comparison['design']['metric'].replace('_', ' ')}{unit}").axis(tickCount=5)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y)
    line = alt.Chart(alt.Data(values=[row for row in rows if row["is_best"]])).encode(x=x, y=y)
    # up to the next method, money buys nothing: the front is a stair
    stair = "step-after"
    colour, fill = alt.Color("colour:N").scale(None), alt.Fill("fill:N").scale(None)
    texts = [
        base.transform_filter(f"datum.side === '{side}'")
        .mark_text(align=align, dx=dx, dy=dy, aria=False, **halo)
        .encode(text="label:N", **({} if halo else {"color": alt.Color("ink:N").scale(None)}))
        # a halo keeps the stair and whiskers off the letters
        for halo in ({"stroke": light("paper"), "strokeWidth": 4}, {})
        for side, (align, dx, dy) in SIDES.items()
        if any(row["side"] == side for row in rows)
    ]
    return alt.layer(
        line.mark_line(interpolate=stair, color=light("blue"), strokeWidth=1.5),
        base.mark_rule(strokeWidth=1.4).encode(y="low:Q", y2="high:Q", color=colour),
        *texts,
        base.mark_point(filled=True, size=60, strokeWidth=1.6, opacity=1).encode(
            stroke=alt.Stroke("colour:N").scale(None), fill=fill, description="says:N"
        ),
    ).properties(width=width, height=HEIGHT)


def _titled(title: str, axis: Axis) -> str:
    return title + {"log": " (powers of ten)", "sqrt": " (scale of square roots)"}.get(axis.kind, "")


def _row(
    comparison: Mapping[str, Any],
    one: Priced,
    mean: Mapping[str, Any],
    scale: Scale,
    form: Form,
    factor: float,
    *,
    is_best: bool,
) -> dict[str, Any]:
    title = titles_of(comparison)[one.name]
    said = "; no other method beats it on both" if is_best else ""
    return {
        **{"x": one.cost * factor, "y": one.value * scale.factor, "is_best": is_best},
        **{end: None if mean.get(end) is None else mean[end] * scale.factor for end in ("low", "high")},
        **{"colour": light("blue" if is_best else "grey"), "fill": light("blue" if is_best else "paper")},
        **{
            "label": title if len(title) <= _LONGEST else f"{title[: _LONGEST - 1]}…",
            "ink": light("ink" if is_best else "muted"),
        },
        "says": f"{MARK}{title}: {scale.level(mean)} {scale.level_unit} for {form(one.cost)}{said}",
    }


SIDES: dict[str, tuple[str, int, int]] = {
    "right": ("left", 8, 0),
    "left": ("right", -8, 0),
    "above": ("left", 5, -11),
    "below": ("left", 5, 15),
    "above left": ("right", -5, -11),
    "below left": ("right", -5, 15),
}
"""Where the label of a point may stand: alignment and shift in pixels, the first that is free. Below is a whole line below, so
that two methods of one cost and one level can both be named."""


def place_labels(rows: Sequence[dict[str, Any]], x: Axis, y: Axis, *, width: int, height: int) -> None:
    """Give each row a `side` for its label so that no label covers another or a point; "" where none is free.

    Methods on the front choose first. A label that finds no place is left out: the tooltip and the table have its name.
    """
    centres = [(x.place(row["x"]) * width, (1 - y.place(row["y"])) * height) for row in rows]
    taken = [(left - 5, top - 5, left + 5, top + 5) for left, top in centres]
    order = sorted(range(len(rows)), key=lambda place: not rows[place]["is_best"])
    for place in order:
        rows[place]["side"] = ""
        for side, (align, dx, dy) in SIDES.items():
            box = _box(centres[place], len(rows[place]["label"]) * _LETTER, align, dx, dy)
            inside = box[0] >= 0 and box[2] <= width + 8 and box[1] >= -6 and box[3] <= height
            others = [other for which, other in enumerate(taken) if which != place]
            if inside and not any(_overlap(box, other) for other in others):
                rows[place]["side"] = side
                taken.append(box)
                break


def _box(centre: tuple[float, float], length: float, align: str, dx: int, dy: int) -> tuple[float, float, float, float]:
    left = centre[0] + dx - (length if align == "right" else 0)
    return left, centre[1] + dy - _LINE / 2, left + length, centre[1] + dy + _LINE / 2


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
