"""The whole road, as a user goes it: `python -m flows pipeline …` in a copy of the repository, with a smaller world."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posttrain.report.pipeline import PARENT_METRICS
from tests.flows.houses import command, new_house, ran, report, run

pytestmark = pytest.mark.slow

OF_RUNS = ("kind", "method", "stage", "pipeline_id", "seed", "dataset", "data_md5", "stage_key", "cached", "git_commit")
TAGS = {*(f"posttrain.{name}" for name in OF_RUNS), "prefect.flow_run_id"}
STAGES = ["tokenizer", "validate", "base", "sft", "evaluate-sft", "evaluate-base", "sample", "label", "dpo", "evaluate-dpo"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A house in which the default pipeline has run once, in a fresh Python and with a server of its own."""
    folder = new_house(tmp_path_factory.mktemp("house"))
    run(folder, "pipeline", "method=dpo", fresh=True)
    return folder


def test_the_report_and_mlflow_carry_every_promised_name(house: Path) -> None:
    from mlflow import MlflowClient

    told = report(house)
    assert [stage["name"] for stage in told["stages"]] == STAGES
    assert set(told["metrics"]) >= set(PARENT_METRICS)
    assert list(told["models"]) == ["base", "sft", "dpo"]
    assert {"uri", "name", "version", "path"} <= set(told["model"])

    client = MlflowClient(tracking_uri=f"sqlite:///{house}/mlflow/store/mlflow.db")
    experiment = client.get_experiment_by_name("posttrain")
    runs = client.search_runs([experiment.experiment_id])
    parent = next(one for one in runs if one.info.run_id == told["mlflow"]["run_id"])
    children = [one for one in runs if one.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(one.data.tags["posttrain.stage"] for one in children) == sorted(STAGES)
    for one in (parent, *children):
        assert set(one.data.tags) >= TAGS
        assert one.info.status == "FINISHED"
    assert set(PARENT_METRICS) <= set(parent.data.metrics)
    assert parent.inputs.dataset_inputs[0].dataset.name == "world"
    dpo = next(one for one in children if one.data.tags["posttrain.stage"] == "dpo")
    assert len(client.get_metric_history(dpo.info.run_id, "rewards/margins")) > 1
    assert str(client.get_model_version_by_alias("posttrain-world", "challenger").version) == told["model"]["version"]
    assert {"report", "samples.json"} <= {file.path for file in client.list_artifacts(parent.info.run_id)}


def test_the_registered_model_loads_with_plain_transformers_in_a_fresh_process(house: Path) -> None:
    code = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model, reader = (kind.from_pretrained(sys.argv[1]) for kind in (AutoModelForCausalLM, AutoTokenizer))\n"
        "prompt = reader('Tom has 12 apples, finds 5. How many?\\n', return_tensors='pt')\n"
        "print(reader.decode(model.generate(prompt['input_ids'], max_new_tokens=30)[0]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, report(house)["model"]["path"]], capture_output=True, text=True, cwd=house.parent, check=True
    )
    assert done.stdout.startswith("Tom has 12 apples, finds 5. How many?\n")


def test_what_is_made_again_is_what_depends_on_the_change(house: Path) -> None:
    first = report(house)
    run(house, "pipeline", "method=dpo")
    again = report(house)
    assert (ran(house), again["metrics"]) == ([], first["metrics"])
    assert again["model"] == first["model"]
    run(house, "pipeline", "method=sft")
    assert ran(house) == []
    assert list(report(house)["models"]) == ["base", "sft"]
    run(house, "pipeline", "method=dpo", "dpo.beta=0.3")
    assert ran(house) == ["dpo", "evaluate-dpo"]

    base = next(stage for stage in first["stages"] if stage["name"] == "base")
    weights_file = house / ".posttrain" / "stages" / "base" / base["key"] / "model" / "model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-1] + b"\0")
    told = run(house, "pipeline", "method=sft")
    assert f"base: model/model.safetensors of the cached result {base['key'][:12]} is damaged, so it is made again" in told
    assert ran(house) == ["base"]


