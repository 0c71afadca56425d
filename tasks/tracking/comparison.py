"""A comparison as a run of its own in MLflow: its verdict, tables, page and figures, and links to the pipelines that it is of."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.tracking.experiment_notes import Links, gains_over_reference, note_of_comparison
from tasks.tracking.ledger import Ledger
from tasks.tracking.run_notes import ended
from tasks.tracking.store import plain_errors
from tasks.tracking.views import CHARTS, COMPARED_GAIN, COMPARISON, NEWEST, condition, fragment, write_views

COMPARISON_TAG, TRIAL_TAG = "posttrain.comparison", "posttrain.trial"
"""Of a pipeline's run: the comparison that counts it; and that it is a trial of a tuning, which no view shows."""
MARKS = {"POSTTRAIN_COMPARISON": COMPARISON_TAG, "POSTTRAIN_TRIAL": TRIAL_TAG}
"""Variables of the environment by which a comparison tells the pipelines that it starts what they are."""
FIGURES_FOLDER = "figures"
PICTURES = (".png", ".svg")
DIGITS = 6
"""Of the gains on the comparison's runs; its record has all of them."""
BOUNDS = (("", "estimate"), ("_low", "low"), ("_high", "high"))


def marks(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that a comparison's environment gives to the pipelines which it starts."""
    return {tag: environment[name] for name, tag in MARKS.items() if environment.get(name)}


def comparison_name(comparison_id: str, dataset: str, *, methods: int, seeds: int) -> str:
    """Return the name of a comparison's run, which sorts by time: "compare 20261128-1745 world: 6 methods × 3 seeds"."""
    counts = [f"{count} {what}{'s' * (count != 1)}" for count, what in ((methods, "method"), (seeds, "seed"))]
    return f"compare {comparison_id[:13]} {dataset}: {' × '.join(counts)}"


@plain_errors
def start_comparison(
    ledger: Ledger,
    *,
    comparison_id: str,
    dataset: str,
    data_md5: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    git_commit: str,
    command: str,
    flow_run_id: str = "",
) -> str:
    """Open the run of a comparison and return its id; `finish_comparison` or `fail_comparison` closes it.

    Where the process is killed, the next command closes it (tasks/tracking/killed_runs.py).

    Args:
        ledger: where.
        comparison_id: such as 20261128-174500-3f2a; names `reports/compare/<id>/` too.
        dataset: name below `data/`.
        data_md5: DVC's.
        methods: that are compared.
        seeds: of each.
        settings: of the comparison, by dotted name; they become the run's parameters.
        git_commit: of the working tree.
        command: that runs this comparison again, or goes on with it.
        flow_run_id: Prefect's.
    """
    name = comparison_name(comparison_id, dataset, methods=len(methods), seeds=len(seeds))
    tags = {
        "posttrain.kind": "comparison",
        COMPARISON_TAG: comparison_id,
        "posttrain.dataset": dataset,
        "posttrain.data_md5": data_md5,
        "posttrain.git_commit": git_commit,
        "posttrain.command": command,
        "prefect.flow_run_id": flow_run_id,
        "mlflow.source.name": "flows compare",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git_commit,
        "mlflow.note.content": f"Comparing {', '.join(methods)} on `{dataset}`, seeds {', '.join(map(str, seeds))}.",
    }
    parameters = {"methods": " ".join(methods), "seeds": " ".join(map(str, seeds)), "data.name": dataset, **settings}
    return ledger.start_run(name, tags=tags, parameters=parameters)


def tag_runs(ledger: Ledger, run_ids: Sequence[str], comparison_id: str) -> None:
    """Say of pipelines' runs that a comparison counts them; a run that is not in the store any more is passed over.

    A run of an earlier comparison that is used again is the newer one's from then on.
    """
    from mlflow.exceptions import MlflowException

    for run_id in run_ids:
        with suppress(MlflowException):
            ledger.client.set_tag(run_id, COMPARISON_TAG, comparison_id)


def tag_trial(ledger: Ledger, run_id: str, tags: Mapping[str, str]) -> None:
    """Say of a trial's run which comparison and which trial it is of; "" is no run, one that is gone is passed over.

    Its environment says so too, but a trial that an earlier search made already is taken as it is.
    """
    from mlflow.exceptions import MlflowException

    if run_id:
        with suppress(MlflowException):
            ledger.tag(run_id, dict(tags))


@plain_errors
def finish_comparison(ledger: Ledger, run_id: str, comparison: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Log a comparison's figures, tables, page and pictures, tell its runs what they are, and let the experiment open on it.

    Args:
        ledger: where.
        run_id: of the comparison.
        comparison: its record, of schema posttrain.comparison/1.
        files: the page (index.html), its Markdown and JSON at the top of the artifacts, pictures below `figures/`; the keys are
            not read.
    """
    ledger.log_metrics(run_id, dict(comparison_metrics(comparison)))
    for name, rows in (("methods.json", method_rows(comparison)), ("pairs.json", pair_rows(comparison))):
        if rows:
            ledger.log_table(run_id, rows, name)
    logged = []
    for file in dict.fromkeys(files.values()):
        folder = FIGURES_FOLDER if file.suffix in PICTURES else None
        ledger.log_file(run_id, file, folder=folder)
        logged.append(f"{folder}/{file.name}" if folder else file.name)

    # its runs: which comparison they are of, and the gain of their own seed
    counted = {one["run_id"] for one in _runs(comparison)}
    tag_runs(ledger, sorted(counted), comparison["id"])
    same = condition(comparison=comparison["id"])
    for run in ledger.client.search_runs([ledger.experiment_id], same, max_results=NEWEST):
        if run.info.run_id not in counted:  # a repeat of one of them, which would weigh in every average
            ledger.client.delete_tag(run.info.run_id, COMPARISON_TAG)
    _log_gains(ledger, comparison)

    # the run itself, and then what shows only finished ones
    links = Links(
        experiment_id=ledger.experiment_id,
        table=fragment(ledger.experiment_id, COMPARISON),
        charts=fragment(ledger.experiment_id, CHARTS, is_chart=True),
        run_id=run_id,
        files=tuple(logged),
    )
    note = note_of_comparison(comparison, links=links, is_of_run=True)
    ledger.tag(run_id, {"mlflow.note.content": note, "posttrain.status": str(comparison["status"])})
    ledger.client.set_terminated(run_id, "FINISHED")
    _describe_models(ledger, comparison, note=note_of_comparison(comparison, links=links))
    write_views(ledger, comparison, logged)


@plain_errors
def fail_comparison(ledger: Ledger, run_id: str, error: str, *, status: str = "FAILED") -> None:
    """Close a comparison's run as FAILED (or KILLED, when a person interrupted it); its page begins with the error."""
    tags = ledger.client.get_run(run_id).data.tags
    command = tags.get("posttrain.command", "")
    note = ended(tags.get("mlflow.note.content", ""), how=status.capitalize(), why=error, command=command)
    ledger.tag(run_id, {"posttrain.error": error[:5000], "mlflow.note.content": note})
    ledger.client.set_terminated(run_id, status)


def comparison_metrics(comparison: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield a comparison's figures by name: `gain/dpo`, `gain/dpo_low`, `gain/dpo_high`, `score/dpo`, …, `seconds/dpo`."""
    gains = gains_over_reference(comparison)
    for method in comparison["methods"]:
        name = _metric_name(method["name"])
        told = {"gain": gains.get(method["name"]) or {}, "score": method.get("mean") or {}}
        for kind, interval in told.items():
            yield from ((f"{kind}/{name}{end}", interval[key]) for end, key in BOUNDS if interval.get(key) is not None)
        if told["gain"].get("p_holm") is not None:
            yield f"p_holm/{name}", told["gain"]["p_holm"]
        costs = method.get("costs") or {}
        for kind, key in (("seconds", "train_seconds"), ("labels", "labels"), ("flops", "flops")):
            if costs.get(key) is not None:
                yield f"{kind}/{name}", costs[key]


def method_rows(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the table of methods: gain, level and costs, a row each, in the order of the record."""
    gains = gains_over_reference(comparison)
    rows = []
    for method in comparison["methods"]:
        gain, mean, costs = gains.get(method["name"]) or {}, method.get("mean") or {}, method.get("costs") or {}
        rows.append(
            {
                "method": method.get("title") or method["name"],
                "learns from": method.get("learns_from", ""),
                "seeds": len(method["seeds"]),
                **{f"gain{end.replace('_', ' ')}": gain.get(key) for end, key in BOUNDS},
                "p (Holm)": gain.get("p_holm"),
                "verdict": gain.get("verdict", "reference"),
                **{f"score{end.replace('_', ' ')}": mean.get(key) for end, key in BOUNDS},
                **{name.replace("_", " "): costs.get(name) for name in ("train_seconds", "generated_tokens", "trained_tokens")},
                "labels": costs.get("labels"),
            }
        )
    return rows


def pair_rows(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the table of pairs: each difference a − b with interval, p and verdict."""
    names = ("family", "a", "b", "estimate", "low", "high", "p", "p_holm", "smallest_effect", "verdict", "words")
    return [{name.replace("_", " "): pair.get(name) for name in names} for pair in comparison["pairs"]]


def _runs(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the pipelines that a comparison counts, each with its method's name."""
    found = [{**run, "method": one["name"]} for one in comparison["methods"] for run in one.get("runs") or ()]
    return [run for run in found if run.get("run_id")]


def _log_gains(ledger: Ledger, comparison: Mapping[str, Any]) -> None:
    """Log on each pipeline's run the paired gain of its seed over the reference of that seed, whose own gain is 0.

    A pipeline's `eval/accuracy_gain` is over the model that its method starts from, which is another one for SFT.
    """
    from mlflow.exceptions import MlflowException

    gains, reference = gains_over_reference(comparison), comparison["design"]["reference"]
    for run in _runs(comparison):
        of_seed = (gains.get(run["method"]) or {}).get("per_seed") or ()
        found: Mapping[str, Any] = next((one for one in of_seed if one["seed"] == run["seed"]), {})
        # MLflow's table cuts a number after ten digits: 0.095 is to stand there, not 0.09499999…
        values = {f"{COMPARED_GAIN}{end}": round(found[key], DIGITS) for end, key in BOUNDS if found.get(key) is not None}
        if run["method"] == reference:
            values = {COMPARED_GAIN: 0.0}
        with suppress(MlflowException):  # it was deleted in MLflow meanwhile
            ledger.log_metrics(run["run_id"], values)


def _describe_models(ledger: Ledger, comparison: Mapping[str, Any], *, note: str) -> None:
    """Let the description of the registered model that the comparison's pipelines made versions of begin with the verdict."""
    from mlflow.exceptions import MlflowException

    name = f"posttrain-{(comparison.get('dataset') or {}).get('name', '')}"
    with suppress(MlflowException):  # nothing was registered under that name
        ledger.client.update_registered_model(name, note)
        ledger.client.set_registered_model_tag(name, COMPARISON_TAG, comparison["id"])


def _metric_name(method: str) -> str:
    """Return a method's name as MLflow takes it within a metric's: other signs than its own become "-"."""
    return re.sub(r"[^\w .-]", "-", method)
