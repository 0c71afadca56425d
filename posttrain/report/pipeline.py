"""What a pipeline tells: one dict for machines (`reports/latest.json`), and the same as Markdown for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from posttrain.errors import ContractError
from posttrain.methods import METHODS
from posttrain.report.audit import audit_rows
from posttrain.report.unchecked import unchecked_headline, unchecked_rows
from posttrain.statistics.intervals import INTERVALS_COVER

NO_PROMOTION = {"decision": "none", "is_challenger": True, "why": "registered as challenger; promotion is a separate step"}
NOT_REGISTERED = {"decision": "none", "is_challenger": False, "why": "not registered: tracking.register_model=false"}

DEVIATIONS = "Deviations are those of the starting model's samples within a question; gold is a program that knows the answers."

PARENT_METRICS = (
    "eval/accuracy",
    "eval/accuracy_low",
    "eval/accuracy_high",
    "eval/accuracy_sampled",
    "eval/accuracy_gain",
    "eval/accuracy_gain_low",
    "eval/accuracy_gain_high",
    "eval/win_rate",
    "eval/win_rate_low",
    "eval/win_rate_high",
    "eval/kl",
    "eval/response_tokens",
    "eval/finished",
    "cost/train_seconds",
    "cost/generated_tokens",
    "cost/trained_tokens",
    "cost/critic_tokens",
    "cost/forward_tokens",
    "cost/flops",
    "cost/labels",
    "cost/peak_rss_mb",
)
"""Every pipeline reports these, whatever its method, so that runs compare; None where one is undefined."""

NAMES = {name: method.title for name, method in METHODS.items()} | {"ppo": "PPO", "base": "the base"}
"""Models as people call them."""


@dataclass(frozen=True)
class Row:
    """A line of the results table: the key within a model's metrics, what people call it, and how a value is written.

    `{start}` in a label is the model that a method started from.
    """

    key: str
    label: str
    is_share: bool


@dataclass(frozen=True)
class Gain:
    """How much more of the same held-out questions a model answers right, greedily, than the one that it started from.

    Attributes:
        model: which one.
        over: what it is compared with.
        estimate: difference of the two accuracies.
        low: of the 95 % interval of the paired difference.
        high: of the same.
    """

    model: str
    over: str
    estimate: float
    low: float
    high: float

    @property
    def points(self) -> str:
        """The gain and its interval in points: "+32.8 [29.6, 35.9]"."""
        return _points(asdict(self))

    @property
    def verdict(self) -> str:
        """What the interval says: the gain lies above 0, below it, or nobody knows."""
        number, _, interval = self.points.partition(" ")
        told, name, over = f"{number} points {interval}", _name(self.model), _name(self.over)
        if self.low > 0:
            return f"{name} helped: {told} over {over}, same questions"
        if self.high < 0:
            return f"{name} did harm: {told} against {over}, same questions"
        return f"{name} and {over} are not told apart: {told}, same questions"


ROWS = (
    Row("accuracy", "accuracy, greedy (%)", is_share=True),
    Row("accuracy_sampled", "accuracy, sampled (%)", is_share=True),
    Row("win_rate", "win rate vs {start} (%)", is_share=True),
    Row("kl", "KL from {start} (nats)", is_share=False),
    Row("response_tokens", "response tokens", is_share=False),
    Row("finished", "ended with EOS (%)", is_share=True),
)


def gain_of(models: Mapping[str, Mapping[str, Any]], *, baseline: str) -> Gain | None:
    """Return the last model's gain over the one that it started from; None without answers to check against.

    SFT is what the others are compared with, so its own gain, over the base, is what the base lacks.

    Args:
        models: as in `build_report`, each with `accuracy_gain` over `baseline` where there is one.
        baseline: one of them.
    """
    *before, final = models
    is_reference = final == baseline
    if is_reference and not before:
        return None
    over = before[-1] if is_reference else baseline
    found = models[over if is_reference else final].get("accuracy_gain")
    if found is None:
        return None
    if is_reference:
        return Gain(final, over, estimate=-found["estimate"], low=-found["high"], high=-found["low"])
    return Gain(final, over, **{name: found[name] for name in ("estimate", "low", "high")})


def build_report(
    *,
    pipeline_id: str,
    method: str,
    seed: int,
    dataset: str,
    data_md5: str,
    git_commit: str,
    created: str,
    stages: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, float | None],
    models: Mapping[str, Mapping[str, Any]],
    baseline: str,
    model: Mapping[str, Any],
    mlflow: Mapping[str, Any],
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    audit: Mapping[str, Any] | None = None,
    standing: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the report of one pipeline, ready for JSON.

    Args:
        pipeline_id: also the name of the file.
        method: `dpo`, ….
        seed: of training and sampling.
        dataset: name below `data/`.
        data_md5: DVC's.
        git_commit: of the working tree.
        created: ISO 8601 time.
        stages: in order, each {name, key, cached, seconds, run_id}; seconds is what computing it cost, now or once.
        metrics: those of `PARENT_METRICS`; None where undefined.
        models: in order `base`, `sft` where there is one, then the method's: each {accuracy, accuracy_sampled,
            win_rate: {estimate, low, high} or None, kl, response_tokens, finished}, and `accuracy_gain` over `baseline`;
            `tasks`, where it was asked some: by name {questions, score, gain over `baseline`}.
        baseline: the model that win rate and KL are taken against: the one that the method started from.
        model: {uri, name, version, path} of the registered version; an empty version for a model that is not registered.
        mlflow: {run_id, experiment_id, compare_url}.
        notes: what a reader must know to read the numbers right, such as who labelled.
        warnings: what may be wrong with them.
        audit: what feedback was worth, if any: `source` (as `labels.source`), and the flat figures of the stages
            in `posttrain.report.audit.PARTS`, each left out or None where there is none.
        standing: whether the version became challenger, and why (`posttrain.promotion.standing.Standing.as_record`).

    Raises:
        ContractError: a metric that every method reports is missing.
    """
    missing = [name for name in PARENT_METRICS if name not in metrics]
    if missing:
        raise ContractError(
            f"a pipeline must report every metric of PARENT_METRICS (posttrain/report/pipeline.py); "
            f"missing: {', '.join(missing)}. "
            "Give None where one is undefined"
        )
    gain = gain_of(models, baseline=baseline)
    return {
        "pipeline_id": pipeline_id,
        "method": method,
        "seed": seed,
        "dataset": dataset,
        "data_md5": data_md5,
        "git_commit": git_commit,
        "created": created,
        "stages": [dict(stage) for stage in stages],
        "metrics": dict(metrics),
        "models": {name: dict(values) for name, values in models.items()},
        "baseline": baseline,
        "gain": None if gain is None else asdict(gain),
        "model": dict(model),
        "champion": dict((standing or NO_PROMOTION) if model["version"] else NOT_REGISTERED),
        "mlflow": dict(mlflow),
        "notes": list(notes),
        "warnings": list(warnings),
        **({} if audit is None else {"audit": dict(audit)}),
    }