def test_reft_and_ppo_go_the_same_road(house: Path) -> None:
    from mlflow import MlflowClient

    run(house, "pipeline", "method=reft")
    told = report(house)
    assert ran(house) == ["ppo", "evaluate-reft", "audit"]
    assert (list(told["models"]), told["baseline"]) == (["base", "sft", "reft"], "sft")
    assert set(told["metrics"]) >= set(PARENT_METRICS)
    client = MlflowClient(tracking_uri=f"sqlite:///{house}/mlflow/store/mlflow.db")
    child = next(stage["run_id"] for stage in told["stages"] if stage["name"] == "ppo")
    for name in ("reward", "kl", "clip_fraction", "value_loss", "entropy", "approx_kl", "gold", "finished"):
        assert len(client.get_metric_history(child, f"ppo/{name}")) == 3, name
    assert "samples.json" in {file.path for file in client.list_artifacts(child)}
    assert not list((house / ".posttrain" / "checkpoints").glob("ppo/*"))

    (house / "my_rewards.py").write_text(
        "def score(prompts, completions, records):\n    return [len(text) for text in completions]\n"
        "def breaks(prompts, completions, records):\n    raise KeyError('no such field')\n"
    )
    out = run(house, "pipeline", "method=ppo", "ppo.reward=python:my_rewards:score")
    told = report(house)
    assert ran(house) == ["evaluate-base", "ppo", "evaluate-ppo", "audit"]
    assert (list(told["models"]), told["baseline"]) == (["base", "ppo"], "base")
    assert "win rate vs base" in out
    told = run(house, "pipeline", "method=ppo", "ppo.reward=python:my_rewards:breaks", code=3)
    assert "contract: the reward python:my_rewards:breaks raised KeyError: 'no such field'; the first response" in told
    # what was measured before the method's own training stays, on the terminal and on the run of the pipeline
    (measured,) = re.findall(
        r"^measured before it ended: base (\S+) % \[\S+, \S+\] right; kept in MLflow.*$", told, flags=re.MULTILINE
    )
    (refused,) = client.search_runs(
        [client.get_experiment_by_name("posttrain").experiment_id],
        "attributes.status = 'FAILED' and tags.`posttrain.kind` = 'pipeline'",
    )
    assert f"{100 * refused.data.metrics['eval/base/accuracy']:.1f}" == measured
    assert "eval/accuracy" not in refused.data.metrics
    told = run(house, "pipeline", "method=reft", "ppo.reward=python:my_rewards:score", code=2)
    assert "method reft takes its reward from a grader" in told
    told = run(house, "pipeline", "method=ppo", "ppo.reward=python:my_rewards:scoer", code=2)
    assert "ppo.reward=python:my_rewards:scoer cannot be imported: AttributeError" in told


def test_a_changed_source_line_or_data_row_reaches_exactly_its_dependants(house: Path) -> None:
    losses = house / "posttrain" / "ops" / "losses.py"
    losses.write_text(losses.read_text() + "\n# another line\n")
    run(house, "pipeline", "method=dpo")
    # what imports it; it arrives at the same bytes, so nothing follows
    assert ran(house) == ["base"]

    rows = house / "data" / "world" / "demonstrations.jsonl"
    rows.write_text(rows.read_text().replace("demonstrations-3", "demonstrations-three", 1))
    told = run(house, "pipeline", "method=sft")
    assert "data/world/demonstrations.jsonl was edited by hand; the edit is now version" in told
    assert "sft" in ran(house)


def test_ctrl_c_ends_with_130_and_closes_the_run(house: Path) -> None:
    from mlflow import MlflowClient

    process = command(house, "pipeline", "method=dpo", "seed=7")
    folder = house / ".posttrain" / "stages" / "base"
    deadline = time.monotonic() + 240
    while not list(folder.glob("*.part-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
    _, err = process.communicate(timeout=400)
    assert process.returncode == 130, err
    assert "interrupted; finished stages are kept" in err
    assert "Traceback" not in err
    client = MlflowClient(tracking_uri=f"sqlite:///{house}/mlflow/store/mlflow.db")
    experiment = client.get_experiment_by_name("posttrain")
    assert client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'") == []


def test_bad_data_stop_before_training_with_the_reasons(house: Path) -> None:
    rows = [{"prompt": f"question {n} of {n * 7}", "chosen": f"same {n}", "rejected": f"same {n}"} for n in range(40)]
    (house / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(house, "import", "format=trl", "file=pairs.jsonl", "name=pairs")
    before = sorted((house / ".posttrain" / "stages").glob("*/*"))
    told = run(house, "pipeline", "method=dpo", "data.name=pairs", code=2)
    assert "chosen and rejected are the same text" in told
    assert "validation.max_critical_share" in told
    assert (house / ".posttrain" / "validation" / "pairs" / "quarantine.jsonl").stat().st_size
    after = sorted((house / ".posttrain" / "stages").glob("*/*"))
    assert {path.parent.name for path in set(after) - set(before)} <= {"tokenizer", "validate"}
