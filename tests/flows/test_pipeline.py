"""The whole road, as a user goes it: `python -m flows pipeline …` in a copy of the repository, with a smaller world."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posttrain.report import PARENT_METRICS

pytestmark = [
    pytest.mark.slow,
    # mlflow 3.17 under sqlalchemy 2.1
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("posttrain", "models", "tasks", "flows")
SMALL = """
world: {seed: 0, corpus_documents: 1500, demonstrations: 16, questions: 40, held_out: 30, review_share: 0.0}
split: {seed: 0}
pretrain: {steps: 120}
tiny: {width: 48, layers: 2}
sft: {epochs: 4, learning_rate: 3e-3}
sample: {per_prompt: 4}
ppo: {updates: 3, episodes: 16, mini_batch: 8, max_new_tokens: 40, least_finished: 0.1}
evaluate: {max_new_tokens: 40}
"""
OF_RUNS = ("kind", "method", "stage", "pipeline_id", "seed", "dataset", "data_md5", "stage_key", "cached", "git_commit")
TAGS = {*(f"posttrain.{name}" for name in OF_RUNS), "prefect.flow_run_id"}
STAGES = ["tokenizer", "validate", "base", "sft", "sample", "label", "dpo", "evaluate-sft", "evaluate-base", "evaluate-dpo"]


def new_house(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data" / "expectations", folder / "data" / "expectations")
    for name in ("dvc.yaml", "prefect.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "params.yaml").write_text(SMALL)
    return folder


def command(house: Path, *words: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    # a script's background job ignores SIGINT, and what it starts inherits that: the test of Ctrl-C would wait for nothing
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [sys.executable, "-m", "flows", *words],
        cwd=house,
        env=kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "150"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(house: Path, *words: str, code: int = 0) -> str:
    process = command(house, *words)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out + err


def report(house: Path) -> dict:
    return json.loads((house / "reports" / "latest.json").read_text())


def ran(house: Path) -> list[str]:
    return [stage["name"] for stage in report(house)["stages"] if not stage["cached"]]


def weights(house: Path) -> dict[str, str]:
    found = {}
    for stage in report(house)["stages"]:
        told = json.loads((house / ".posttrain" / "stages" / stage["name"] / stage["key"] / "stage.json").read_text())
        if "model/model.safetensors" in told["files"]:
            found[stage["name"]] = told["files"]["model/model.safetensors"]
    return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A house in which the default pipeline has run once."""
    folder = new_house(tmp_path_factory.mktemp("house"))
    run(folder, "pipeline", "method=dpo")
    (folder / "undisturbed.json").write_text(json.dumps(weights(folder)))
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
    assert ran(house) == ["ppo", "evaluate-reft"]
    assert (list(told["models"]), told["compared_with"]) == (["base", "sft", "reft"], "sft")
    assert set(told["metrics"]) >= set(PARENT_METRICS)
    client = MlflowClient(tracking_uri=f"sqlite:///{house}/mlflow/store/mlflow.db")
    child = next(stage["run_id"] for stage in told["stages"] if stage["name"] == "ppo")
    for name in ("reward", "kl", "clip_fraction", "value_loss", "entropy", "approx_kl", "gold", "finished"):
        assert len(client.get_metric_history(child, f"ppo/{name}")) == 3, name
    assert "samples.json" in {file.path for file in client.list_artifacts(child)}
    assert not list((house / ".posttrain" / "checkpoints").glob("ppo/*"))

    (house / "my_rewards.py").write_text(
        "def score(prompts, completions, records):\n    return [len(text) for text in completions]\n"
    )
    out = run(house, "pipeline", "method=ppo", "ppo.reward=python:my_rewards:score")
    told = report(house)
    assert ran(house) == ["ppo", "evaluate-base", "evaluate-ppo"]
    assert (list(told["models"]), told["compared_with"]) == (["base", "ppo"], "base")
    assert "win rate vs base" in out
    told = run(house, "pipeline", "method=reft", "ppo.reward=python:my_rewards:score", code=2)
    assert "method reft takes its reward from a grader" in told
    told = run(house, "pipeline", "method=ppo", "ppo.reward=python:my_rewards:scoer", code=2)
    assert "ppo.reward=python:my_rewards:scoer cannot be imported: AttributeError" in told


def test_a_changed_source_line_or_data_row_reaches_exactly_its_dependants(house: Path) -> None:
    losses = house / "posttrain" / "losses.py"
    losses.write_text(losses.read_text() + "\n# another line\n")
    run(house, "pipeline", "method=dpo")
    # what imports it; it arrives at the same bytes, so nothing follows
    assert ran(house) == ["base"]

    rows = house / "data" / "world" / "demonstrations.jsonl"
    rows.write_text(rows.read_text().replace("demonstrations-3", "demonstrations-three", 1))
    told = run(house, "pipeline", "method=sft")
    assert "data/world/demonstrations.jsonl was edited by hand; the edit is now version" in told
    assert "sft" in ran(house)


def test_a_run_killed_in_every_stage_arrives_at_the_weights_of_an_undisturbed_one(house: Path, tmp_path: Path) -> None:
    """From empty stores, so it also shows that equal seeds give bit-identical weights."""
    other = new_house(tmp_path / "other")
    for stage in ("base", "sft", "sample", "dpo", "evaluate-sft"):
        process = command(other, "pipeline", "method=dpo")
        folder = other / ".posttrain" / "stages" / stage
        deadline = time.monotonic() + 240
        while not list(folder.glob("*.part-*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it was not caught in {stage}"
    run(other, "pipeline", "method=dpo")
    assert weights(other) == json.loads((house / "undisturbed.json").read_text())
    assert not list((other / ".posttrain" / "stages").glob("*/*.part-*"))


def test_two_methods_started_together_in_a_fresh_copy_both_complete(tmp_path: Path) -> None:
    house = new_house(tmp_path / "one")
    both = [command(house, "pipeline", f"method={method}") for method in ("sft", "dpo")]
    for process in both:
        _, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
    reports = [json.loads(file.read_text()) for file in (house / "reports").glob("2*.json")]
    assert sorted(told["method"] for told in reports) == ["dpo", "sft"]
    made = [(stage["name"], stage["key"]) for told in reports for stage in told["stages"] if not stage["cached"]]
    assert len(made) == len(set(made)), "a stage was made twice"


def test_ctrl_c_ends_with_130_and_closes_the_run(house: Path) -> None:
    from mlflow import MlflowClient

    process = command(house, "pipeline", "method=dpo", "seed=7")
    folder = house / ".posttrain" / "stages" / "base"
    deadline = time.monotonic() + 240
    while not list(folder.glob("*.part-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
    _, err = process.communicate(timeout=120)
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
    assert "validation.most_critical_share" in told
    assert (house / ".posttrain" / "validation" / "pairs" / "quarantine.jsonl").stat().st_size
    after = sorted((house / ".posttrain" / "stages").glob("*/*"))
    assert {path.parent.name for path in set(after) - set(before)} <= {"tokenizer", "validate"}
