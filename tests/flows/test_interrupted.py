"""Pipelines that are killed, and pipelines side by side."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.flows.houses import command, fork, new_house, run, weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh house in which two methods ran at once."""
    house = new_house(tmp_path_factory.mktemp("together"))
    both = [command(house, "pipeline", f"method={method}") for method in ("sft", "dpo")]
    for process in both:
        _, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
    return house


def test_two_methods_started_together_in_a_fresh_copy_both_complete(together: Path) -> None:
    reports = [json.loads(file.read_text()) for file in (together / "reports").glob("2*.json")]
    assert sorted(told["method"] for told in reports) == ["dpo", "sft"]
    made = [(stage["name"], stage["key"]) for told in reports for stage in told["stages"] if not stage["cached"]]
    assert len(made) == len(set(made)), "a stage was made twice"


def test_a_run_killed_in_every_stage_arrives_at_the_weights_of_an_undisturbed_one(together: Path, tmp_path: Path) -> None:
    """From empty stores, so it also shows that equal seeds give bit-identical weights in processes that share nothing.

    The first one is killed with a Prefect server of its own, the others are forks (tests/flows/ready.py).
    """
    other = new_house(tmp_path / "other")
    for stage in ("base", "sft", "evaluate-sft", "sample", "dpo", "evaluate-dpo"):
        asked = ("pipeline", "method=dpo")
        process = command(other, *asked) if stage == "base" else fork(other, *asked)
        folder = other / ".posttrain" / "stages" / stage
        deadline = time.monotonic() + 240
        while not list(folder.glob("*.part-*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it was not caught in {stage}"
    run(other, "pipeline", "method=dpo")
    assert weights(other, method="dpo") == weights(together, method="dpo")
    assert not list((other / ".posttrain" / "stages").glob("*/*.part-*"))
