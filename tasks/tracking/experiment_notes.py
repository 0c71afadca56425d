"""What stands on top of MLflow's pages in Markdown: the verdict in line 1, then the table with intervals, then where to look.

MLflow shows an experiment's note collapsed to its first line. Links begin with `#`, so they hold at whatever port it is served.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PAGE = "index.html"
PICTURES = (".png", ".svg")
FOREST = ("forest", "gain")
"""How the names of the picture begin that answers the question."""
POINTS = "points"
LINE = 130
"""Characters of line 1 that MLflow shows of a collapsed note, at 1440 pixels."""


@dataclass(frozen=True)
class Links:
    """Where a note points to.

    Attributes:
        experiment_id: of MLflow.
        table: of the view with the table, from `#` on.
        charts: of the view with the charts.
        run_id: of the comparison's run; "" where there is none.
        files: its artifacts.
    """

    experiment_id: str
    table: str
    charts: str
    run_id: str = ""
    files: tuple[str, ...] = ()

    def run(self, run_id: str) -> str:
        """Return the link to a run."""
        return f"#/experiments/{self.experiment_id}/runs/{run_id}"

    @property
    def page(self) -> str:
        """The link to the comparison's page, which MLflow shows in place; "" without one."""
        found = next((file for file in self.files if file.endswith(PAGE)), "")
        return f"{self.run(self.run_id)}/artifacts/{found}?workflowType=machine_learning" if found else ""

    @property
    def picture(self) -> str:
        """The address of the picture of gains; "" without one."""
        pictures = sorted(file for file in self.files if file.endswith(PICTURES))
        found = next((file for file in pictures if file.rpartition("/")[2].startswith(FOREST)), "")
        return f"get-artifact?path={found}&run_uuid={self.run_id}" if found else ""


READING = (
    "**How to read it.** A gain is paired, question by question; its interval says how far another draw of questions{seeds} may "
    "move it. Where it holds 0, this design does not tell the two apart. Averages of groups in the charts have no interval: it "
    "stands here and on the page. `eval/*` is measured on held-out questions, `cost/*` is what it took. Trials of a tuning are "
    "left out."
)


