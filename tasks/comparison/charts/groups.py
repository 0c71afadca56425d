"""Gain over the reference by group of questions: a panel a group, a row a method, one scale for all."""

from collections.abc import Mapping
from typing import Any

from posttrain.comparison.numbers import Scale, count, scale_of
from posttrain.comparison.verdicts import LOOKS, ordered, titles_of
from tasks.comparison.charts.panels import Axis, arranged, layout
from tasks.pages.svg import MARK
from tasks.pages.theme import config, light, verdict_colour

ROW, NAMES = 22, 128


def groups(comparison: Mapping[str, Any], width: int) -> Any:
    """Return gains by group as a chart of altair, `width` pixels wide."""
    import altair as alt

    scale, held = scale_of(comparison), comparison["groups"]["groups"]
    names = [one["name"] for _, one in ordered(comparison) if any(_entry(group, one["name"]) for group in held)]
    row, inner = layout(width, len(held), most=2, axis=NAMES + 20)
    entries = [entry for group in held for name in names if (entry := _entry(group, name))]
    ends = [
        0.0,
        *(entry[key] * scale.factor for entry in entries for key in ("low", "estimate", "high") if entry.get(key) is not None),
    ]
    room = 0.05 * (max(ends) - min(ends)) or 1.0
    domain = Axis("linear", min(ends) - room, max(ends) + room)
    panels = [_panel(alt, comparison, group, names, scale, domain).properties(width=inner) for group in held]
    return arranged(alt, panels, row, config(size=11))


def _entry(group: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    entry = group["methods"].get(name)
    return entry if entry and entry.get("estimate") is not None else None


def _panel(
    alt: Any, comparison: Mapping[str, Any], group: Mapping[str, Any], names: list[str], scale: Scale, domain: Axis
) -> Any:
    titles, rows = titles_of(comparison), []
    for place, name in enumerate(names):
        entry = _entry(group, name)
        if entry is None:
            continue
        verdict = entry.get("verdict")
        look = LOOKS[verdict] if verdict else None
        colour = verdict_colour(verdict)
        said = f"{MARK}{group['name']}, {titles[name]}: {scale.gain(entry)} {scale.gain_unit}{f'; {look.says}' if look else ''}"
        rows.append(
            {
                **{"title": titles[name], "y": place + 0.5, "x": entry["estimate"] * scale.factor, "colour": colour},
                **{key: None if entry.get(key) is None else entry[key] * scale.factor for key in ("low", "high")},
                "fill": colour if look and look.is_told_apart else light("paper"),
                "says": said,
            }
        )
    unit = scale.gain_unit or "the metric's unit"
    x = alt.X("x:Q").scale(domain.scale(alt)).title(f"gain, {unit}").axis(tickCount=5)
    y = alt.Y("y:Q").scale(domain=[len(names), 0], nice=False, zero=False).axis(None)
    base = alt.Chart(alt.Data(values=rows)).encode(y=y)
    zero = alt.Chart(alt.Data(values=[{"y": 0, "end": len(names)}]))
    colour_of = alt.Color("colour:N").scale(None)
    name = group["name"] if len(group["name"]) <= 36 else f"{group['name'][:35]}…"
    return alt.layer(
        zero.mark_rule(color=light("ink")).encode(x=alt.datum(0), y=y, y2="end:Q"),
        base.mark_rule(strokeWidth=3).encode(x=x, x2="high:Q", color=colour_of).transform_calculate(x="datum.low"),
        base.mark_point(filled=True, size=60, shape="diamond", strokeWidth=1.5, opacity=1).encode(
            x=x, stroke=alt.Stroke("colour:N").scale(None), fill=alt.Fill("fill:N").scale(None), description="says:N"
        ),
        base.mark_text(align="right", limit=NAMES - 10, aria=False, fontSize=11).encode(x=alt.value(-8), text="title:N"),
    ).properties(height=ROW * len(names), title=f"{name} ({count(group['questions'])} questions)")
