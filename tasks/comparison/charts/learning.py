"""Learning curves: a row a method, a column an axis of cost, a line a seed; one scale down each column, so that rows compare."""

from collections.abc import Mapping
from typing import Any

from posttrain.comparison.curves import has_curve, learning_axes
from posttrain.comparison.numbers import decimal
from posttrain.comparison.verdicts import ordered, titles_of
from tasks.comparison.charts.panels import FACTORS, Axis, arranged, level_axis, ticks
from tasks.pages.svg import MARK
from tasks.pages.theme import NARROW, config, light

HEIGHT, NARROW_HEIGHT = 78, 72
LONGEST, SHORTEST, MOST = 120, 20, 3_000
"""Points of a line that are drawn at most, at least, and of all lines together; the first and the last of a line stay."""


def learning(comparison: Mapping[str, Any], width: int) -> Any:
    """Return learning curves as a chart of altair, `width` pixels wide."""
    import altair as alt

    is_narrow = width <= NARROW
    methods = [one for _, one in ordered(comparison) if has_curve(one)]
    axes = learning_axes(comparison)
    # a panel narrower than 100 pixels shows no shape, so a phone has the axes one below the other
    inner = width - 60 if is_narrow else int((width - 60) / len(axes)) - 18
    points = [point for one in methods for curve in one["learning"] for point in curve["points"]]
    scales = {
        key: Axis("linear", 0.0, max((point.get(key) or 0) for point in points) * FACTORS.get(key, 1.0)) for key, _, _ in axes
    }
    # values on different things (a reward, a loss, a share) have no scale together
    is_shared = len({point.get("what") for point in points}) == 1
    most = max(SHORTEST, min(LONGEST, MOST // max(sum(len(one["learning"]) for one in methods), 1)))
    every = level_axis([point["value"] for point in points if point.get("value") is not None])
    titles, panels = titles_of(comparison), []
    for place, one in enumerate(methods):
        values = [point["value"] for curve in one["learning"] for point in curve["points"] if point.get("value") is not None]
        levels = every if is_shared or not values else level_axis(values)
        for column, (key, title, _) in enumerate(axes):
            is_labelled = place == len(methods) - 1 or is_narrow
            named = {"title": _title(titles[one["name"]], one)} if column == 0 else {}
            panels.append(
                _panel(alt, one, key, most)
                .encode(
                    x=alt.X("x:Q")
                    .scale(scales[key].scale(alt))
                    .title(title if is_labelled else None)
                    .axis(ticks(alt, scales[key], labels=is_labelled)),
                    y=alt.Y("y:Q")
                    .scale(levels.scale(alt))
                    .title(None)
                    .axis(_value_axis(alt, is_labelled=column == 0 or is_narrow)),
                )
                .properties(
                    width=inner,
                    height=NARROW_HEIGHT if is_narrow else HEIGHT,
                    **named,
                )
            )
    return arranged(alt, panels, 1 if is_narrow else len(axes), config(size=11), gap=10)


def _title(title: str, method: Mapping[str, Any]) -> str:
    short = title if len(title) <= 34 else f"{title[:33]}…"
    what = {point.get("what") for curve in method["learning"] for point in curve["points"]} - {None}
    return f"{short}: {what.pop()}" if len(what) == 1 else short


def _value_axis(alt: Any, *, is_labelled: bool) -> Any:
    return alt.Axis(tickCount=3, labels=is_labelled, ticks=is_labelled, domain=is_labelled)


def _panel(alt: Any, method: Mapping[str, Any], key: str, most: int) -> Any:
    """Return the lines of a method's seeds against one axis, and their ends as dots."""
    rows = []
    for curve in method["learning"]:
        points = [point for point in curve["points"] if point.get("value") is not None and point.get(key) is not None]
        if len({point[key] for point in points}) == 1:
            # all of this was used at once, before the first step
            points = points[-1:]
        for point in thinned(points, most):
            rows.append(
                {"x": point[key] * FACTORS.get(key, 1.0), "y": point["value"], "seed": f"s{curve['seed']}", "is_last": False}
            )
        if points:
            said = f"{MARK}seed {curve['seed']}, last point: {decimal(points[-1]['value'])}"
            rows[-1] |= {"is_last": True, "says": said}
    base = alt.Chart(alt.Data(values=rows))
    return alt.layer(
        base.mark_line(strokeWidth=1.2, color=light("blue"), opacity=0.75).encode(detail="seed:N", order="x:Q"),
        base.transform_filter("datum.is_last").mark_circle(size=26, color=light("blue"), opacity=1).encode(description="says:N"),
    )


def thinned(points: list[Any], most: int = LONGEST) -> list[Any]:
    """Return at most `most` points, evenly spaced in their order, with the first and the last."""
    if len(points) <= most:
        return points
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]
