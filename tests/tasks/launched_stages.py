"""Stages that fail or take long, for tests of several processes; apart, so that each process imports little."""

import os
import signal
import time

import torch

from posttrain.errors import DataError


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
    (at / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    time.sleep(600)
