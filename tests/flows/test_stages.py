"""What a stage that fails tells: the first error, whatever the ledger says of its own."""

import errno
import sys
from types import ModuleType

import pytest

from flows.stages import Done, Stages
from posttrain.errors import StorageError
from tasks.places import Places
from tasks.stage import Artifact, stage_key


class FullLedger:
    """A ledger that opens a stage's run and can write nothing more."""

    def __init__(self):
        self.told = []

    def start_stage(self, parent, name, **how):
        return self

    def log(self, step, metrics):
        pass

    def fail(self, message):
        self.told.append(message)
        raise StorageError("the MLflow store refused a request: database or disk is full")


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Run a stage that raises an error; return what the ledger was told."""

    def run(error):
        def compute(out, log):
            raise error

        module = ModuleType("a_stage_of_this_test")
        module.compute = compute
        monkeypatch.setitem(sys.modules, module.__name__, module)
        ledger = FullLedger()
        stages = Stages(places=Places(tmp_path), ledger=ledger, parent="parent", say=print)
        with pytest.raises(BaseException) as told:
            stages._make("base", "k" * 64, f"{module.__name__}:compute", settings={}, inputs={}, arguments={})
        return told.value, ledger.told

    return run


def test_a_full_disk_is_told_as_the_stages_own(stage, tmp_path):
    error, told = stage(OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(error, StorageError)
    assert str(error).startswith(f"stage base: the disk is full ({tmp_path / '.posttrain' / 'stages'}). ")
    assert told == [str(error)]


def test_an_interruption_stays_one(stage):
    error, told = stage(KeyboardInterrupt())
    assert isinstance(error, KeyboardInterrupt)
    assert told == ["KeyboardInterrupt"]


def test_a_stage_that_two_others_ask_for_is_told_once(tmp_path, monkeypatch):
    """The judge's practice is read by the labels and by the comparison with its own responses."""
    how = {"key_settings": {"seed": 0}, "key_inputs": {"base": "b"}}
    key = stage_key("judge", settings=how["key_settings"], inputs=how["key_inputs"], module="tasks.practise")
    made = Artifact("judge", key, str(tmp_path), 2.0, metrics={}, costs={"trained_tokens": 7.0}, digest="d")
    done = [Done(name="judge", artifact=made, cached=False, run_id="r")]
    stages = Stages(places=Places(tmp_path), ledger=None, parent="parent", say=print, done=done)
    assert stages.run("judge", "tasks.practise:practise_judging", **how) is made
    assert [stage.name for stage in stages.done] == ["judge"]

    def missing(*_):
        raise LookupError("there is something to run")

    monkeypatch.setattr("flows.stages.find", missing)
    with pytest.raises(LookupError):
        stages.run("judge", "tasks.practise:practise_judging", key_settings={"seed": 1}, key_inputs={"base": "b"})
