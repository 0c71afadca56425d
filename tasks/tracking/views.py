"""Prepared views of MLflow's page: tables and charts that say which method won and what it cost, at an address of their own.

A saved view is a tag of the experiment, `mlflow.sharedViewState.<id>`, whose value is JSON with the view's name and its state,
deflated. MLflow's own page writes the same when a person shares a view; the form was read there and tried with version 3.17.2.
A view that is written again under its id keeps its address.
"""

import base64
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.tracking.experiment_notes import Links, note_of_comparison, note_of_pipelines
from tasks.tracking.ledger import Ledger
from tasks.tracking.store import plain_errors

VIEW_TAG = "mlflow.sharedViewState."
NOTE_TAG = "mlflow.note.content"
OURS_TAG = "posttrain.note"
"""Of the experiment: the note that stood there when we last wrote one. A person who changes it keeps the note as it is."""
PIPELINES, COMPARISON, CHARTS = "posttrain-pipelines", "posttrain-comparison", "posttrain-charts"
"""Ids of the views: every pipeline on the data; the runs of the last comparison; their charts."""
NEWEST = 200
"""Pipelines looked at, at most, for what they hold."""

GAIN = "eval/accuracy_gain"
COMPARED_GAIN = "compare/gain"
"""Of a comparison's runs: the paired gain over its reference, in the unit of its metric (tasks/tracking/comparison.py)."""
QUALITY = (COMPARED_GAIN, GAIN, "eval/accuracy", "eval/judge_win_rate", "eval/preference_accuracy", "eval/reference_loss")
"""Figures of quality, the one that decides first; a view has those that its runs hold, with their bounds."""
SECTIONS = {"gain": "Who won", "cost": "Gain against cost", "spent": "What it took"}
"""Of the charts, by id."""
COSTS = ("cost/train_seconds", "cost/generated_tokens", "cost/trained_tokens", "cost/labels")


@dataclass(frozen=True)
class View:
    """A saved view.

    Attributes:
        name: in the menu *Views*.
        state: of MLflow's page, as its saved views have it.
    """

    name: str
    state: Mapping[str, Any]

    def encode(self) -> str:
        """Return it as the value of its tag."""
        now = int(time.time() * 1000)
        state = base64.b64encode(zlib.compress(json.dumps(self.state).encode())).decode()
        return json.dumps({"name": self.name, "createdAt": now, "updatedAt": now, "state": f"deflate;{state}"})


def decode_view(value: str) -> View:
    """Return the view in the value of a tag."""
    facts = json.loads(value)
    packed = facts["state"].removeprefix("deflate;")
    return View(facts["name"], json.loads(zlib.decompress(base64.b64decode(packed))))


def view_url(ledger: Ledger, port: int | None = None, *, view: str = "", is_chart: bool = False) -> str:
    """Return the address of a view on MLflow's page; without an id, of the one that the experiment opens on.

    Args:
        ledger: of the experiment.
        port: of the page, where `make ui` serves it; None: the one that runs, else the usual one.
        view: its id.
        is_chart: show its charts instead of its table.
    """
    return f"{ledger.site(port)}/{fragment(ledger.experiment_id, view or opening_view(ledger), is_chart=is_chart)}"


def fragment(experiment_id: str, view: str, *, is_chart: bool = False) -> str:
    """Return the part of a view's address behind the site, which is a link wherever MLflow's page is served."""
    mode = "&compareRunsMode=CHART" if is_chart else ""
    # without workflowType the page opens on chat traces
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={view}{mode}"


def opening_view(ledger: Ledger) -> str:
    """Return the id of the view that the experiment opens on: the last comparison's, else that of all pipelines."""
    return COMPARISON if last_comparison(ledger) else PIPELINES


@plain_errors
def write_views(ledger: Ledger, comparison: Mapping[str, Any] | None = None, files: Sequence[str] = ()) -> None:
    """Write the experiment's views and its note anew, from what the store holds.

    Args:
        ledger: of the experiment.
        comparison: the record of a comparison that has just ended, of schema posttrain.comparison/1, for the note; without one
            the note of the last comparison stays, and where there is none the last pipeline's verdict stands there.
        files: artifacts of the comparison's run, of which the note shows a picture and names the page.
    """
    compared = last_comparison(ledger)
    runs = _finished_pipelines(ledger)
    of_last = [run for run in runs if run.data.tags.get("posttrain.data_md5", "") == _data_md5(runs)]
    views = {PIPELINES: _pipelines_view(of_last)}
    if compared:
        ours = [run for run in runs if run.data.tags.get("posttrain.comparison") == compared.data.tags["posttrain.comparison"]]
        views |= {COMPARISON: _comparison_view(compared, ours), CHARTS: _charts_view(compared, ours)}
    else:
        views[CHARTS] = _charts_view(None, of_last)
    tags = {f"{VIEW_TAG}{view}": one.encode() for view, one in views.items()}
    if compared and comparison is not None:
        tags |= _note(ledger, note_of_comparison(comparison, links=_links(ledger, compared.info.run_id, files)))
    elif not compared:
        tags |= _note(ledger, note_of_pipelines([run.data for run in of_last], links=_links(ledger)))
    for name, value in tags.items():
        ledger.client.set_experiment_tag(ledger.experiment_id, name, value)


def last_comparison(ledger: Ledger) -> Any:
    """Return the run of the last comparison that was finished; None where there is none."""
    condition = "attributes.status = 'FINISHED' and tags.`posttrain.kind` = 'comparison'"
    order = ["attributes.start_time DESC"]
    found = ledger.client.search_runs([ledger.experiment_id], condition, order_by=order, max_results=1)
    return found[0] if found else None


