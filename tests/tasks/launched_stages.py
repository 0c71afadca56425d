"""Stages that fail or take long, for tests of several processes; apart, so that each process imports little."""

import os
import signal
import time
from pathlib import Path

import torch

from posttrain.errors import DataError
from tasks.workspace.artifacts import Outcome


def fail(out, log, *, who, how):
    """Stand in for a stage: its process of rank `who` fails, the others wait for it."""
    if int(os.environ["RANK"]) == who:
        if how == "refuse":
            raise DataError("a row is wrong")
        if how == "fault":
            raise ZeroDivisionError("division by zero")
        if how == "full":
            raise OSError(28, "No space left on device")
        os.kill(os.getpid(), signal.SIGKILL)
    torch.distributed.barrier()


def wait(out, log, *, at):
    """Stand in for a stage that takes long."""
    at = Path(at)
    (at / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    time.sleep(600)


def read(out, log, *, stage_path, checkpoints_path):
    """Stand in for a stage that reads another one: each process tells what it sees, and the sum of all is the metric."""
    (seen,) = [float(file.read_text()) for file in stage_path.glob("number.txt")]
    kept = len(list(checkpoints_path.glob("*.pt")))
    both = torch.tensor([seen, float(kept), float(os.environ["RANK"])])
    torch.distributed.all_reduce(both)
    log(1, {"seen": seen})
    if os.environ["RANK"] == "0":
        (out / "result.txt").write_text(str(both.tolist()))
    return Outcome(metrics=dict(zip(("seen", "kept", "ranks"), both.tolist(), strict=True)))