def result_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return the results as text, one row a metric: its label, then one cell a model; "–" where it is undefined.

    A metric that no model has gets no row.
    """
    models = report["models"].values()
    start = {"sft": "SFT"}.get(report["baseline"], report["baseline"])
    rows = [
        [row.label.format(start=start), *(_cell(values.get(row.key), is_share=row.is_share) for values in models)] for row in ROWS
    ]
    rows = [row for row in rows if any(cell != "–" for cell in row[1:])] + unchecked_rows(report) + task_rows(report)
    if not report["gain"]:
        return rows
    gain = Gain(**report["gain"])
    over = {"base": "base"}.get(gain.over, _name(gain.over))
    return [[f"gain over {over} (points)", *(gain.points if name == gain.model else "–" for name in report["models"])], *rows]


def task_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return two lines a task of lm-evaluation-harness: each model's share of right answers, and its paired gain."""
    tasks = dict.fromkeys(task for values in report["models"].values() for task in values.get("tasks", {}))
    start = {"sft": "SFT"}.get(report["baseline"], report["baseline"])
    rows = []
    for task in tasks:
        found = [values.get("tasks", {}).get(task, {}) for values in report["models"].values()]
        rows.append([f"{task} (%)", *(_cell(one.get("score"), is_share=True) for one in found)])
        gains = [_points(one["gain"]) if "gain" in one else "–" for one in found]
        if any(cell != "–" for cell in gains):
            rows.append([f"{task}, gain over {start} (points)", *gains])
    return rows


