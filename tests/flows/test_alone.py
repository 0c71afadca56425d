"""Stages of a command that is no pipeline: the same keys and results, nothing in the ledger."""

import sys
from types import ModuleType

import pytest

from flows.alone import alone
from flows.run import keyed
from posttrain.errors import ContractError
from posttrain.settings.config import Config
from tasks.workspace.artifacts import Outcome, find
from tasks.workspace.keys import NotDeciding
from tasks.workspace.paths import Paths

COMPUTE = "a_stage_of_this_test:compute"


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


@pytest.fixture
def made(paths, monkeypatch):
    """A stage that counts how often it was computed, and how it was called."""
    calls = []

    def compute(out, log, **arguments):
        calls.append(arguments)
        (out / "text").write_text("made")
        log(1, {"loss": 0.5})
        return Outcome(metrics={"rows": 3})

    module = ModuleType("a_stage_of_this_test")
    module.compute = compute
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def run_of(paths, said=None):
    return alone(paths, Config(), (said if said is not None else []).append, data=paths.data, names=("sample",))


def test_a_stage_is_made_once_under_the_key_of_a_pipeline(paths, made):
    first = run_of(paths)
    artifact = first.stage("sample", COMPUTE, settings=Config().sample, seed=NotDeciding(0))
    assert first.stage("sample", COMPUTE, settings=Config().sample, seed=NotDeciding(0)) is artifact
    again = run_of(paths).stage("sample", COMPUTE, settings=Config().sample, seed=NotDeciding(1))
    assert again.digest == artifact.digest and len(made) == 1
    _, key = keyed("sample", COMPUTE, read=None, arguments={"settings": Config().sample, "seed": NotDeciding(0)})
    assert artifact.key == key and find(paths, "sample", key)[0] is not None
    assert [(one.name, one.cached) for one in first.done] == [("sample", False)]
    assert not paths.ledger.exists()


def test_each_stage_has_its_line(paths, made, capsys):
    run_of(paths).stage("sample", COMPUTE, seed=NotDeciding(0))
    run_of(paths).stage("sample", COMPUTE, seed=NotDeciding(0))
    err = capsys.readouterr().err
    assert err.count("1/1 sample") == 2 and err.rstrip().endswith("reused")


def test_a_stage_that_refuses_is_told_as_stopped(paths, monkeypatch, capsys):
    def compute(out, log):
        raise ContractError("no")

    module = ModuleType("a_stage_of_this_test")
    module.compute = compute
    monkeypatch.setitem(sys.modules, module.__name__, module)
    run = run_of(paths)
    with pytest.raises(ContractError, match="no"):
        run.stage("sample", COMPUTE)
    assert "stopped" in capsys.readouterr().err and run.done == []


def test_nothing_is_asked_of_a_ledger_and_nothing_resumes(paths, made):
    run = run_of(paths)
    run.keep_metrics({"eval/accuracy": 1.0})
    with pytest.raises(TypeError, match=r"these stages have no run in the ledger, and log_table was asked of it"):
        run.ledger.log_table("run", [], "samples.json")
    with pytest.raises(TypeError, match=r"stage ppo keeps checkpoints, and only a pipeline resumes from them"):
        run.stage("ppo", COMPUTE, resumable=True)
