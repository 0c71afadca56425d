"""Proxy against gold: a row a method that learned from rewards; the reward at the left, gold at the right, over √KL."""

from collections.abc import Mapping
from typing import Any

from posttrain.comparison.curves import has_proxy
from posttrain.comparison.numbers import decimal
from posttrain.comparison.verdicts import ordered, titles_of
from tasks.comparison.charts.learning import thinned
from tasks.comparison.charts.panels import Axis, arranged, level_axis
from tasks.pages.svg import MARK
from tasks.pages.theme import NARROW, config, light

HEIGHT = 110
SIDES = (("proxy", "proxy: the reward that was optimised", "red"), ("gold", "gold: what it stands for", "blue"))


def proxy(comparison: Mapping[str, Any], width: int) -> Any:
    """Return proxy and gold over √KL as a chart of altair, `width` pixels wide."""
    import altair as alt

    methods = [one for _, one in ordered(comparison) if has_proxy(one)]
    rows = {one["name"]: proxy_rows(one) for one in methods}
    every = [row for held in rows.values() for row in held]
    kl = Axis("linear", 0.0, max(row["x"] for row in every) * 1.04 or 1.0)
    # gold is the same quantity for all; each proxy has a scale of its own
    gold = [row["y"] for row in every if row["side"] == "gold"]
    is_narrow = width <= NARROW
    inner = int(width / 2) - (46 if is_narrow else 60)
    panels = []
    for place, one in enumerate(methods):
        title = titles_of(comparison)[one["name"]]
        short = title if len(title) <= 20 else f"{title[:19]}…"
        for side, says, colour in SIDES:
            held = [row for row in rows[one["name"]] if row["side"] == side]
            levels = level_axis(gold if side == "gold" and gold else [row["y"] for row in held] or [0.0])
            named = f"{short}: {side if is_narrow else says}"
            is_last = place == len(methods) - 1
            panels.append(
                _panel(alt, held, kl, levels, colour, is_last=is_last).properties(width=inner, height=HEIGHT, title=named)
            )
    return arranged(alt, panels, 2, config(size=11))


def _panel(alt: Any, rows: list[dict[str, Any]], kl: Axis, levels: Axis, colour: str, *, is_last: bool) -> Any:
    x = alt.X("x:Q").scale(kl.scale(alt)).axis(tickCount=4).title("√KL from its start" if is_last else None)
    y = alt.Y("y:Q").scale(levels.scale(alt)).title(None).axis(tickCount=3)
    trained, drawn = ([row for row in rows if row["is_training"] is kind] for kind in (True, False))
    base = alt.Chart(alt.Data(values=trained)).encode(x=x, y=y)
    layers = [
        base.mark_line(strokeWidth=1.5, color=light(colour), opacity=0.8).encode(detail="seed:N"),
        base.transform_filter("datum.is_last").mark_circle(size=26, color=light(colour), opacity=1).encode(description="says:N"),
    ]
    if drawn:
        best = alt.Chart(alt.Data(values=drawn)).encode(x=x, y=y)
        layers.append(best.mark_line(strokeWidth=1.2, strokeDash=[4, 3], color=light("grey")).encode(detail="seed:N"))
        layers.append(best.mark_point(size=26, shape="square", color=light("grey"), opacity=1).encode(description="says:N"))
    return alt.layer(*layers)


def proxy_rows(method: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the points of a method's audits: of training, and of best of n of its start."""
    rows = []
    for entry in method["proxy"]:
        for key in ("points", "best_of_n"):
            points = thinned(list(entry.get(key) or []))
            for point in points:
                for side, _, _ in SIDES:
                    if point.get(side) is None or point.get("sqrt_kl") is None:
                        continue
                    what = f"best of {point['n']}" if key == "best_of_n" else "training"
                    said = f"{MARK}seed {entry['seed']}, {what}: {side} {decimal(point[side])} at √KL {decimal(point['sqrt_kl'])}"
                    rows.append(
                        {
                            **{"x": point["sqrt_kl"], "y": point[side], "side": side, "seed": f"s{entry['seed']}"},
                            **{"is_training": key == "points", "is_last": point is points[-1], "says": said},
                        }
                    )
    return rows
