"""The figures of a check: where its AUC lies among permutations, and how long prompts are."""

from collections.abc import Mapping
from typing import Any

from tasks.monitoring.words import SAMPLES, compared_samples, decimals
from tasks.pages.svg import MARK
from tasks.pages.theme import NARROW, config, light

HEIGHT, ROW = 200, 46
_NAME = 120
"""Pixels of a sample's name beside its row."""


def separation(record: Mapping[str, Any], width: int) -> Any:
    """Return the AUC of permutations as bars, and the AUC of new and of held-out prompts as lines."""
    import altair as alt

    bars = [
        {**bar, "zero": 0, "says": f"{MARK}{bar['count']:,} permutations between {bar['low']:.3f} and {bar['high']:.3f}"}
        for bar in record["permuted"]
    ]
    lines = _lines(record)
    top = max(bar["count"] for bar in bars) * 1.25
    ends = [bar["low"] for bar in bars] + [bar["high"] for bar in bars] + [line["auc"] for line in lines]
    room = 0.06 * (max(ends) - min(ends)) or 0.02
    x = alt.X("low:Q").scale(domain=[min(ends) - room, max(ends) + room], nice=False, zero=False)
    x = x.title("AUC (0.5 is chance)").axis(tickCount=5 if width <= NARROW else 9)
    y = alt.Y("zero:Q").scale(domain=[0, top], nice=False).title("permutations").axis(tickCount=4)
    bands = alt.Chart(alt.Data(values=bars)).mark_rect(color=light("rule"), opacity=0.55)
    rules = alt.Chart(alt.Data(values=lines))
    colour = alt.Color("colour:N").scale(None)
    layers = [
        bands.encode(x=x, x2="high:Q", y=y, y2="count:Q", description="says:N"),
        rules.mark_rule(strokeWidth=2.2).encode(x="auc:Q", color=colour, description="says:N"),
        *(
            alt.Chart(alt.Data(values=[line]))
            .mark_text(align=line["align"], dx=line["dx"], fontWeight="bold", aria=False)
            .encode(x="auc:Q", y=alt.value(line["place"]), text="label:N", color=colour)
            for line in lines
        ),
    ]
    return alt.layer(*layers).properties(width=width - 80, height=HEIGHT, padding=4).configure(**config())


def _lines(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of the figure; a label stands on the side that has more room."""
    ends = [bar["low"] for bar in record["permuted"]] + [bar["high"] for bar in record["permuted"]]
    told = [("new", record["test"], "red" if record["is_drift"] else "blue")]
    told += [("held_out", record["calibration"], "grey")] if record["calibration"] else []
    values = ends + [test["auc"] for _, test, _ in told]
    middle = (min(values) + max(values)) / 2
    return [
        {
            **{"auc": test["auc"], "colour": light(colour), "place": 10 + 18 * place},
            **({"align": "right", "dx": -6} if test["auc"] > middle else {"align": "left", "dx": 6}),
            "label": f"{SAMPLES[name]}: {decimals(test['auc'])}",
            "says": f"{MARK}{SAMPLES[name]} prompts: AUC {test['auc']:.3f}, p = {test['p']:.3f}",
        }
        for place, (name, test, colour) in enumerate(told)
    ]


def lengths(record: Mapping[str, Any], width: int) -> Any:
    """Return the lengths of each sample's prompts: quantiles 5 to 95 % as a thin line, 25 to 75 % as a thick one, the median."""
    import altair as alt

    rows = length_rows(record)
    is_narrow = width <= NARROW
    left = 0 if is_narrow else _NAME
    low, high = min(row["p5"] for row in rows), max(row["p95"] for row in rows)
    x = alt.X("p5:Q").scale(type="log", domain=[low / 1.15, high * 1.15], nice=False)
    x = x.title("characters of a prompt").axis(tickCount=4 if is_narrow else 8, format="~s")
    y = alt.Y("y:Q").scale(domain=[len(rows), 0], nice=False, zero=False).axis(None)
    base = alt.Chart(alt.Data(values=rows)).encode(y=y)
    colour = alt.Color("colour:N").scale(None)
    point = {"size": 110, "shape": "diamond", "filled": True, "opacity": 1, "stroke": light("paper"), "strokeWidth": 1.5}
    name = {"align": "left", "dy": -15} if is_narrow else {"align": "right"}
    layers = [
        base.mark_rule(strokeWidth=1).encode(x=x, x2="p95:Q", color=colour),
        base.mark_rule(strokeWidth=5).encode(x="p25:Q", x2="p75:Q", color=colour, description="says:N"),
        base.mark_point(**point).encode(x="p50:Q", color=colour, description="says:N"),
        base.mark_text(**name, fontWeight="bold", aria=False).encode(x=alt.value(0 if is_narrow else -12), text="name:N"),
    ]
    inner = width - left - 24
    return alt.layer(*layers).properties(width=inner, height=ROW * len(rows), padding=4).configure(**config())


def length_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row a sample, with its quantiles; a prompt of no character is drawn at 1, since the axis is logarithmic."""
    rows = []
    for place, name in enumerate(compared_samples(record)):
        found = record["figures"][name]["length"]
        at = {f"p{share}": max(1.0, value) for share, value in found.items()}
        colour = {"new": "red" if record["is_drift"] else "blue"}.get(name, "grey")
        says = (
            f"{MARK}{SAMPLES[name]}: median {found['50']:,.0f}, half of them {found['25']:,.0f} to {found['75']:,.0f} characters"
        )
        rows.append({**at, "y": place + 0.5, "name": SAMPLES[name], "colour": light(colour), "says": says})
    return rows