def _finished_pipelines(ledger: Ledger) -> list[Any]:
    order = ["attributes.start_time DESC"]
    return list(ledger.client.search_runs([ledger.experiment_id], condition(), order_by=order, max_results=NEWEST))


def condition(**tags: str) -> str:
    """Return MLflow's search for finished pipelines that are no trials and have these tags."""
    parts = ["attributes.status = 'FINISHED'", "tags.`posttrain.kind` = 'pipeline'", "tags.`posttrain.trial` IS NULL"]
    return " and ".join([*parts, *(f"tags.`posttrain.{name}` = '{value}'" for name, value in tags.items())])


def _data_md5(runs: Sequence[Any]) -> str:
    return str(runs[0].data.tags.get("posttrain.data_md5", "")) if runs else ""


def _links(ledger: Ledger, run_id: str = "", files: Sequence[str] = ()) -> Links:
    table = fragment(ledger.experiment_id, COMPARISON if run_id else PIPELINES)
    charts = fragment(ledger.experiment_id, CHARTS, is_chart=True)
    return Links(experiment_id=ledger.experiment_id, table=table, charts=charts, run_id=run_id, files=tuple(files))


def _note(ledger: Ledger, text: str) -> dict[str, str]:
    """Return the tags of a note; none where a person wrote one of their own."""
    tags = ledger.client.get_experiment(ledger.experiment_id).tags
    if tags.get(NOTE_TAG, "") not in ("", tags.get(OURS_TAG, "")):
        return {}
    return {NOTE_TAG: text, OURS_TAG: text}


# --- what the views hold ----------------------------------------------------------------------------------------------


def _pipelines_view(runs: Sequence[Any]) -> View:
    """All finished pipelines on the same version of the same data as the last one, the largest gain first."""
    dataset = f" on {runs[0].data.tags.get('posttrain.dataset', '')}" if runs else ""
    return View(f"Every pipeline{dataset}", _state(condition(**_same_data(runs)), runs, left_out=COMPARED_GAIN))


def _comparison_view(compared: Any, runs: Sequence[Any]) -> View:
    return View(f"{_short(compared)}: table", _state(_of_comparison(compared), runs, left_out=GAIN))


def _charts_view(compared: Any, runs: Sequence[Any]) -> View:
    """Charts of the methods' means; cached repeats are not counted.

    A comparison's runs are told by its tag. Without one, the pipelines that computed something are taken.
    """
    search = _of_comparison(compared) if compared else condition(**_same_data(runs), cached="false")
    state = _state(search, runs, left_out=GAIN if compared else COMPARED_GAIN)
    by_method = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "posttrain.method"}]}
    state |= {"groupBy": by_method, "useGroupedValuesInCharts": True}
    return View(f"{_short(compared)}: charts" if compared else "Charts by method", state)


def _same_data(runs: Sequence[Any]) -> dict[str, str]:
    md5 = _data_md5(runs)
    return {"data_md5": md5} if md5 else {}


def _short(compared: Any) -> str:
    return f"Comparison {compared.data.tags['posttrain.comparison'][:13]}"


def _of_comparison(compared: Any) -> str:
    return condition(comparison=compared.data.tags["posttrain.comparison"])


def _held(runs: Sequence[Any], names: Sequence[str], *, usual: Sequence[str]) -> list[str]:
    """Return those metrics that some run holds; the usual ones where there is no run yet."""
    return [name for name in names if any(name in run.data.metrics for run in runs)] or list(usual)


def _state(search: str, runs: Sequence[Any], *, left_out: str) -> dict[str, Any]:
    """Return the state of a view: its runs; columns of method, seed, quality with bounds, cost; charts of gain and of cost."""
    quality = _held(runs, [name for name in QUALITY if name != left_out], usual=(GAIN, "eval/accuracy"))[:2]
    costs = _held(runs, COSTS, usual=COSTS)
    metrics = [f"{name}{end}" for name in quality for end in ("", "_low", "_high")] + costs
    columns = ["tags.`posttrain.method`", "tags.`posttrain.seed`", *(f"metrics.`{name}`" for name in metrics)]
    charts = [_bar(name, "gain") for name in quality]
    charts += [_scatter(cost, quality[0], "cost") for cost in costs]
    charts += [_bar(name, "spent") for name in costs]
    return {
        "searchFilter": search,
        "orderByKey": f"metrics.`{quality[0]}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "SHOW_ALL",
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": False,
        "hideEmptyCharts": True,
        "groupsExpanded": {},
        "autoRefreshEnabled": False,
        "groupBy": None,
        "compareRunSections": [_section(uuid, name) for uuid, name in SECTIONS.items()],
        "compareRunCharts": charts,
    }


def _section(uuid: str, name: str) -> dict[str, Any]:
    return {"uuid": uuid, "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": False}


def _bar(metric: str, section: str) -> dict[str, Any]:
    return {
        "uuid": f"bar-{metric}",
        "type": "BAR",
        "metricSectionId": section,
        "metricKey": metric,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }


def _scatter(x: str, y: str, section: str) -> dict[str, Any]:
    return {
        "uuid": f"scatter-{x}",
        "type": "SCATTER",
        "metricSectionId": section,
        "xaxis": {"key": x, "type": "METRIC"},
        "yaxis": {"key": y, "type": "METRIC"},
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }
