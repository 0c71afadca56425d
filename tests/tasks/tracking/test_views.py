"""The prepared views, decoded: columns and filters name what runs hold, and the note on top begins with the verdict."""

import json
import re
from typing import Any

from tasks.tracking.comparison import finish_comparison, marks
from tasks.tracking.ledger import Ledger
from tasks.tracking.views import (
    CHARTS,
    COMPARISON,
    NOTE_TAG,
    PIPELINES,
    VIEW_TAG,
    decode_view,
    view_url,
    write_views,
)
from tests.tasks.tracking.comparisons import ID, VERDICT, record
from tests.tasks.tracking.test_comparison import begin
from tests.tasks.tracking.test_ledger import _quiet, ledger, start

__all__ = ["_quiet", "ledger"]

METRICS = {
    f"eval/{name}{end}": value + shift
    for name, value in (("accuracy", 0.5), ("accuracy_gain", 0.1))
    for end, shift in (("", 0.0), ("_low", -0.03), ("_high", 0.03))
}
COSTS = {"cost/train_seconds": 12.0, "cost/generated_tokens": 100.0, "cost/trained_tokens": 7.0, "cost/labels": 0.0}


def finished(
    ledger: Ledger, method: str = "dpo", metrics: dict[str, float] | None = None, cached: str = "false", **changes: Any
) -> str:
    run_id = start(ledger, method=method, **changes)
    wanted = METRICS | COSTS if metrics is None else metrics
    ledger.finish_pipeline(run_id, metrics=wanted, tags={"posttrain.cached": cached}, verdict=f"**{method} helped**")
    return run_id


def tags(ledger: Ledger) -> dict[str, str]:
    return dict(ledger.client.get_experiment(ledger.experiment_id).tags)


def states(ledger: Ledger) -> dict[str, Any]:
    return {name.removeprefix(VIEW_TAG): decode_view(value) for name, value in tags(ledger).items() if name.startswith(VIEW_TAG)}


