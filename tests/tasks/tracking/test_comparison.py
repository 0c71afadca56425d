"""A comparison is a run of its own in MLflow: figures, tables, page, links, what its pipelines say of it, and how it fails."""

import json
from pathlib import Path

import pytest

from tasks.tracking.comparison import (
    comparison_metrics,
    comparison_name,
    fail_comparison,
    finish_comparison,
    marks,
    pair_rows,
    start_comparison,
    tag_trial,
)
from tasks.tracking.experiment_notes import gains_over_reference
from tasks.tracking.killed_runs import close_killed
from tasks.tracking.ledger import Ledger
from tests.tasks.tracking.comparisons import ID, VERDICT, record
from tests.tasks.tracking.test_killed_runs import WHY, dead, give_to
from tests.tasks.tracking.test_ledger import _quiet, ledger, start

__all__ = ["_quiet", "dead", "ledger"]

COMMAND = 'make compare METHODS="sft dpo reft" SEEDS=2'


def begin(ledger: Ledger) -> str:
    return start_comparison(
        ledger,
        comparison_id=ID,
        dataset="world",
        data_md5="d" * 32,
        methods=["sft", "dpo", "reft"],
        seeds=[0, 1],
        settings={"compare.margin": 0.02},
        git_commit="abc1234",
        command=COMMAND,
    )


def pipeline(ledger: Ledger, method: str, **metrics: float) -> str:
    run_id = start(ledger, method=method, pipeline_id=f"p-{method}")
    ledger.finish_pipeline(run_id, metrics=metrics, verdict=f"**{method} did something**")
    return run_id


def pages(folder: Path) -> dict[str, Path]:
    folder.mkdir()
    files = {name: folder / name for name in ("index.html", "comparison.json", "forest.svg", "pareto.png")}
    for file in files.values():
        file.write_text("<svg/>")
    return files


def note(ledger: Ledger, run_id: str) -> str:
    return str(ledger.client.get_run(run_id).data.tags["mlflow.note.content"])


def test_a_finished_comparison_has_its_figures_tables_page_and_links(ledger: Ledger, tmp_path: Path) -> None:
    runs = {name: {seed: pipeline(ledger, name) for seed in (0, 1)} for name in ("sft", "dpo", "reft")}
    run_id = begin(ledger)
    finish_comparison(ledger, run_id, record(runs), pages(tmp_path / "page"))
    run = ledger.client.get_run(run_id)
    assert (run.info.run_name, run.info.status) == ("compare 20261128-1745 world: 3 methods × 2 seeds", "FINISHED")
    assert run.data.tags["posttrain.kind"] == "comparison" and run.data.tags["posttrain.status"] == "complete"
    assert run.data.params == {"methods": "sft dpo reft", "seeds": "0 1", "data.name": "world", "compare.margin": "0.02"}
    # sft − dpo is +5 points, so dpo's gain is −5, with its bounds the other way round
    gains = {name: round(value, 9) for name, value in run.data.metrics.items() if name.startswith("gain/")}
    assert gains == {
        "gain/dpo": -0.05,
        "gain/dpo_low": -0.09,
        "gain/dpo_high": -0.01,
        "gain/reft": 0.2,
        "gain/reft_low": 0.16,
        "gain/reft_high": 0.24,
    }
    levels = {name: round(value, 9) for name, value in run.data.metrics.items() if name.startswith("score/")}
    assert {name: levels[f"score/{name}"] for name in ("sft", "dpo", "reft")} == {"sft": 0.4, "dpo": 0.35, "reft": 0.6}
    assert (levels["score/dpo_low"], levels["score/dpo_high"]) == (0.3, 0.4) and len(levels) == 9
    assert run.data.metrics["p_holm/dpo"] == 0.02 and "p_holm/sft" not in run.data.metrics
    assert run.data.metrics["seconds/dpo"] == 30.5 and "flops/dpo" not in run.data.metrics
    artifacts = {file.path for file in ledger.client.list_artifacts(run_id)}
    assert artifacts == {"index.html", "comparison.json", "methods.json", "pairs.json", "figures"}
    assert [file.path for file in ledger.client.list_artifacts(run_id, "figures")] == ["figures/forest.svg", "figures/pareto.png"]
    table = json.loads(Path(ledger.client.download_artifacts(run_id, "methods.json")).read_text())
    assert [row[0] for row in table["data"]] == ["SFT", "DPO", "ReFT"]
    dpo = dict(zip(table["columns"], table["data"][1], strict=True))
    assert dpo["verdict"] == "worse" and (dpo["seeds"], dpo["p (Holm)"], dpo["labels"]) == (2, 0.02, 642)
    assert [round(dpo[name], 9) for name in ("score", "score low", "score high")] == [0.35, 0.3, 0.4]
    assert [round(dpo[name], 9) for name in ("gain", "gain low", "gain high")] == [-0.05, -0.09, -0.01]

    told = note(ledger, run_id)
    assert told.splitlines()[0] == f"**{VERDICT}**"
    here = f"#/experiments/{ledger.experiment_id}"
    assert f"]({here}/runs/{run_id}/artifacts/index.html?workflowType=machine_learning)" in told
    assert f"get-artifact?path=figures/forest.svg&run_uuid={run_id}" in told
    for seeds in runs.values():
        assert all(f"[{seed}]({here}/runs/{one})" in told for seed, one in seeds.items())
    order = [line.split(" | ")[0] for line in told.splitlines() if line.startswith(("| ReFT", "| SFT", "| DPO"))]
    assert order == ["| ReFT", "| SFT", "| DPO"], "the largest gain first"
    assert "| DPO | -5.0 [-9.0, -1.0] | 35.0 [30.0, 40.0] | 30 | 13,000 | 642 | worse |" in told


