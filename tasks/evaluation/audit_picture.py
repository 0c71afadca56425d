"""The picture of an audit: proxy and gold over √KL, PPO's path beside best-of-n."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from textwrap import fill
from typing import TYPE_CHECKING, Any

from posttrain.evaluation.overoptimisation import Picked, Point, Scale
from posttrain.statistics.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette (jfly.uni-koeln.de/color), apart for every common colour blindness and in grey
PROXY, GOLD, LINE = "#0072B2", "#E69F00", "#333333"
ALIKE = 1e-6
CAPTION = 130
"""Characters in a line of the caption."""
NAMED = (1, 2, 4, 8, 16, 32, 64)
"""Values of n that the picture names."""

Unit = Callable[[float], float]


@dataclass(frozen=True)
class Drawing:
    """What is drawn.

    Attributes:
        title: of the picture.
        proxy_name: what the proxy is.
        points: PPO's updates.
        smooth: their moving average.
        best_of_n: empty where nothing was scored.
        scales: of proxy and gold among the starting model's samples; None where there are none: then each has its own axis.
    """

    title: str
    proxy_name: str
    points: Sequence[Point]
    smooth: Sequence[Point]
    best_of_n: Sequence[Picked]
    scales: tuple[Scale, Scale] | None


def draw(drawing: Drawing) -> bytes:
    """Return the picture as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    told = _on_own_axes(axes, drawing) if drawing.scales is None else _on_one_scale(axes, drawing, drawing.scales)
    axes.set_xlabel("√KL from the model that PPO started from, nats of a whole response", fontsize=10)
    axes.margins(x=0.09)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top"]].set_visible(False)
    lines = [line for each in figure.axes for line in each.get_lines() if not str(line.get_label()).startswith("_")]
    names = [str(line.get_label()) for line in lines]
    title = f"{drawing.title}: proxy against gold"
    figure.legend(lines, names, title=title, title_fontsize=12, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    figure.supxlabel(fill(told, CAPTION), fontsize=8.5, color=LINE)
    png = BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _on_one_scale(axes: "Axes", drawing: Drawing, scales: tuple[Scale, Scale]) -> str:
    """Draw both scores in deviations of the starting model's samples, and gold's own unit on the right."""
    if drawing.best_of_n:
        _best_of_n(axes, drawing.best_of_n, [one.proxy_gain for one in drawing.best_of_n], scales[0], PROXY, "proxy")
        _best_of_n(axes, drawing.best_of_n, [one.gold_gain for one in drawing.best_of_n], scales[1], GOLD, "gold")
        for one in drawing.best_of_n:
            if one.n in NAMED[1:]:
                place = (one.kl**0.5, scales[0].of_gain(one.proxy_gain.estimate))
                axes.annotate(f"n={one.n}", place, (0, 6), textcoords="offset points", ha="center", fontsize=8, color=LINE)
    _path(axes, drawing, "proxy", scales[0].of, PROXY)
    _path(axes, drawing, "gold", scales[1].of, GOLD)
    last = drawing.smooth[-1]
    if last.gold is not None:
        low, high = sorted((scales[0].of(last.proxy), scales[1].of(last.gold)))
        gap = scales[0].of(last.proxy) - scales[1].of(last.gold)
        axes.annotate("", (last.sqrt_kl, high), (last.sqrt_kl, low), arrowprops={"arrowstyle": "<->", "color": LINE})
        place = (last.sqrt_kl, high)
        axes.annotate(f"gap {gap:.2f}", place, (0, 5), textcoords="offset points", ha="center", va="bottom", fontsize=10)
    axes.axhline(0, color=LINE, linewidth=0.8)
    axes.set_ylabel("deviations above the starting model's samples", fontsize=10)
    right = axes.secondary_yaxis("right", functions=_in_shares(scales[1]))
    right.set_ylabel("gold alone: right answers, %", fontsize=10)
    right.set_yticks(range(0, 101, 20))  # the axis goes on, shares do not
    return (
        f"proxy: {drawing.proxy_name}; gold: a program that knows the answers, never trained on. Both in deviations within a "
        "question among the starting model's samples. Dots: updates; lines: moving average; bands: 95 %, over questions. "
        "Best-of-n's √KL is an upper bound."
    )


def _in_shares(scale: Scale) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return how gold's deviations become per cent, and back, for numbers and arrays alike."""

    def share(gain: Any) -> Any:
        return 100 * (scale.mean + gain * scale.deviation)

    def gain(share: Any) -> Any:
        return (share / 100 - scale.mean) / scale.deviation

    return share, gain


def _on_own_axes(axes: "Axes", drawing: Drawing) -> str:
    """Draw the reward in its own unit on the left, gold on the right; once where the two are one and the same."""
    told = f"proxy: {drawing.proxy_name}"
    gold = [point.gold for point in drawing.points]
    if all(true is not None and abs(true - point.proxy) < ALIKE for true, point in zip(gold, drawing.points, strict=True)):
        _path(axes, drawing, "gold", lambda share: 100 * share, GOLD)
        axes.set_ylabel("right answers, %", fontsize=10)
        return f"{told}, which is the gold score itself: there is nothing between them. Dots: updates; line: moving average."
    _path(axes, drawing, "proxy", lambda score: score, PROXY)
    axes.set_ylabel("proxy, in its own unit", fontsize=10)
    if all(true is not None for true in gold):
        right = axes.twinx()
        _path(right, drawing, "gold", lambda share: 100 * share, GOLD)
        right.set_ylabel("gold: right answers, %", fontsize=10)
        right.spines[["top"]].set_visible(False)
        told += (
            "; gold: a program that knows the answers, never trained on. Each has an axis of its own, so heights do not compare"
        )
    return f"{told}. Dots: updates; lines: moving average."


def _path(axes: "Axes", drawing: Drawing, what: str, unit: Unit, colour: str) -> None:
    """Draw PPO's updates as dots and their moving average as a line."""
    for points, is_line in ((drawing.points, False), (drawing.smooth, True)):
        known = [(point.sqrt_kl, unit(value)) for point in points if (value := getattr(point, what)) is not None]
        axes.plot(
            [place for place, _ in known],
            [value for _, value in known],
            color=colour,
            linewidth=2,
            linestyle="-" if is_line else "none",
            marker="" if is_line else ".",
            alpha=1.0 if is_line else 0.35,
            label=f"{what}, PPO" if is_line and known else "_",
        )


def _best_of_n(axes: "Axes", picked: Sequence[Picked], gains: Sequence[Interval], scale: Scale, colour: str, what: str) -> None:
    places = [one.kl**0.5 for one in picked]
    axes.fill_between(
        places,
        [scale.of_gain(one.low) for one in gains],
        [scale.of_gain(one.high) for one in gains],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )
    axes.plot(
        places,
        [scale.of_gain(one.estimate) for one in gains],
        color=colour,
        linestyle="--",
        marker="o",
        markerfacecolor="white",
        markersize=5,
        linewidth=1.3,
        label=f"{what}, best of n",
    )


AUDIT_PICTURE = "audit.png"
"""Of the stage `audit`, in its artifact."""
