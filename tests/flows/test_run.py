"""What stages tell: the first error, whatever the ledger says of its own, and a line each."""

import errno
import json
import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from flows.plan import plan
from flows.run import Done, Run, StageCall
from posttrain.errors import RequestError, StorageError
from posttrain.settings.config import Config, merge
from tasks.workspace.artifacts import Artifact, Outcome, earlier_seconds
from tasks.workspace.keys import Contents, Inputs, NotDeciding, sorted_inputs, stage_key
from tasks.workspace.paths import Paths


class FullLedger:
    """A ledger that opens a stage's run and can write nothing more."""

    def __init__(self):
        self.told = []

    def start_stage(self, parent, name, **how):
        return self

    def log(self, step, metrics):
        pass

    def fail(self, message, *, status):
        self.told.append((message, status))
        raise StorageError("the MLflow store refused a request: database or disk is full")


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Run a stage that raises an error; return what the ledger was told."""

    def stopped(error):
        def compute(out, log):
            raise error

        module = ModuleType("a_stage_of_this_test")
        module.compute = compute
        monkeypatch.setitem(sys.modules, module.__name__, module)
        ledger = FullLedger()
        run = Run(paths=Paths(tmp_path), config=Config(), ledger=ledger, parent="parent", say=print)
        with pytest.raises(BaseException) as told:
            run._make(StageCall("base", f"{module.__name__}:compute", "k" * 64, Inputs(), resumable=False, processes=1), {})
        return told.value, ledger.told

    return stopped


def test_a_full_disk_is_told_as_the_stages_own(stage, tmp_path):
    error, told = stage(OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(error, StorageError)
    assert str(error).startswith(f"stage base: the disk is full ({tmp_path / '.posttrain' / 'stages'}). ")
    assert told == [(str(error), "FAILED")]


def test_an_interruption_stays_one(stage):
    error, told = stage(KeyboardInterrupt())
    assert isinstance(error, KeyboardInterrupt)
    assert told == [("interrupted (Ctrl-C, a signal, or a terminal that was closed). Finished stages are kept", "KILLED")]


def test_a_fault_of_ours_is_called_one(stage):
    _, told = stage(ZeroDivisionError("division by zero"))
    ((message, status),) = told
    assert status == "FAILED"
    assert message.startswith("ZeroDivisionError: division by zero. We did not expect that")


# --- what is told of stages -------------------------------------------------------------------------------------------


class QuietLedger(FullLedger):
    """A ledger that takes everything."""

    run_id = "run"

    def finish(self, folder):
        pass

    def fail(self, message, *, status):
        pass

    def log_cached_stage(self, parent, folder):
        return "run"


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """Run stages of some names in a pipeline of their own, as Prefect would; return what stands on stderr. No time passes."""
    monkeypatch.setattr("flows.run.task", lambda **_: lambda function: lambda return_state: Ran(function()))
    monkeypatch.setattr("tasks.workspace.progress.time", SimpleNamespace(monotonic=lambda: 0.0))  # a busy machine takes seconds

    def run(*names, say=None, compute=lambda out, log, seed: Outcome()):
        module = ModuleType("a_stage_of_this_test")
        module.compute = compute
        monkeypatch.setitem(sys.modules, module.__name__, module)
        to_come = plan(merge({}, ["method=ppo"]), tmp_path)
        pipeline = Run(
            paths=Paths(tmp_path), config=Config(), ledger=QuietLedger(), parent="parent", say=say or print, plan=to_come
        )
        for name in names:
            pipeline.stage(name, f"{module.__name__}:compute", seed=NotDeciding(0))
        return capsys.readouterr().err

    return run


class Ran:
    name = "Completed"

    def __init__(self, told):
        self.told = told

    def result(self):
        return self.told


def test_every_stage_is_told_begun_ended_and_counted(told):
    assert told("base", "ppo").splitlines() == [
        f"1/7 base: pretraining for {Config().pretrain.steps:,} steps … under 1 s",
        f"2/7 ppo: {Config().ppo.updates} updates on {Config().ppo.episodes} responses each … under 1 s",
    ]
    assert told("base", "ppo").splitlines() == ["1/7 base: reused", "2/7 ppo: reused"]


def test_a_stage_that_one_pipeline_asks_for_twice_is_one(told):
    assert told("base", "base", "ppo").count("\n") == 2


def test_a_stage_that_stops_ends_its_line(told, capsys):
    def compute(out, log, seed):
        raise RequestError("no")

    with pytest.raises(RequestError):
        told("base", compute=compute)
    assert capsys.readouterr().err.endswith(" … stopped after under 1 s\n")


def test_more_stages_than_were_planned_are_counted_too(told):
    names = [f"stage-{number}" for number in range(9)]
    assert told(*names).splitlines()[-1].startswith("9/9 stage-8 …")


def test_a_stage_is_estimated_by_the_one_that_is_most_like_it(tmp_path):
    paths = Paths(tmp_path)

    def ran(key, settings, seconds, moment):
        folder = paths.stages / "sft" / key
        folder.mkdir(parents=True)
        (folder / "stage.json").write_text(json.dumps({"seconds": seconds, "settings": settings}))
        os.utime(folder / "stage.json", (moment, moment))

    assert earlier_seconds(paths, "sft", settings={"sft.epochs": 4}) is None
    ran("a", {"sft.epochs": 4, "seed": 0}, 40.0, moment=1)
    ran("b", {"sft.epochs": 4, "seed": 1}, 41.0, moment=2)
    ran("c", {"sft.epochs": 1, "seed": 2}, 10.0, moment=3)
    (paths.stages / "sft" / "d").mkdir()
    (paths.stages / "sft" / "d" / "stage.json").write_text("[1")
    assert earlier_seconds(paths, "sft", settings={"sft.epochs": 4, "seed": 9}) == 41.0, "of two alike the newest"
    assert earlier_seconds(paths, "sft", settings={"sft.epochs": 4, "seed": 0}) == 40.0
    assert earlier_seconds(paths, "sft", settings={"sft.epochs": 1, "seed": 9}) == 10.0


def test_a_stage_that_two_others_ask_for_is_told_once(tmp_path, monkeypatch):
    """The judge's practice is read by the labels and by the comparison with its own responses."""
    how = {"seed": 0, "base": Contents(tmp_path, "b")}
    compute = "tasks.judges.practice:practise_judge"
    key = stage_key("judge", sorted_inputs("judge", how, device="cpu"), compute=compute)
    made = Artifact("judge", key, str(tmp_path), 2.0, metrics={}, costs={"trained_tokens": 7.0}, digest="d")
    done = [Done(name="judge", artifact=made, cached=False, run_id="r")]
    run = Run(paths=Paths(tmp_path), config=Config(), ledger=None, parent="parent", say=print, done=done)
    monkeypatch.setattr("flows.run.device_type", lambda: "cpu")
    assert run.stage("judge", compute, **how) is made
    assert [stage.name for stage in run.done] == ["judge"] and run.artifact("judge") is made and run.has_run("judge")

    def missing(*_):
        raise LookupError("there is something to run")

    monkeypatch.setattr("flows.run.find", missing)
    with pytest.raises(LookupError, match="there is something to run"):
        run.stage("judge", compute, **{**how, "seed": 1})


def test_a_stage_that_has_not_run_has_given_nothing(tmp_path):
    run = Run(paths=Paths(tmp_path), config=Config(), ledger=None, parent="parent", say=print)
    with pytest.raises(LookupError, match=r"^stage validate has not run yet$"):
        _ = run.data
    assert not run.has_run("validate")
