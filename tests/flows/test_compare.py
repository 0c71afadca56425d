"""`make compare` as a user runs it: methods on seeds in a copy of the repository with a smaller world, again, killed, refused.

Pipelines of a comparison are processes of their own, so each takes its ten seconds: one house for all tests, and few of them.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.flows.houses import fork, new_house, run

pytestmark = pytest.mark.slow
METHODS, SEEDS = ("sft", "dpo", "reft"), (0, 1)
ASKED = ("compare", "METHODS=dpo reft", "SEEDS=2", "WORKERS=2")
"""The reference, SFT, is not named: it is run all the same."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A house in which three methods have been compared on two seeds."""
    folder = new_house(tmp_path_factory.mktemp("house"))
    told = run(folder, *ASKED)
    (folder / "told").write_text(told)
    return folder


def latest(house: Path) -> dict:
    return json.loads((house / "reports" / "compare" / "latest.json").read_text())


def pipelines(house: Path) -> list[str]:
    return sorted(file.name for file in (house / "reports").glob("2*.json"))


def problems(house: Path, run_of: dict, method: str) -> list[dict]:
    folder = house / ".posttrain" / "stages" / f"evaluate-{method}" / run_of["stages"][f"evaluate-{method}"]
    return [json.loads(line) for line in (folder / "problems.jsonl").read_text().splitlines()]


def without_times(told: object) -> object:
    """Return a record without what another run of the same command may have otherwise: ids, dates and seconds."""
    if isinstance(told, dict):
        left_out = ("id", "created", "seconds", "mlflow")
        return {name: without_times(value) for name, value in told.items() if name not in left_out}
    return [without_times(value) for value in told] if isinstance(told, list) else told


