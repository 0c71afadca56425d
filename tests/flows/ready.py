"""What runs of `python -m flows` in tests share: libraries that are loaded once, and one lasting Prefect server.

Importing torch, transformers, MLflow and the others takes ten seconds of a pipeline that takes fifteen, and Prefect's server
three more. So each process of pytest has one Python that has loaded the libraries, and none of our own code. A run is a fork of
it, with the run's folder, environment and outputs: our modules are imported anew, from that folder. Both end with pytest,
however that ends, and the run that is under way with them: they wait for the end of a socket, or a pipe, that only pytest holds.

Started as a program, this file is that Python: `python ready.py DESCRIPTOR LIBRARY…`.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

LIBRARIES = (
    *("accelerate", "alembic.migration", "datasets", "fastapi", "great_expectations", "httpx", "matplotlib.figure"),
    *("matplotlib.backends.backend_agg", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "pandas", "peft", "rich.table"),
    *("pydantic_settings", "scipy.optimize", "scipy.stats", "sqlalchemy.orm", "torch", "websockets.asyncio.client"),
    *("transformers:AutoModelForCausalLM", "transformers:AutoTokenizer", "transformers:Trainer"),
    *("trl:DPOTrainer", "trl:SFTTrainer", "griffe", "pendulum", "prometheus_client"),
)
"""Modules, and names that are loaded when they are asked for; of Prefect only what it needs: it reads its settings on import."""
LARGEST_REQUEST = 2**17


@dataclass
class Fork:
    """A run that was forked, with what `subprocess.Popen` has of one.

    Attributes:
        wire: tells its process id and its exit code.
        out: what it prints.
        err: what it says on standard error.
        pid: of its process, which leads a group of its own.
        returncode: None for a run that has not ended.
    """

    wire: socket.socket
    out: Path
    err: Path
    pid: int = 0
    returncode: int | None = None

    def poll(self, timeout: float | None = 0) -> int | None:
        if self.returncode is None and select.select([self.wire], [], [], timeout)[0]:
            self.returncode = int(self.wire.recv(64))
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        if self.poll(timeout) is None:
            raise subprocess.TimeoutExpired("flows", timeout or 0)
        return self.out.read_text(), self.err.read_text()


@dataclass
class Ready:
    """The Python with its libraries, and the server, each started when it is first asked for.

    Attributes:
        folder: of the server's database, and of what is printed; tests/flows/conftest.py gives it.
        libraries: that are loaded.
        python: that has loaded them.
    """

    folder: Path = Path()
    libraries: Sequence[str] = LIBRARIES
    _wire: socket.socket | None = None
    python: subprocess.Popen[bytes] | None = None
    _server: Any = None
    _address: str = ""

    def address(self) -> str:
        """Return the address of Prefect's server."""
        if not self._address:
            from flows.environment import prepare
            from flows.server import starting_server
            from tasks.workspace.paths import Paths

            before = dict(os.environ)
            try:
                for name in [name for name in os.environ if name.startswith("PREFECT_")]:
                    del os.environ[name]
                prepare(Paths(self.folder), is_tiny=True)
                with starting_server(Paths(self.folder)) as self._server:
                    pass
                self._address = os.environ["PREFECT_API_URL"]
            finally:
                os.environ.clear()
                os.environ.update(before)
        return self._address

    def start(self, house: Path, words: Sequence[str], *, environment: Mapping[str, str]) -> "Fork":
        """Start `python -m flows` in a folder; wait for its end before the next one is started."""
        wire = self._wire or self._start()
        fork = Fork(wire, self.folder / "stdout", self.folder / "stderr")
        asked = {"folder": str(house), "words": words, "environment": dict(environment)}
        with fork.out.open("w") as out, fork.err.open("w") as err:
            socket.send_fds(wire, [json.dumps(asked).encode()], [out.fileno(), err.fileno()])
        told = b""
        with contextlib.suppress(ConnectionResetError):
            told = wire.recv(64)
        if not told:
            raise RuntimeError(f"the libraries cannot be loaded:\n{(self.folder / 'python.log').read_text()}")
        fork.pid = int(told)
        return fork

    def _start(self) -> socket.socket:
        self._wire, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, (self.folder / "python.log").open("w") as log:
            # a library may read a setting when it is imported, so they are those of a run (tests/conftest.py has set QUIET)
            kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
            self.python = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *self.libraries],
                cwd=self.folder,
                env=kept | {"OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return self._wire

    def end(self) -> None:
        """End both."""
        if self._wire and self.python:
            self._wire.close()
            self.python.wait(60)
        if self._server:
            self._server.end()


# --- the Python with its libraries ------------------------------------------------------------------------------------


def load(libraries: Sequence[str]) -> None:
    """Import the libraries; no thread of theirs may live, for a fork has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for library in libraries:
            module, _, name = library.partition(":")
            found = importlib.import_module(module)
            if name:
                getattr(found, name)
    gc.freeze()  # else each fork's first collection copies every page
    # but jemalloc's, which comes with pyarrow and looks after itself in a fork
    threads = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    assert len([name for name in threads if name != "jemalloc_bg_thd"]) <= 1, threads


def serve(wire: socket.socket) -> None:
    """Fork a run for each request, and tell its process id and its exit code, until the other end is closed."""
    while True:
        asked, descriptors, _, _ = socket.recv_fds(wire, LARGEST_REQUEST, 2)
        if not asked:
            return
        process = os.fork()
        if process == 0:
            wire.close()
            become(json.loads(asked), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        wire.send(str(process).encode())
        code = wait(process, wire)
        if code is None:
            return
        wire.send(str(code).encode())


def wait(process: int, wire: socket.socket) -> int | None:
    """Return a run's exit code; None where nobody waits for it any more: then it is killed, and all that it started."""
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if select.select([wire], [], [], 0.02)[0]:
            os.kill(process, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):  # it leads a group of its own as soon as it runs
                os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return None


def become(asked: Mapping[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """Be `python -m flows` in a folder, to the end of the process."""
    os.setsid()
    for descriptor, place in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.path[0] = asked["folder"]
    importlib.invalidate_caches()
    sys.argv = ["flows", *asked["words"]]
    try:
        runpy.run_module("flows", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    # as Python itself ends, but for taking every library apart, which would copy every page of the fork
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    load(sys.argv[2:])
    serve(socket.socket(fileno=int(sys.argv[1])))