def test_its_pipelines_say_so_and_have_the_gain_of_their_own_seed(ledger: Ledger) -> None:
    runs = {name: {seed: pipeline(ledger, name) for seed in (0, 1)} for name in ("sft", "dpo", "reft")}
    repeat = start(ledger, method="dpo", marks=marks({"POSTTRAIN_COMPARISON": ID}))
    ledger.finish_pipeline(repeat, metrics={})
    finish_comparison(ledger, begin(ledger), record(runs), {})
    data = {name: [ledger.client.get_run(one).data for one in seeds.values()] for name, seeds in runs.items()}
    assert all(run.tags["posttrain.comparison"] == ID for seeds in data.values() for run in seeds)
    assert "posttrain.comparison" not in ledger.client.get_run(repeat).data.tags, "a repeat would weigh in every average"
    found = {name: [round(run.metrics["compare/gain"], 9) for run in seeds] for name, seeds in data.items()}
    # seed 0: 0.05 − 0.01 = 0.04 less than sft; seed 1: 0.06 less
    assert found == {"sft": [0.0, 0.0], "dpo": [-0.04, -0.06], "reft": [0.19, 0.21]}
    assert round(data["dpo"][0].metrics["compare/gain_low"], 9) == -0.09
    assert "compare/gain_low" not in data["sft"][0].metrics


def test_a_run_that_was_deleted_meanwhile_costs_nothing_but_itself(ledger: Ledger) -> None:
    runs = {name: {0: pipeline(ledger, name)} for name in ("sft", "dpo", "reft")}
    ledger.client.delete_run(runs["dpo"][0])
    runs["reft"][1] = "0" * 32
    run_id = begin(ledger)
    finish_comparison(ledger, run_id, record(runs), {})
    assert ledger.client.get_run(run_id).info.status == "FINISHED"
    assert ledger.client.get_run(runs["sft"][0]).data.tags["posttrain.comparison"] == ID


def test_a_trial_is_tagged_and_one_without_a_run_costs_nothing(ledger: Ledger) -> None:
    run_id = pipeline(ledger, "dpo")
    for one in (run_id, "", "0" * 32):
        tag_trial(ledger, one, {"posttrain.trial": "2"})
    assert ledger.client.get_run(run_id).data.tags["posttrain.trial"] == "2"


