"""A pipeline as the child of a comparison: it ends when its parent does, and leaves its result in a file.

The parent holds the other end of the child's standard input and never writes to it. When the parent is gone, however it went, the
system closes that end; the child's read returns, and it kills itself as its parent was killed. Finished stages are kept, and the
next command marks what was open (flows/aftermath.py).
"""

import functools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from posttrain.errors import PosttrainError
from tasks.workspace.disk import write_whole
from tasks.workspace.paths import Paths

RESULT = "POSTTRAIN_RESULT"
"""In the environment of a child: the file that takes its result."""
Verb = Callable[[Paths, Sequence[str]], Any]


def as_child(verb: Verb) -> Verb:
    """Let a verb that returns a report be run by a comparison as well."""

    @functools.wraps(verb)
    def wrapper(paths: Paths, words: Sequence[str]) -> Any:
        result = os.environ.pop(RESULT, "")  # what a child starts is no child of the comparison
        if not result:
            return verb(paths, words)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        try:
            report = verb(paths, words)
        except PosttrainError as error:
            _tell(Path(result), {"error": str(error), "code": error.exit_code, "kind": type(error).__name__})
            raise
        _tell(Path(result), {"pipeline_id": report["pipeline_id"], "code": 0})
        return report

    return wrapper


def _end_with_parent() -> None:
    while os.read(sys.__stdin__.fileno() if sys.__stdin__ else 0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def _tell(file: Path, told: Mapping[str, Any]) -> None:
    """Write the result; on a full disk the exit code and the log have to do."""
    try:
        write_whole(file, json.dumps(dict(told)).encode())
    except OSError as error:
        print(f"{file} cannot be written: {error.strerror}", file=sys.stderr)
