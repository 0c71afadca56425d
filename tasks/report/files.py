"""The report of a pipeline: on the terminal, and as JSON, Markdown and a picture below `reports/`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from posttrain.errors import StorageError
from posttrain.printable import printable
from posttrain.report.audit import audit_rows
from posttrain.report.pipeline import Gain, has_audit_picture, headline, render_markdown, result_rows, stage_rows
from posttrain.statistics.intervals import INTERVALS_COVER
from tasks.report.latest import write_files
from tasks.report.unchecked_picture import draw_unchecked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Sequence[Mapping[str, float]]

# Okabe and Ito's palette (jfly.uni-koeln.de/color), apart for every common colour blindness and in grey
GREEDY, SAMPLED, LINE = "#0072B2", "#E69F00", "#333333"
AUDIT_PICTURE = "audit.png"
"""Of the stage `audit`, in its artifact."""
MOST_CURVES = 2
CAPTION = 130
"""Characters in a line of the picture's caption."""


def print_report(report: Mapping[str, Any], *, console: Console | None = None) -> None:
    """Print the stages, the results and where to look next, within 100 columns."""
    console = console or Console(width=min(100, Console().width))
    console.print()
    console.print(Text(f"{report['method']} on {report['dataset']}, seed {report['seed']}", style="bold"))
    console.print(_table(["stage", "", "cost", "key"], stage_rows(report), numbers=(2,)))
    console.print()
    console.print(_table(["held-out questions", *report["models"]], result_rows(report), numbers=range(1, 9)))
    console.print(Text(f"in brackets: {INTERVALS_COVER}", style="dim"))
    console.print()
    for heading, rows in audit_rows(report.get("audit", {})).items():
        console.print(_table([heading, ""], rows, numbers=(1,)))
        console.print()
    console.print(Text(headline(report)), soft_wrap=True)
    for note in report["notes"]:
        console.print(Text(printable(f"note: {note}")), soft_wrap=True)
    for warning in report["warnings"]:
        console.print(Text(printable(f"warning: {warning}"), style="yellow"), soft_wrap=True)
    console.print()
    places = [
        ("model", f"{report['model']['uri']}  ({report['champion']['why']})"),
        ("loads from", report["model"]["path"]),
        ("report", f"reports/{report['pipeline_id']}.md, .json, .png{', -audit.png' if has_audit_picture(report) else ''}"),
        ("look", "make ui, then open"),
        ("", report["mlflow"]["compare_url"]),
    ]
    for name, text in places:
        # one line each, however long: an address that is broken in two cannot be clicked
        console.print(Text(printable(f"{name:<11}{text}")), soft_wrap=True)


def write_report(
    report: Mapping[str, Any],
    folder: Path,
    *,
    curves: Mapping[str, Curve] | None = None,
    audit_picture: Path | None = None,
) -> dict[str, Path]:
    """Write `<pipeline_id>.json`, `.md`, `.png` and `latest.json`; each file is the old one or the whole new one.

    Args:
        report: from `posttrain.report.pipeline.build_report`.
        folder: `reports/`, made if need be.
        curves: by stage, the lines of its curves.jsonl; those with a `loss`, or PPO's reward, are drawn.
        audit_picture: of the stage `audit`, which goes beside the page; needed where the report has proxy and gold.

    Returns:
        The path of each, by "json", "markdown", "picture", "latest" and, where there is one, "audit".

    Raises:
        StorageError: the disk refused; what was there before is still there.
        ValueError: the report names the picture of an audit, and there is none, or the other way round.
    """
    if has_audit_picture(report) != (audit_picture is not None):
        raise ValueError("a report whose audit has proxy and gold comes with their picture, and no other does")
    name = report["pipeline_id"]
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files = {
        "picture": (folder / f"{name}.png", picture(report, curves=curves or {})),
        "markdown": (folder / f"{name}.md", render_markdown(report).encode()),
    }
    if audit_picture is not None:
        files["audit"] = (folder / f"{name}-audit.png", audit_picture.read_bytes())
    # in this order: a report whose JSON is there is whole (tasks/report/latest.py), and latest.json names whole ones only
    files |= {"json": (folder / f"{name}.json", text.encode()), "latest": (folder / "latest.json", text.encode())}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_files(dict(files.values()))
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written: {error.strerror}. Free the disk or its permissions, then run again: "
            "finished stages are reused"
        ) from error
    return {kind: path for kind, (path, _) in files.items()}


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
    above, *below = figure.subfigures(2, 1, height_ratios=[3, 2]).tolist() if drawn else [figure]
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


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left", header_style="bold")
    for place, name in enumerate(head):
        table.add_column(Text(name), justify="right" if place in numbers else "left")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