def living(house: Path) -> list[psutil.Process]:
    """Return the processes of pipelines that work in a house."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if process.info["cwd"] == str(house) and "pipeline" in words and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def until(condition, *, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.05)


# --- what comes of it -------------------------------------------------------------------------------------------------


def test_the_record_is_what_the_pipelines_gave(house: Path) -> None:
    told = latest(house)
    assert (told["status"], told["source"], told["failed"]) == ("complete", "pipelines", [])
    assert [method["name"] for method in told["methods"]] == list(METHODS)
    assert told["design"] | {"reference": "sft", "metric": "accuracy", "seeds": [0, 1], "samples": 8} == told["design"]
    assert told["command"] == 'make compare METHODS="dpo reft" SEEDS=2 SET="compare.workers=2"'
    for method in told["methods"]:
        assert method["seeds"] == [0, 1]
        for run_of, score in zip(method["runs"], method["scores"], strict=True):
            rows = problems(house, run_of, method["name"])
            assert score["estimate"] == pytest.approx(sum(row["greedy"]["is_right"] for row in rows) / len(rows))
            report = json.loads((house / "reports" / f"{run_of['pipeline_id']}.json").read_text())
            assert (report["method"], report["seed"]) == (method["name"], run_of["seed"])
            assert report["data_md5"] == told["dataset"]["md5"]
    assert {pair["a"] for pair in told["pairs"] if pair["family"] == "reference"} == {"dpo", "reft"}


def test_shared_stages_were_made_once(house: Path) -> None:
    told = latest(house)
    for stage in ("base", "sft"):
        keys = {run_of["stages"][stage] for method in told["methods"] for run_of in method["runs"]}
        assert len(keys) == len(SEEDS)
        assert sorted(path.name for path in (house / ".posttrain" / "stages" / stage).iterdir() if path.is_dir()) == sorted(keys)


def test_each_job_has_its_line_and_the_verdict_stands_at_the_end(house: Path) -> None:
    told = (house / "told").read_text()
    lines = re.findall(r"^(\d)/6 (\w+) seed (\d): done in", told, flags=re.MULTILINE)
    assert [int(number) for number, _, _ in lines] == [1, 2, 3, 4, 5, 6]
    assert {(method, int(seed)) for _, method, seed in lines} == {(method, seed) for method in METHODS for seed in SEEDS}
    assert lines[0][1] == "sft", "what makes the shared stages comes first"
    assert latest(house)["verdict"] in told
    page = f"reports/compare/{latest(house)['id']}/index.html"
    assert page in told and (house / page).is_file()


def test_mlflow_has_the_comparison_and_its_runs(house: Path) -> None:
    from mlflow import MlflowClient

    client, told = MlflowClient(tracking_uri=f"sqlite:///{house}/mlflow/store/mlflow.db"), latest(house)
    compared = client.get_run(told["mlflow"]["run_id"])
    assert (compared.info.status, compared.data.tags["posttrain.kind"]) == ("FINISHED", "comparison")
    assert compared.data.tags["posttrain.command"] == told["command"]
    for method in told["methods"]:
        for run_of in method["runs"]:
            assert client.get_run(run_of["run_id"]).data.tags["posttrain.comparison"] == told["id"]


def test_again_nothing_is_started_and_the_record_is_the_same(house: Path) -> None:
    before, reports = latest(house), pipelines(house)
    told = run(house, *ASKED)
    assert told.count("finished before, its report is taken") == 6
    assert pipelines(house) == reports
    again = latest(house)
    assert again["id"] != before["id"]
    assert without_times(again) == without_times(before)
    assert "every pipeline has ended; the page is made" in told
    drawn = [path for path in (house / ".posttrain" / "stages" / "figures").iterdir() if path.is_dir()]
    assert len(drawn) == 1, "figures of the same numbers are drawn once"


def test_a_dry_run_prints_and_runs_nothing(house: Path) -> None:
    reports = pipelines(house)
    assert "everything is there: no stage would run" in run(house, *ASKED, "DRY_RUN=1")
    told = run(house, "compare", "METHODS=dpo ppo", "SEEDS=7,", "DRY_RUN=1")
    assert re.search(r"^dpo seed 7 +10 +2 .*sample label dpo evaluate-dpo$", told, flags=re.MULTILINE), told
    assert "no estimate: this store has not made" in told and "evaluate-ppo" in told
    assert pipelines(house) == reports


def test_a_real_base_is_compared_as_many_times_at_once_as_the_memory_holds(tmp_path: Path, tiny_world) -> None:
    """On a machine of four cores whose memory is for one run, then for none."""
    house = new_house(tmp_path / "house")
    with (house / "flows" / "compare.py").open("a") as code:
        code.write("\n\nos.sched_getaffinity = lambda process: {0, 1, 2, 3}\n")
    machine = house / "tasks" / "advice" / "machine.py"
    machine.write_text(f"{machine.read_text()}\n\n_machine_memory = lambda: 3 * 2**29\n")
    model = json.dumps({"base": str(tiny_world.base / "model"), "context": tiny_world.context})
    (house / "params.yaml").write_text(f"{(house / 'params.yaml').read_text()}\nmodel: {model}\n")
    asked = ("compare", "METHODS=sft", "SEEDS=0,")

    planned = run(house, *asked, "DRY_RUN=1", fresh=True)
    assert "1 run at a time in place of 4: a run takes up to about " in planned and "1 pipeline at a time" in planned
    assert "1 run at a time in place of 4: a run takes up to about " in run(house, *asked, fresh=True)
    assert latest(house)["machine"]["workers"] == 1

    # all is there, so nothing needs memory: the page is made wherever it is asked for
    machine.write_text(f"{machine.read_text()}\n\n_machine_memory = lambda: 1\n")
    assert "at a time" not in run(house, *asked, fresh=True)
    assert latest(house)["machine"]["workers"] == 4


def test_nothing_of_a_comparison_asks_prefect_before_its_server_is_there() -> None:
    """Prefect reads the server's address when it is imported; before that it would start one of its own beside ours."""
    code = "import sys, flows.compare, flows.clusters; assert 'prefect' not in sys.modules, 'prefect is imported too early'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_failed_run_is_told_and_the_others_are_compared(house: Path) -> None:
    # 40 questions are too few for a reward model that may lead PPO: its contract stops RLHF
    told = run(house, "compare", "METHODS=dpo rlhf", "SEEDS=1", code=3)
    record = latest(house)
    assert (record["status"], [method["name"] for method in record["methods"]]) == ("partial", ["sft", "dpo"])
    (failed,) = record["failed"]
    assert (failed["method"], failed["seed"]) == ("rlhf", 0) and "the reward model may not lead PPO" in failed["error"]
    assert "contract: 1 of 3 runs failed (rlhf seed 0); the page compares the others and says why" in told


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("METHODS=sft rlhff",), "there is no method rlhff; did you mean rlhf?"),
        (("SEEDS=0",), "SEEDS must be between 1 and 1,000 seeds, got 0"),
        (("DATA=nowhere",), "there is no dataset nowhere"),
        (("METHODS=sft reft", "SET=ppo.reward=python:nothing:here"), "there is no module nothing"),
        (("SET=compare.address=tcp://x:1",), "compare.runner=processes has none"),
    ],
)
def test_what_can_be_seen_to_be_wrong_is_refused_before_anything_runs(house: Path, words: tuple[str, ...], says: str) -> None:
    reports, folders = pipelines(house), sorted((house / ".posttrain" / "stages").glob("*/*"))
    assert says in run(house, "compare", *words, code=2)
    assert pipelines(house) == reports and sorted((house / ".posttrain" / "stages").glob("*/*")) == folders


def test_killed_or_interrupted_it_leaves_no_process_and_goes_on(house: Path) -> None:
    from mlflow import MlflowClient

    words = ("compare", "METHODS=sft", "SEEDS=7,8", "WORKERS=2")
    base = house / ".posttrain" / "stages" / "base"

    # kill -9 of the parent alone
    process = fork(house, *words)
    until(lambda: list(base.glob("*.part-*")) or process.poll() is not None)
    assert process.poll() is None
    assert living(house)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=400)
    until(lambda: not living(house))

    # Ctrl-C, once a job makes something of its own beside what the killed one left
    left = set(base.glob("*.part-*"))
    process = fork(house, *words)
    until(lambda: set(base.glob("*.part-*")) - left or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 130, err
    assert "finished stages are kept, and the same command goes on from there" in err and "Traceback" not in err
    assert not living(house)

    # the same command goes on, and what was open is closed
    run(house, *words)
    assert latest(house)["design"]["seeds"] == [7, 8]
    client = MlflowClient(tracking_uri=f"sqlite:///{house}/mlflow/store/mlflow.db")
    experiment = client.get_experiment_by_name("posttrain")
    assert client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'") == []
    killed = client.search_runs(
        [experiment.experiment_id], "tags.`posttrain.kind` = 'comparison' and attributes.status = 'KILLED'"
    )
    assert len(killed) == 2
