"""The forest: a row a method, its gain over the reference, its seeds, and the interval that decides where it differs."""

from collections.abc import Mapping
from typing import Any

from posttrain.comparison.alternatives import confidence
from posttrain.comparison.numbers import scale_of
from posttrain.comparison.verdicts import LOOKS, gains_of, ordered, titles_of
from tasks.pages.svg import MARK
from tasks.pages.theme import NARROW, config, light, verdict_colour

ROW, NARROW_ROW = 38, 60
"""Height of a row in pixels; on a phone the name stands above the marks."""
_RIGHT, _LONGEST_NAME, _LETTER = 225, 190, 7.5
"""Pixels: of the numbers at the right, of a name at most, of a bold letter about."""


def forest(comparison: Mapping[str, Any], width: int) -> Any:
    """Return the forest as a chart of altair, `width` pixels wide."""
    import altair as alt

    rows, seeds = forest_rows(comparison)
    is_narrow = width <= NARROW
    height = len(rows) * (NARROW_ROW if is_narrow else ROW)
    left = min(_LONGEST_NAME, max(len(row["title"]) for row in rows) * _LETTER) + 16
    inner = width - 16 if is_narrow else width - left - _RIGHT
    scale = scale_of(comparison)
    margin = comparison["design"]["margin"] * scale.factor
    ends = [row[key] for row in rows for key in ("low", "high", "low_decides", "high_decides") if row[key] is not None]
    ends += [seed["x"] for seed in seeds] + [row["x"] for row in rows] + [-margin, margin]
    room = 0.04 * (max(ends) - min(ends))
    x = alt.X("x:Q").scale(domain=[min(ends) - room, max(ends) + room], nice=False, zero=False)
    x = x.title(_axis_title(comparison)).axis(tickCount=5 if is_narrow else 8, grid=True)
    y = alt.Y("y:Q").scale(domain=[len(rows), 0], nice=False, zero=False).axis(None)
    base = alt.Chart(alt.Data(values=rows)).encode(y=y)
    band = alt.Chart(alt.Data(values=[{"x": -margin, "to": margin, "y": 0, "end": len(rows)}]))
    layers = [
        band.mark_rect(color=light("band")).encode(x=x, x2="to:Q", y=y, y2="end:Q"),
        band.mark_rule(color=light("ink"), strokeWidth=1.2).encode(x=alt.datum(0), y=y, y2="end:Q"),
        *_marks(alt, base, alt.Chart(alt.Data(values=seeds)).encode(y=y), rows),
        *_labels(alt, base, inner, is_narrow=is_narrow),
    ]
    return alt.layer(*layers).properties(width=inner, height=height, padding=4).configure(**config())


def _marks(alt: Any, base: Any, dots: Any, rows: list[dict[str, Any]]) -> list[Any]:
    """Return deciding interval, drawn interval, seeds and mean, from back to front."""
    colour = alt.Color("colour:N").scale(None)
    layers = []
    if any(row["low_decides"] is not None for row in rows):
        layers.append(base.mark_rule(strokeWidth=1).encode(x="low_decides:Q", x2="high_decides:Q", color=colour))
        for end in ("low_decides", "high_decides"):
            layers.append(base.mark_tick(orient="vertical", thickness=1.4, height=13).encode(x=f"{end}:Q", color=colour))
    layers.append(base.mark_rule(strokeWidth=4.5).encode(x="low:Q", x2="high:Q", color=colour, description="says:N"))
    layers.append(dots.mark_circle(size=22, opacity=1).encode(x="x:Q", color=colour, description="says:N"))
    point = {"size": 95, "shape": "diamond", "strokeWidth": 1.8, "opacity": 1, "filled": True}
    fill = alt.Fill("fill:N").scale(None)
    layers.append(
        base.mark_point(**point).encode(x="x:Q", stroke=alt.Stroke("colour:N").scale(None), fill=fill, description="says:N")
    )
    return layers


def _labels(alt: Any, base: Any, width: float, *, is_narrow: bool) -> list[Any]:
    """Return names and numbers: beside the marks, or above them on a phone."""
    colour = alt.Color("colour:N").scale(None)
    if is_narrow:
        name = {"align": "left", "dy": -22, "limit": width - 150, "fontWeight": "bold", "aria": False}
        numbers = base.mark_text(align="right", dy=-22, limit=148, aria=False)
        # a halo keeps the name off the zero line
        halo = base.mark_text(**name, stroke=light("paper"), strokeWidth=5)
        return [
            *(text.encode(x=alt.value(0), text="title:N") for text in (halo, base.mark_text(**name))),
            numbers.encode(x=alt.value(width), text="short:N", color=colour),
        ]
    name = base.mark_text(align="right", limit=_LONGEST_NAME, fontWeight="bold", aria=False)
    numbers = base.mark_text(align="left", limit=_RIGHT - 14, aria=False)
    return [
        name.encode(x=alt.value(-12), text="title:N"),
        numbers.encode(x=alt.value(width + 12), text="written:N", color=colour),
    ]


def _axis_title(comparison: Mapping[str, Any]) -> str:
    scale = scale_of(comparison)
    reference = titles_of(comparison)[comparison["design"]["reference"]]
    unit = f", {scale.gain_unit}" if scale.gain_unit else ""
    short = reference if len(reference) <= 24 else f"{reference[:23]}…"
    return f"gain over {short}{unit} (right is better)"


def forest_rows(comparison: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the forest, from the highest gain, and the dots of their seeds; values in the written unit."""
    scale, titles, gains = scale_of(comparison), titles_of(comparison), gains_of(comparison)
    sure = confidence(comparison)
    rows: list[dict[str, Any]] = []
    seeds: list[dict[str, Any]] = []
    for _, method in ordered(comparison):
        if method["name"] not in gains:
            continue
        pair = gains[method["name"]][1]
        look, colour = LOOKS[pair["verdict"]], verdict_colour(pair["verdict"])
        title, middle = titles[pair["a"]], len(rows) + 0.5
        written = scale.gain(pair)
        decides = {key: pair[key] * scale.factor if _differs(pair) else None for key in ("low_decides", "high_decides")}
        rows.append(
            {
                **{"title": title, "y": middle, "x": pair["estimate"] * scale.factor, "colour": colour},
                **{key: None if pair[key] is None else pair[key] * scale.factor for key in ("low", "high")},
                **decides,
                **{"fill": colour if look.is_told_apart else light("paper"), "written": f"{written}  {look.symbol} {look.says}"},
                **{"short": f"{look.symbol} {written}"},
                "says": f"{MARK}{title}: {written} {scale.gain_unit}, {sure} interval; {pair.get('words') or look.says}",
            }
        )
        several = pair.get("per_seed") or []
        # the one seed is the estimate itself
        for one in several if len(several) > 1 else []:
            says = f"{MARK}{title}, seed {one['seed']}: {scale.gain(one)} {scale.gain_unit}"
            seeds.append({"x": one["estimate"] * scale.factor, "y": middle + 0.24, "colour": colour, "says": says})
    return rows, seeds


def _differs(pair: Mapping[str, Any]) -> bool:
    """Return whether the interval that decides is there, and another one than the drawn one."""
    ends = [(pair.get("low_decides"), pair["low"]), (pair.get("high_decides"), pair["high"])]
    known = all(one is not None and other is not None for one, other in ends)
    return known and any(abs(one - other) > 1e-9 for one, other in ends)
