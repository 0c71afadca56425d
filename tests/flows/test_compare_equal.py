"""A comparison on equal terms as a user runs it: two amounts of tokens and two trials, of the cheapest method.

Only pipelines show that a planned length uses what was planned, and that trials get their tags. Six short ones, in one house.
"""

import json
from pathlib import Path

import pytest

from tests.flows.houses import new_house, run

pytestmark = pytest.mark.slow
# of 70 held-out questions some 60 choose settings, and the others are reported
ASKED = (
    *("compare", "METHODS=sft", "SEEDS=1", "BUDGET=tokens:700,1100", "TUNE=2", "WORKERS=2"),
    *("evaluate.development_share=0.9", "evaluate.samples=1", "sft.batch_size=4"),
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_house(tmp_path_factory.mktemp("house"))
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("held_out: 30", "held_out: 70"))
    (folder / "dry").write_text(run(folder, *ASKED, "DRY_RUN=1"))
    (folder / "told").write_text(run(folder, *ASKED))
    return folder


def test_runs_use_what_they_were_planned_for_at_each_amount(house: Path) -> None:
    record = json.loads((house / "reports" / "compare" / "latest.json").read_text())
    assert record["design"]["budget"] == {"kind": "tokens", "amount": 1100.0} and record["design"]["tune"] == 2
    assert [(row["amount"], row["method"], row["seed"]) for row in record["levels"]] == [(700, "sft", 0), (1100, "sft", 0)]
    for row in record["levels"]:
        assert row["used"] == pytest.approx(row["amount"], rel=0.1)
    (method,) = record["methods"]
    # the verdict is at the largest amount, and so are the figures of the method
    assert method["budget_used"]["amount"] == method["costs"]["trained_tokens"] == record["levels"][1]["used"]
    assert method["scores"][0]["estimate"] == pytest.approx(record["levels"][1]["value"])
    assert method["tuned"]["trials"] == 2
    # none of the questions that chose the settings is reported
    assert record["design"]["questions"] < 20
    for name in ("levels.svg", "comparison.md", "index.html"):
        text = (house / "reports" / "compare" / record["id"] / name).read_text()
        assert "1,100" in text or "1.1 k" in text or "1.10 k" in text


def test_trials_and_pilots_are_tagged_in_mlflow_and_no_view_counts_them(house: Path) -> None:
    from mlflow import MlflowClient

    record = json.loads((house / "reports" / "compare" / "latest.json").read_text())
    client = MlflowClient(tracking_uri=f"sqlite:///{house}/mlflow/store/mlflow.db")
    experiment = client.get_experiment_by_name("posttrain")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.`posttrain.comparison` = '{record['id']}'")
    tags = sorted(
        run_of.data.tags.get("posttrain.trial", "") for run_of in runs if run_of.data.tags["posttrain.kind"] == "pipeline"
    )
    assert tags == ["", "0", "1", "level", "pilot", "pilot"]
    assert all(run_of.data.tags["posttrain.comparison"] == record["id"] for run_of in runs)


def test_a_dry_run_counts_trials_and_says_what_is_known_after_the_pilots(house: Path) -> None:
    told = (house / "dry").read_text()
    for line in ("sft seed 0, pilot", "sft seed 1, pilot", "sft seed 1, trial 0", "sft seed 1, trial 1", "sft seed 0 "):
        assert line in told
    assert "how long each method trains is known after the pilots" in told and "TUNE=2: the trials are counted" in told
