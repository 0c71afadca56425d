"""What a stage that fails tells: the first error, whatever the ledger says of its own."""

import errno
import sys
from types import ModuleType

import pytest

from flows.stages import Stages
from posttrain.errors import StorageError
from tasks.places import Places


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
