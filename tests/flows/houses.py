"""Copies of the repository with a smaller world, in which tests run `python -m flows …` as a user does."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.flows.ready import Fork, Ready

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("posttrain", "models", "tasks", "flows")
SMALL = """
world: {seed: 0, corpus_documents: 1500, demonstrations: 16, questions: 40, held_out: 30, review_share: 0.0}
split: {seed: 0}
pretrain: {steps: 120}
tiny: {width: 48, layers: 2}
sft: {epochs: 4, learning_rate: 3e-3}
sample: {per_prompt: 4}
judge: {practice_steps: 5}
ppo: {updates: 3, episodes: 16, mini_batch_size: 8, max_new_tokens: 40, min_finished: 0.1}
evaluate: {max_new_tokens: 40}
"""
QUICK_SERVERS = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_WORKER_HEARTBEAT_SECONDS": "5",
    "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "5",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
}
"""How often a worker asks for runs that are due and says that it lives, and how often the server looks for workers that do not
and for new schedules: a test would wait 10, 90, 30 and 5 seconds for what is the same with these."""
READY = Ready()


def new_house(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("expectations", "judges", "labelling"):
        shutil.copytree(ROOT / "data" / name, folder / "data" / name)
    for name in ("dvc.yaml", "prefect.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "params.yaml").write_text(SMALL)
    return folder


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "150"}


def command(house: Path, *words: str) -> subprocess.Popen[str]:
    """Start a run just as a user does: a fresh Python, and a Prefect server of its own."""
    # a script's background job ignores SIGINT, and what it starts inherits that: the test of Ctrl-C would wait for nothing
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [sys.executable, "-m", "flows", *words],
        cwd=house,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def fork(house: Path, *words: str) -> Fork:
    """Start a run with what is loaded already, and the Prefect server of all."""
    return READY.start(house, words, environment=environment() | {"PREFECT_API_URL": READY.address()})


def verb(house: Path, *words: str, code: int = 0, told: Mapping[str, str] = MappingProxyType({})) -> str:
    """Run a verb in a house whose servers its own verbs start, and return what it printed: no server is named to it.

    The verbs that start and end them are a fresh Python, as a user's are; the others go on from libraries that are loaded.

    Args:
        told: what stands in its environment beside what every run has.
    """
    given = environment() | told
    process: subprocess.Popen[str] | Fork
    if words[0] in ("up", "down"):
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "flows", *words]
        process = subprocess.Popen(command, cwd=house, env=given, stdout=pipe, stderr=pipe, text=True)
    else:
        process = READY.start(house, words, environment=given)
    out, err = process.communicate(timeout=1_800)
    assert process.returncode == code and "Traceback" not in err, out + err
    return out + err


def run(house: Path, *words: str, code: int = 0, fresh: bool = False) -> str:
    """Run a verb and return what it printed: just as a user does where it is to be `fresh`, else with what is loaded already."""
    process = command(house, *words) if fresh else fork(house, *words)
    try:
        out, err = process.communicate(timeout=900)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # else it goes on, and the tests after it meet what it makes
        process.communicate()
        raise
    assert process.returncode == code, err
    assert "Traceback" not in err, err
    if words[0] == "pipeline" and code == 0:
        check_lines(house, err)
    return out + err


def check_lines(house: Path, err: str) -> None:
    """Each stage of a finished pipeline has its line, in order, numbered from 1 to as many as there were said to be."""
    told = re.findall(r"^(\d+)/(\d+) ([\w-]+): .*?(reused(?: after .*)?|under 1 s|\d+ s|\d+ min \d+ s)$", err, flags=re.MULTILINE)
    stages: dict[tuple[str, str], bool] = {}
    for stage in report(house)["stages"]:
        stages.setdefault((stage["name"], stage["key"]), stage["cached"])  # a judge is asked for twice, and told of once
    expected = [(name, cached) for (name, _), cached in stages.items()]
    assert [(name, how.startswith("reused")) for _, _, name, how in told] == expected, err
    assert [(int(number), int(total)) for number, total, _, _ in told] == [(at + 1, len(told)) for at in range(len(told))], err


def report(house: Path) -> dict:
    return json.loads((house / "reports" / "latest.json").read_text())


def ran(house: Path) -> list[str]:
    return [stage["name"] for stage in report(house)["stages"] if not stage["cached"]]


def weights(house: Path, *, method: str) -> dict[str, str]:
    """Return the digest of each stage's weights in the last pipeline of a method."""
    reports = [json.loads(file.read_text()) for file in sorted((house / "reports").glob("2*.json"))]
    found = {}
    for stage in next(told for told in reversed(reports) if told["method"] == method)["stages"]:
        told = json.loads((house / ".posttrain" / "stages" / stage["name"] / stage["key"] / "stage.json").read_text())
        if "model/model.safetensors" in told["files"]:
            found[stage["name"]] = told["files"]["model/model.safetensors"]
    return found
