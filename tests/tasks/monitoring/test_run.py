"""A check in MLflow: its run, and what is left where the store refuses in between."""

import shutil

import pytest

from posttrain.settings.evaluation import TrackingSettings
from tasks.monitoring.run import check_metrics, log_check
from tasks.tracking.ledger import Ledger
from tasks.workspace.paths import Paths
from tests.tasks.monitoring.checks import alike, drifted, fallen


def test_the_figures_of_a_check():
    assert check_metrics(drifted()) == {
        "drift/auc": 0.8312,
        "drift/p": 0.001,
        "drift/smallest_auc": 0.5712,
        "drift/foreign_share": 0.6624,
        "drift/is_drift": 1.0,
        "drift/held_out_auc": 0.4911,
        "drift/held_out_p": 0.612,
        "drift/prompts": 203.0,
        "drift/length_psi": 0.123,
        "drift/script_psi": 0.678,
        "drift/unseen_words": 0.211,
    }
    without = check_metrics(alike())
    assert without["drift/is_drift"] == 0.0 and "drift/held_out_auc" not in without


def test_the_figures_of_a_score():
    found = {name: value for name, value in check_metrics(fallen()).items() if name.startswith("score/")}
    assert found == {
        "score/accuracy": 0.712,
        "score/accuracy_low": 0.671,
        "score/accuracy_high": 0.75,
        "score/gate_accuracy": 0.843,
        "score/gate_accuracy_low": 0.819,
        "score/gate_accuracy_high": 0.864,
        "score/difference": -0.131,
        "score/difference_low": -0.177,
        "score/difference_high": -0.086,
        "score/questions": 500.0,
        "score/finished": 0.934,
        "score/smallest_fall": 0.0853,
        "score/has_fallen": 1.0,
    }
    without = fallen()
    without["score"] |= {"smallest_fall": None, "is_alarm": False}
    assert "score/smallest_fall" not in check_metrics(without) and check_metrics(without)["score/has_fallen"] == 0.0


@pytest.fixture
def ledger(empty_store, tmp_path):
    shutil.copytree(empty_store, tmp_path, dirs_exist_ok=True)
    return Ledger.open(Paths(tmp_path), TrackingSettings())


def test_a_check_is_a_run(ledger, tmp_path):
    files = {name: tmp_path / name for name in ("index.html", "monitor.json", "lengths.svg")}
    for file in files.values():
        file.write_text("content")
    run = ledger.client.get_run(log_check(ledger, drifted(), files))
    assert (run.info.status, run.info.run_name) == ("FINISHED", "monitor 20261128-2215 mine")
    tags = run.data.tags
    assert tags["posttrain.kind"] == "monitoring" and tags["posttrain.drift"] == "true"
    assert tags["posttrain.dataset"] == "mine" and tags["posttrain.data_md5"] == "0123456789abcdef"
    assert tags["mlflow.note.content"].startswith("**The prompts have drifted: AUC 0.83, p = 0.001.**")
    assert run.data.metrics == check_metrics(drifted())
    assert run.data.params["monitor.level"] == "0.05" and run.data.params["file"] == "prompts.jsonl"
    found = {item.path for item in ledger.client.list_artifacts(run.info.run_id)}
    assert found == {"index.html", "monitor.json", "figures"}

    assert not {"posttrain.champion", "posttrain.score_fallen"} & set(tags)

    tags = ledger.client.get_run(log_check(ledger, fallen(), files)).data.tags
    assert (tags["posttrain.champion"], tags["posttrain.score_fallen"]) == ("models:/posttrain-mine/7", "true")
    assert tags["posttrain.drift"] == "false"
    assert tags["mlflow.note.content"].startswith("**The champion's score has fallen: version 7 answers 71.2 % of 500")

    # a file that is not there: the run is closed all the same
    with pytest.raises(Exception, match="nowhere"):
        log_check(ledger, drifted(), {"page": tmp_path / "nowhere.html"})
    newest = ledger.client.search_runs([ledger.experiment_id], max_results=1)[0]
    assert newest.info.status == "FAILED"
    assert not ledger.running("tags.`posttrain.kind` = 'monitoring'")