def _points(gain: Mapping[str, float]) -> str:
    """Return a gain and its interval in points: "-2.0 [-5.1, 1.1]"."""
    estimate, low, high = (100 * gain[name] + 0.0 for name in ("estimate", "low", "high"))
    return f"{estimate:+.1f} [{low:.1f}, {high:.1f}]"


def stage_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return the stages as text: name, whether it came from the cache, what it cost, the start of its key."""
    return [
        [stage["name"], "reused" if stage["cached"] else "ran", f"{stage['seconds']:.1f} s", stage["key"][:12]]
        for stage in report["stages"]
    ]


def headline(report: Mapping[str, Any]) -> str:
    """Say in one sentence whether the method helped: its paired gain over the model that it started from."""
    if not report["gain"]:
        return unchecked_headline(report)
    gain = Gain(**report["gain"])
    before, after = (report["models"][name]["accuracy"]["estimate"] for name in (gain.over, gain.model))
    return f"{gain.verdict}: {_share(before)} right before, {_share(after)} after."


def render_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as a Markdown page; the picture beside it is `<pipeline_id>.png`."""
    lines = [
        f"# {report['method']} on {report['dataset']}, seed {report['seed']}",
        "",
        headline(report),
        "",
        f"![accuracy, paired gain and training curves]({report['pipeline_id']}.png)",
        "",
        *_table(["", *report["models"]], result_rows(report)),
        "",
        f"In brackets: {INTERVALS_COVER}. The gain is paired, question by question. KL is that of a whole response.",
        "",
        *_audit_lines(report),
        "## Stages",
        "",
        *_table(["stage", "", "cost", "key"], stage_rows(report)),
        "",
        "## Where things are",
        "",
        f"- Model: `{report['model']['uri']}` in `{report['model']['path']}`",
        f"- Champion: {report['champion']['decision']} ({report['champion']['why']})",
        f"- MLflow (`make ui`): run `{report['mlflow']['run_id']}`, [compare]({report['mlflow']['compare_url']})",
        f"- Data: `{report['data_md5']}`, code: `{report['git_commit']}`, made {report['created']}",
    ]
    for title, texts in (("Notes", report["notes"]), ("Warnings", report["warnings"])):
        if texts:
            lines += ["", f"## {title}", "", *(f"- {text}" for text in texts)]
    return "\n".join(lines) + "\n"


def has_audit_picture(report: Mapping[str, Any]) -> bool:
    """Return whether proxy and gold were audited, so that `<pipeline_id>-audit.png` lies beside the page."""
    return bool(report.get("audit", {}).get("proxy"))


def _audit_lines(report: Mapping[str, Any]) -> list[str]:
    lines = []
    for heading, rows in audit_rows(report.get("audit", {})).items():
        lines += [f"## Audit: {heading}", "", *_table(["", ""], rows), ""]
    if has_audit_picture(report):
        lines += [f"![proxy and gold over √KL]({report['pipeline_id']}-audit.png)", "", DEVIATIONS, ""]
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


def _cell(value: Mapping[str, float] | float | None, *, is_share: bool) -> str:
    if value is None:
        return "–"
    scale, form = (100, ".1f") if is_share else (1, ".2f")
    if isinstance(value, Mapping):
        estimate, low, high = (f"{scale * value[name]:{form}}" for name in ("estimate", "low", "high"))
        return f"{estimate} [{low}–{high}]"
    return f"{scale * value:{form}}"


def _name(model: str) -> str:
    return NAMES.get(model, model)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
