"""Records of a stage that are garbled, cut, or do not hold together: the stage is made again, and says so."""

import json

import pytest

from tasks.workspace.artifacts import Outcome, find, make
from tasks.workspace.paths import Paths

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


def made(paths):
    def compute(out, log):
        (out / "model").mkdir()
        (out / "model" / "weights.bin").write_text("weights")
        log(1, {"loss": 2.0})
        return Outcome(metrics={"accuracy": 0.5})

    return make(paths, "sft", KEY, compute, settings={"sft.epochs": 1}, inputs={"data": "d"})


@pytest.mark.parametrize(
    "change",
    [
        lambda told: [],
        lambda told: {**told, "files": []},
        lambda told: {**told, "files": {"model/weights.bin": "0" * 64}},
        lambda told: {**told, "files": {}},
        lambda told: {**told, "digest": "0" * 64},
        lambda told: {**told, "metrics": [1]},
        lambda told: {**told, "key": OTHER},
        lambda told: {**told, "stage": "dpo"},
        lambda told: {name: value for name, value in told.items() if name != "settings"},
    ],
)
def test_records_that_do_not_hold_together_are_made_again(paths, change):
    artifact, _ = made(paths)
    file = artifact.path / "stage.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    assert find(paths, "sft", KEY) == (
        None,
        f"sft: the cached result {KEY[:12]} has no readable stage.json, so it is made again",
    )
    assert made(paths)[1] is False


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 50, b'{"stage": "sft", "ke'])
def test_records_that_are_garbled_or_cut_are_made_again(paths, content):
    artifact, _ = made(paths)
    (artifact.path / "stage.json").write_bytes(content)
    assert find(paths, "sft", KEY)[0] is None
    assert made(paths)[1] is False