def shown(ledger: Ledger, view: str) -> list[str]:
    """What the view's own filter and order give, as MLflow's page asks for them."""
    state = states(ledger)[view].state
    order = [f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"]
    return [run.info.run_id for run in ledger.client.search_runs([ledger.experiment_id], state["searchFilter"], order_by=order)]


def names_of(state: Any) -> set[str]:
    charts = state["compareRunCharts"]
    axes = [chart[axis]["key"] for chart in charts if chart["type"] == "SCATTER" for axis in ("xaxis", "yaxis")]
    columns = re.findall(r"metrics\.`(.*?)`", " ".join([*state["selectedColumns"], state["orderByKey"]]))
    return {*columns, *axes, *(chart["metricKey"] for chart in charts if chart["type"] == "BAR")}


def test_every_metric_of_a_view_is_held_by_its_runs(ledger: Ledger) -> None:
    run_id = finished(ledger)
    write_views(ledger)
    held = ledger.client.get_run(run_id).data
    for view in states(ledger).values():
        assert names_of(view.state) == held.metrics.keys()
        columns = [name for name in view.state["selectedColumns"] if name.startswith("tags.")]
        assert columns == ["tags.`posttrain.method`", "tags.`posttrain.seed`"]
        assert {name[6:-1] for name in columns} <= held.tags.keys()
        sections = {section["uuid"] for section in view.state["compareRunSections"]}
        assert {chart["metricSectionId"] for chart in view.state["compareRunCharts"]} == sections
        uuids = [chart["uuid"] for chart in view.state["compareRunCharts"]]
        assert len(uuids) == len(set(uuids))
    assert states(ledger)[PIPELINES].state["orderByKey"] == "metrics.`eval/accuracy_gain`"


def test_data_without_answers_are_shown_by_the_figures_that_they_have(ledger: Ledger) -> None:
    figures = {f"eval/judge_win_rate{end}": 0.5 for end in ("", "_low", "_high")} | {"cost/train_seconds": 1.0}
    finished(ledger, metrics=figures)
    write_views(ledger)
    assert names_of(states(ledger)[PIPELINES].state) == figures.keys()


def test_the_table_has_the_finished_pipelines_on_the_newest_data_and_no_trial(ledger: Ledger) -> None:
    finished(ledger, data_md5="f" * 32)
    small = finished(ledger, metrics=METRICS | COSTS | {"eval/accuracy_gain": 0.01})
    large = finished(ledger, method="reft")
    reused = finished(ledger, cached="true", metrics=METRICS | COSTS | {"eval/accuracy_gain": 0.05})
    trial = finished(ledger, marks=marks({"POSTTRAIN_TRIAL": "1"}), data_md5="e" * 32)
    ledger.fail_pipeline(start(ledger), "no")
    ledger.start_stage(large, "ppo", key="k", settings={})
    assert trial
    write_views(ledger)
    assert shown(ledger, PIPELINES) == [large, reused, small], "the largest gain first"
    assert shown(ledger, CHARTS) == [large, small], "what computed nothing is not counted twice"
    assert COMPARISON not in states(ledger)


def test_after_a_comparison_its_runs_are_shown_by_their_gain_over_the_reference(ledger: Ledger) -> None:
    runs = {name: {seed: finished(ledger, name) for seed in (0, 1)} for name in ("sft", "dpo", "reft")}
    finished(ledger, "dpo", cached="true")
    finish_comparison(ledger, begin(ledger), record(runs), {})
    order = ["reft", "reft", "sft", "sft", "dpo", "dpo"]
    for view in (COMPARISON, CHARTS):
        assert [ledger.client.get_run(one).data.tags["posttrain.method"] for one in shown(ledger, view)] == order
        state = states(ledger)[view].state
        assert "eval/accuracy_gain" not in names_of(state), "which is over another model for SFT than for the others"
        assert {"compare/gain", "compare/gain_low", "eval/accuracy", "cost/labels"} <= names_of(state)
        assert names_of(state) <= ledger.client.get_run(runs["dpo"][0]).data.metrics.keys()
    charts = states(ledger)[CHARTS].state
    assert charts["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "posttrain.method"}]
    bar, *_ = charts["compareRunCharts"]
    assert (bar["type"], bar["metricKey"]) == ("BAR", "compare/gain")
    scatter = next(chart for chart in charts["compareRunCharts"] if chart["type"] == "SCATTER")
    assert (scatter["xaxis"]["key"], scatter["yaxis"]["key"]) == ("cost/train_seconds", "compare/gain")
    assert states(ledger)[COMPARISON].name == "Comparison 20261128-1745: table"
    assert len(shown(ledger, PIPELINES)) == 7


def test_the_note_begins_with_the_last_comparison_and_a_later_pipeline_leaves_it(ledger: Ledger) -> None:
    runs = {name: {0: finished(ledger, name)} for name in ("sft", "dpo", "reft")}
    run_id = begin(ledger)
    finish_comparison(ledger, run_id, record(runs), {})
    told = tags(ledger)[NOTE_TAG]
    lines = told.splitlines()
    assert lines[0] == f"**{VERDICT}**"
    assert "| ReFT | +20.0 [16.0, 24.0] | 60.0 [55.0, 65.0] | 90 | 90,000 | 0 | better |" in lines
    assert f"viewStateShareKey={CHARTS}&compareRunsMode=CHART)" in told and f"viewStateShareKey={COMPARISON})" in told
    assert f"[the comparison's run](#/experiments/{ledger.experiment_id}/runs/{run_id})" in told
    assert "How to read it" in told and ID in told
    finished(ledger)
    write_views(ledger)
    assert tags(ledger)[NOTE_TAG] == told
    fail = begin(ledger)
    ledger.client.set_terminated(fail, "FAILED")
    write_views(ledger)
    assert tags(ledger)[NOTE_TAG] == told, "a comparison that failed says nothing"


def test_a_long_verdict_is_cut_where_line_1_ends_and_told_whole_below(ledger: Ledger) -> None:
    first = "ReFT has the highest mean of 3 methods: +18.6 points over SFT [-7.5, 44.7]"
    long = f"{first}; {'and this design sees little, ' * 3}so ask more"
    finish_comparison(ledger, begin(ledger), record(verdict=long), {})
    lines = tags(ledger)[NOTE_TAG].splitlines()
    assert lines[:3] == [f"**{first}.**", "", long]


def test_without_a_comparison_the_note_begins_with_the_last_pipeline(ledger: Ledger) -> None:
    write_views(ledger)
    assert tags(ledger)[NOTE_TAG].startswith("**No pipeline has finished yet.**\n")
    assert names_of(states(ledger)[PIPELINES].state) >= {"eval/accuracy_gain", "eval/accuracy", "cost/train_seconds"}
    finished(ledger, "sft", data_md5="f" * 32)
    finished(ledger, "dpo", metrics=METRICS | {"eval/accuracy_gain": 0.3})
    finished(ledger, "dpo")
    finished(ledger, "kto", metrics={})
    write_views(ledger)
    lines = tags(ledger)[NOTE_TAG].splitlines()
    assert lines[0] == "**kto helped** (kto world seed 0)"
    rows = [line for line in lines if line.startswith(("| dpo", "| kto", "| sft"))]
    # 0.1 ± 0.03 and 0.5 ± 0.03, of the newer of the two
    assert rows == ["| dpo | 0 | +10.0 [7.0, 13.0] | 50.0 [47.0, 53.0] | 12 | 0 |", "| kto | 0 | – | – | – | – |"]


def test_a_note_that_a_person_wrote_stays(ledger: Ledger) -> None:
    write_views(ledger)
    ledger.client.set_experiment_tag(ledger.experiment_id, NOTE_TAG, "Ours: ask Ada.")
    finished(ledger)
    write_views(ledger)
    finish_comparison(ledger, begin(ledger), record(), {})
    assert tags(ledger)[NOTE_TAG] == "Ours: ask Ada." and COMPARISON in states(ledger)


def test_a_view_is_written_as_mlflows_own_page_writes_it(ledger: Ledger) -> None:
    write_views(ledger)
    before = tags(ledger)[f"{VIEW_TAG}{PIPELINES}"]
    facts = json.loads(before)
    assert facts.keys() == {"name", "createdAt", "updatedAt", "state"} and facts["state"].startswith("deflate;")
    assert facts["name"] == "Every pipeline" and decode_view(before).state["startTime"] == "ALL"
    finished(ledger)
    write_views(ledger)
    assert states(ledger)[PIPELINES].name == "Every pipeline on world"


def test_a_view_shows_all_of_its_runs_and_charts_and_the_charts_are_of_methods(ledger: Ledger) -> None:
    finished(ledger)
    write_views(ledger)
    finish_comparison(ledger, begin(ledger), record(), {})
    for key, found in states(ledger).items():
        state = found.state
        shown_as_is = {"runListHidden": False, "hideEmptyCharts": True, "isAccordionReordered": True, "autoRefreshEnabled": False}
        assert {name: state[name] for name in shown_as_is} == shown_as_is, key
        assert (state["groupBy"] is not None) is state["useGroupedValuesInCharts"], "each method is one bar, or each run is one"
        flags = [(part["deleted"], part["isGenerated"]) for part in (*state["compareRunSections"], *state["compareRunCharts"])]
        assert set(flags) == {(False, False)}
        assert {(part["display"], part["isReordered"]) for part in state["compareRunSections"]} == {(True, True)}
        assert {chart["runsCountToCompare"] for chart in state["compareRunCharts"]} == {100}
    grouped = {key for key, found in states(ledger).items() if found.state["groupBy"]}
    assert grouped == {key for key in states(ledger) if "chart" in key} and CHARTS in grouped


def test_the_two_figures_of_quality_that_decide_first_are_shown(ledger: Ledger) -> None:
    finished(ledger, metrics=METRICS | COSTS | {"eval/reference_loss": 2.0, "eval/judge_win_rate": 0.6})
    write_views(ledger)
    quality = [name for name in states(ledger)[PIPELINES].state["selectedColumns"] if "eval/" in name]
    assert quality == [f"metrics.`eval/{name}{end}`" for name in ("accuracy_gain", "accuracy") for end in ("", "_low", "_high")]


def test_the_address_of_a_view(ledger: Ledger) -> None:
    here = f"/#/experiments/{ledger.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey="
    assert view_url(ledger) == f"http://127.0.0.1:5000{here}{PIPELINES}"
    assert view_url(ledger, 5003, view=CHARTS, is_chart=True) == f"http://127.0.0.1:5003{here}{CHARTS}&compareRunsMode=CHART"
    finish_comparison(ledger, begin(ledger), record(), {})
    assert view_url(ledger) == f"http://127.0.0.1:5000{here}{COMPARISON}", "the experiment opens on its last comparison"


def test_a_store_of_an_older_version_gets_its_views(ledger: Ledger) -> None:
    """Its runs have every setting as a parameter, no trial's tag, no sentence in front."""
    run_id = finished(ledger)
    for name in ("posttrain.cached", "mlflow.note.content", "posttrain.data_md5"):
        ledger.client.delete_tag(run_id, name)
    write_views(ledger)
    assert tags(ledger)[NOTE_TAG].startswith("**The last pipeline is dpo world seed 0.**\n")
    assert states(ledger)[PIPELINES].name == "Every pipeline on world"
