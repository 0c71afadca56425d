"""The picture of a pipeline's report: accuracy, gain, and the curves of training."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from posttrain.report.pipeline import Gain
from posttrain.statistics.intervals import INTERVALS_COVER
from tasks.report.unchecked_picture import draw_unchecked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Sequence[Mapping[str, float]]
# Okabe and Ito's palette (jfly.uni-koeln.de/color), apart for every common colour blindness and in grey
GREEDY, SAMPLED, LINE = "#0072B2", "#E69F00", "#333333"
MOST_CURVES = 2
CAPTION = 130
"""Characters in a line of the picture's caption."""


def load_drawing() -> None:
    """Import what `picture` needs, where that costs no time: while something else is waited for."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401


def picture(report: Mapping[str, Any], *, curves: Mapping[str, Curve]) -> bytes:
    """Draw accuracy and paired gain, and below them the curve of each training stage; returns a PNG."""
    from io import BytesIO

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = {stage: curve for stage, curve in curves.items() if any("loss" in row or "ppo/reward" in row for row in curve)}
    drawn = dict(list(drawn.items())[-MOST_CURVES:])
    figure = Figure(figsize=(10, 7 if drawn else 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=[3, 2]) if drawn else [figure]  # matplotlib: one, or an array of them
    above, *below = parts
    if any(values.get("accuracy") for values in report["models"].values()):
        left, right = above.subplots(1, 2, width_ratios=[1, 1])
        _draw_accuracy(left, report["models"])
        _draw_gain(right, report)
    else:
        draw_unchecked(above.subplots(), report, colour=GREEDY, line=LINE)
    for part in below:
        for axes, (stage, curve) in zip(part.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
            if "ppo/reward" in curve[0]:
                _draw_ppo(axes, stage, curve)
            else:
                _draw_loss(axes, stage, curve)
    figure.suptitle(f"{report['method']} on {report['dataset']}, seed {report['seed']}", fontsize=13)
    figure.supxlabel(fill(INTERVALS_COVER, CAPTION), fontsize=8.5, color=LINE)
    png = BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _draw_accuracy(axes: "Axes", models: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw each model's accuracy without an interval of its own: models are compared by the gain, which is paired."""
    kinds = (("accuracy", "greedy", GREEDY, -0.2, ""), ("accuracy_sampled", "sampled", SAMPLED, 0.2, "///"))
    for key, label, colour, shift, hatch in kinds:
        known = [
            (place + shift, 100 * values[key]["estimate"]) for place, values in enumerate(models.values()) if values.get(key)
        ]
        where, shares = [place for place, _ in known], [share for _, share in known]
        axes.bar(where, shares, width=0.38, color=colour, hatch=hatch, edgecolor="white", label=label)
        for place, share in known:
            axes.annotate(f"{share:.1f}", (place, share), (0, 3), textcoords="offset points", ha="center", fontsize=10)
    axes.set_xticks(range(len(models)), list(models), fontsize=11)
    axes.set_ylabel("right answers, %")
    axes.set_ylim(0, min(112.0, axes.get_ylim()[1] * 1.08))
    axes.set_title("held-out questions", fontsize=11)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_gain(axes: "Axes", report: Mapping[str, Any]) -> None:
    """Draw the paired gain with its interval beside the line of no gain."""
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.set_yticks([])
    if not report["gain"]:
        axes.set_title("no answers, so no gain", fontsize=11)
        axes.set_xticks([])
        return
    gain = Gain(**report["gain"])
    estimate, low, high = (100 * value for value in (gain.estimate, gain.low, gain.high))
    axes.errorbar([estimate], [0], xerr=[[estimate - low], [high - estimate]], fmt="o", color=GREEDY, ecolor=LINE, capsize=5)
    axes.annotate(gain.points, (estimate, 0), (0, 10), textcoords="offset points", ha="center", fontsize=11)
    axes.axvline(0, color=LINE, linewidth=0.8, linestyle=":")
    axes.annotate("no gain", (0, -0.9), (4, 0), textcoords="offset points", fontsize=9, color=LINE)
    reach = 1.35 * max(abs(low), abs(high))
    axes.set_xlim(min(-0.25 * reach, 1.35 * low), max(0.25 * reach, 1.35 * high))
    axes.set_ylim(-1, 1)
    axes.set_xlabel("points of greedy accuracy, paired by question")
    axes.set_title(fill(gain.verdict, 46), fontsize=11)


def _draw_loss(axes: "Axes", stage: str, curve: Curve) -> None:
    points = [(row["step"], row["loss"]) for row in curve if "loss" in row]
    axes.plot([step for step, _ in points], [loss for _, loss in points], color=GREEDY, linewidth=1.5)
    axes.set_title(f"{stage}: training loss", fontsize=11)
    axes.tick_params(labelsize=9)
    axes.set_xlabel("step", fontsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_ppo(axes: "Axes", stage: str, curve: Curve) -> None:
    """Draw reward and gold score against updates on the left axis, the KL on the right one."""
    updates = range(1, len(curve) + 1)
    if "ppo/gold" in curve[0]:
        axes.plot(updates, [row["ppo/gold"] for row in curve], color=SAMPLED, linewidth=3.5, alpha=0.6, label="gold")
    axes.plot(updates, [row["ppo/reward"] for row in curve], color=GREEDY, linewidth=1.5, label="reward")
    axes.set_title(f"{stage}: PPO on training questions", fontsize=11)
    axes.tick_params(labelsize=9)
    beside = axes.twinx()
    beside.plot(updates, [row["ppo/kl"] for row in curve], color=LINE, linewidth=1.2, linestyle=":", label="KL, nats (right)")
    beside.tick_params(labelsize=9)
    beside.spines[["top"]].set_visible(False)
    lines = [*axes.get_lines(), *beside.get_lines()]
    axes.set_xlabel("update", fontsize=9)
    axes.legend(
        lines,
        [str(line.get_label()) for line in lines],
        frameon=False,
        fontsize=9,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.3),
        ncols=3,
    )
    axes.grid(alpha=0.25)
    axes.spines[["top"]].set_visible(False)