def gains_over_reference(comparison: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each method's pair with the reference, as the method's gain: estimate, low, high, p_holm, verdict, per_seed."""
    reference = comparison["design"]["reference"]
    gains: dict[str, dict[str, Any]] = {}
    for pair in comparison["pairs"]:
        if pair["family"] == "reference" and reference in (pair["a"], pair["b"]):
            is_turned = pair["a"] == reference
            gains[str(pair["b"] if is_turned else pair["a"])] = _turned(pair) if is_turned else dict(pair)
    return gains


def _turned(pair: Mapping[str, Any]) -> dict[str, Any]:
    """Return b − a of a pair that says a − b."""
    per_seed = [{"seed": one["seed"], **_negated(one)} for one in pair.get("per_seed") or ()]
    verdict = {"better": "worse", "worse": "better"}.get(pair["verdict"], pair["verdict"])
    return {**pair, "a": pair["b"], "b": pair["a"], **_negated(pair), "verdict": verdict, "per_seed": per_seed}


def _negated(interval: Mapping[str, Any]) -> dict[str, Any]:
    estimate, low, high = (interval.get(name) for name in ("estimate", "low", "high"))
    return {
        "estimate": None if estimate is None else -estimate,
        "low": None if high is None else -high,
        "high": None if low is None else -low,
    }


def note_of_comparison(comparison: Mapping[str, Any], *, links: Links, is_of_run: bool = False) -> str:
    """Return the note of the experiment after a comparison, or of the comparison's own run: the same, with links to its runs."""
    design = comparison["design"]
    dataset = (comparison.get("dataset") or {}).get("name", "")
    seeds, questions = len(design["seeds"]), design["questions"]
    lines = [*verdict_lines(_one_line(comparison["verdict"])), ""]
    if links.picture:
        lines += [f"![gain of each method over {design['reference']}, with interval]({links.picture})", ""]
    lines += [*_table(comparison, links if is_of_run else None), ""]
    where = [f"[the runs in a table]({links.table})", f"[charts of gain and cost]({links.charts})"]
    if links.page:
        where.insert(0, f"**[the whole page]({links.page})**")
    if not is_of_run:
        where.append(f"[the comparison's run]({links.run(links.run_id)})")
    lines += [f"**Look:** {', '.join(where)}.", ""]
    about = f"{comparison['id']}{f' on `{dataset}`' if dataset else ''}"
    size = f"{seeds} seed{'s' * (seeds != 1)}, {questions:,} questions"
    lines += [f"Comparison {about}: {size}; {_one_line(design['metric_title'])}. Again: `{comparison['command']}`", ""]
    failed = comparison.get("failed") or ()
    lines += [f"**Failed:** {one['method']} seed {one['seed']}: {_one_line(one['error'])}" for one in failed]
    lines += [""] if failed else []
    return "\n".join([*lines, READING.format(seeds=" and seeds" if seeds > 1 else "")])


def verdict_lines(verdict: str) -> list[str]:
    """Return a verdict as a note begins with it: one that is longer than line 1 shows is cut at ";", and told whole below."""
    first, cut, _ = verdict.partition("; ")
    if len(verdict) <= LINE or not cut:
        return [f"**{verdict}**"]
    return [f"**{first}.**", "", verdict]


def note_of_pipelines(runs: Sequence[Any], *, links: Links) -> str:
    """Return the note of an experiment without a comparison.

    Args:
        runs: data of finished pipelines on the same data in MLflow, the newest first.
        links: to its views.
    """
    if not runs:
        return (
            "**No pipeline has finished yet.**\n\nRun one: `make pipeline METHOD=dpo`. Its verdict will stand in the line above."
        )
    newest: dict[tuple[str, str], Any] = {}
    for run in runs:
        newest.setdefault((run.tags.get("posttrain.method", ""), run.tags.get("posttrain.seed", "")), run)
    lines = [_first_line(runs[0]), "", "| method | seed | gain over its start (points) | accuracy (%) | seconds | labels |"]
    lines += ["|---|---|---|---|---|---|"]
    for (method, seed), run in sorted(newest.items()):
        metrics = run.metrics
        costs = (_count(metrics.get(f"cost/{name}")) for name in ("train_seconds", "labels"))
        gain, accuracy = (_of_metrics(metrics, f"eval/{name}", sign) for name, sign in (("accuracy_gain", "+"), ("accuracy", "")))
        lines.append(f"| {method} | {seed} | {gain} | {accuracy} | {' | '.join(costs)} |")
    look = f"**Look:** [these runs in a table]({links.table}), [charts of gain and cost]({links.charts})."
    caveat = (
        "These are single runs: the intervals know nothing of other seeds, and each gain is over the model that its method "
        'started from. Which method is better is told by `make compare METHODS="sft dpo reft" SEEDS=3`.'
    )
    return "\n".join([*lines, "", look, "", caveat, "", READING.format(seeds="")])


def _first_line(run: Any) -> str:
    """Return the verdict of a pipeline: line 1 of its own description, where that is one."""
    first = str(run.tags.get("mlflow.note.content", "")).partition("\n")[0]
    name = run.tags.get("mlflow.runName", "the last pipeline")
    return f"{first} ({name})" if first.startswith("**") else f"**The last pipeline is {name}.**"


def _table(comparison: Mapping[str, Any], links: Links | None) -> list[str]:
    design, gains = comparison["design"], gains_over_reference(comparison)
    reference, unit = design["reference"], POINTS if design["unit"] == "share" else design["unit"]
    scores = "accuracy (%)" if design["metric"] == "accuracy" else design["metric"]
    head = ["method", f"gain over {reference} ({unit})", scores, "train seconds", "tokens", "labels", "verdict"]
    rows = []
    for method in sorted(comparison["methods"], key=lambda one: -(gains.get(one["name"], {}).get("estimate") or 0.0)):
        gain, costs = gains.get(method["name"]), method.get("costs") or {}
        tokens = [costs[name] for name in ("generated_tokens", "trained_tokens") if costs.get(name) is not None]
        cells = [
            method.get("title") or method["name"],
            _interval(gain, design["unit"], sign="+") if gain else "reference",
            _interval(method.get("mean"), design["unit"]),
            _count(costs.get("train_seconds")),
            _count(sum(tokens) if tokens else None),
            _count(costs.get("labels")),
            str(gain["verdict"]) if gain else "–",
        ]
        runs = [one for one in method.get("runs") or () if one.get("run_id")]
        rows.append([*cells, ", ".join(f"[{one['seed']}]({links.run(one['run_id'])})" for one in runs)] if links else cells)
    heads = [*head, "runs by seed"] if links else head
    return ["| " + " | ".join(_one_line(cell) for cell in row) + " |" for row in (heads, ["---"] * len(heads), *rows)]


def _interval(interval: Mapping[str, Any] | None, unit: str, sign: str = "") -> str:
    if not interval or interval.get("estimate") is None:
        return "–"
    scale, digits = (100, 1) if unit == "share" else (1, 3)
    estimate = f"{scale * interval['estimate'] + 0.0:{sign}.{digits}f}"
    if interval.get("low") is None or interval.get("high") is None:
        return estimate
    return f"{estimate} [{scale * interval['low'] + 0.0:.{digits}f}, {scale * interval['high'] + 0.0:.{digits}f}]"


def _of_metrics(metrics: Mapping[str, float], name: str, sign: str) -> str:
    interval = {"estimate": metrics.get(name), "low": metrics.get(f"{name}_low"), "high": metrics.get(f"{name}_high")}
    return _interval(interval, "share", sign)


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _one_line(text: str) -> str:
    return " ".join(str(text).replace("|", "\\|").split())
