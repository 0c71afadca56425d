"""A stage on two processes from a Python that may have DeepSpeed on its path: `python -m tests.tasks.launched_deepspeed REQUEST`.

In the environment of the tests DeepSpeed would be loaded by every training stage, for Accelerate does so where it finds it.
"""

import pickle
import sys
from pathlib import Path

from tasks.launch import Launch, call_on_processes
from tests.processes import left_of_launches


def main(request):
    out, logs, asked, at = pickle.loads(Path(request).read_bytes())
    compute, arguments = "tests.tasks.launched_sharded:train_in_turn", {"asked": asked, "at": at}
    call_on_processes(Launch(compute, out, lambda *_: None, arguments, "x", processes=2, logs=logs))
    assert left_of_launches() == []


if __name__ == "__main__":
    main(*sys.argv[1:])