def test_the_registered_model_begins_with_the_verdict(ledger: Ledger) -> None:
    ledger.client.create_registered_model("posttrain-world")
    finish_comparison(ledger, begin(ledger), record(), {})
    model = ledger.client.get_registered_model("posttrain-world")
    assert model.description.startswith(f"**{VERDICT}**\n\n| method |") and model.tags == {"posttrain.comparison": ID}


def test_a_comparison_that_failed_says_why_and_how_to_go_on(ledger: Ledger) -> None:
    for status in ("FAILED", "KILLED"):
        run_id = begin(ledger)
        fail_comparison(ledger, run_id, "dpo seed 1 failed", status=status)
        run = ledger.client.get_run(run_id)
        assert (run.info.status, run.data.tags["posttrain.error"]) == (status, "dpo seed 1 failed")
        assert note(ledger, run_id).startswith(
            f"**{status.capitalize()}:** dpo seed 1 failed\n\n**To go on** from the last finished stage: `{COMMAND}`\n\n"
            "Comparing sft, dpo, reft on `world`, seeds 0, 1."
        )


def test_a_failed_pipeline_of_a_partial_comparison_is_named(ledger: Ledger) -> None:
    failed = [{"method": "dpo", "seed": 1, "error": "no\nroom", "command": "make pipeline METHOD=dpo", "run_id": None}]
    run_id = begin(ledger)
    finish_comparison(ledger, run_id, record(status="partial", failed=failed), {})
    assert "\n**Failed:** dpo seed 1: no room\n" in note(ledger, run_id)
    assert ledger.client.get_run(run_id).data.tags["posttrain.status"] == "partial"


def test_a_killed_comparison_is_closed_by_the_next_command(ledger: Ledger, dead) -> None:
    run_id = give_to(ledger, begin(ledger), dead)
    (closed,) = close_killed(ledger)
    assert (closed.run_id, closed.kind, closed.command) == (run_id, "comparison", COMMAND)
    assert ledger.client.get_run(run_id).info.status == "KILLED"
    assert note(ledger, run_id).startswith(f"**Killed:** {WHY}; finished stages are kept\n\n**To go on** from the last")


@pytest.mark.parametrize(
    ("methods", "seeds", "name"),
    [
        (6, 3, "compare 20261128-1745 world: 6 methods × 3 seeds"),
        (1, 1, "compare 20261128-1745 world: 1 method × 1 seed"),
    ],
)
def test_its_name_sorts_by_time(methods: int, seeds: int, name: str) -> None:
    assert comparison_name(ID, "world", methods=methods, seeds=seeds) == name


def test_a_pair_that_is_turned_has_everything_turned() -> None:
    gain = gains_over_reference(record())["dpo"]
    assert (gain["a"], gain["b"], gain["verdict"]) == ("dpo", "sft", "worse")
    assert [round(gain[name], 9) for name in ("estimate", "low", "high")] == [-0.05, -0.09, -0.01]
    assert [round(one["estimate"], 9) for one in gain["per_seed"]] == [-0.04, -0.06]
    undefined = record()
    undefined["pairs"][0] |= {"low": None, "high": None}
    assert (gains_over_reference(undefined)["dpo"]["low"], "gain/dpo_low" in dict(comparison_metrics(undefined))) == (None, False)


def test_a_name_of_another_tools_system_is_one_that_mlflow_takes(ledger: Ledger) -> None:
    told = record()
    told["methods"][2]["name"] = told["pairs"][1]["a"] = told["pairs"][2]["a"] = "org/model:v2 (best)"
    run_id = begin(ledger)
    finish_comparison(ledger, run_id, told, {})
    assert ledger.client.get_run(run_id).data.metrics["gain/org-model-v2 -best-"] == 0.2
    assert pair_rows(told)[1]["a"] == "org/model:v2 (best)"


def test_pipelines_of_a_comparison_are_marked_by_the_environment_alone() -> None:
    assert marks({"POSTTRAIN_COMPARISON": ID, "POSTTRAIN_TRIAL": "3", "HOME": "/"}) == {
        "posttrain.comparison": ID,
        "posttrain.trial": "3",
    }
    assert marks({"POSTTRAIN_TRIAL": ""}) == {}
