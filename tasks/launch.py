"""A stage on several processes of one or more machines: torchrun's agent starts them, the pipeline waits, and none is left.

The pipeline's own process keeps Prefect, MLflow and DVC. It hands a stage's arguments over in a file, follows its curve, and
takes its outcome. The first process writes the stage's files; the others write nowhere that is kept.

Agent and processes are forks of one Python that has loaded the trainers' libraries, once a pipeline: the forkserver of Python's
multiprocessing. Where there is a GPU each process is a Python of its own, for CUDA cannot be used in a fork of what has used it.
"""

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psutil

from posttrain import errors
from posttrain.errors import ContractError, PosttrainError
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.memory import peak_rss_mb

LIBRARIES = "tasks.launched_libraries"
"""What the forkserver loads."""
WAIT = 0.1
"""Seconds between two looks at what the processes have written."""
ENDING = 20.0
"""Seconds that processes are given to end before they are killed."""
PATIENCE = 3.0
"""Seconds that a process waits before it ends by a fault; the agent looks ten times a second."""
FAILURES = "failures.json"
"""Rank and exit code of the process that failed first, as torchrun's agent saw it."""
STOPPED = 70
"""Exit code of a process whose error is in its file."""
LOOPBACK = ("localhost", "127.0.0.1")


class UnexplainedError(ContractError):
    """Processes of this machine ended, and none of them said why in an error of ours: another machine's may have."""


@dataclass(frozen=True)
class Place:
    """The part of one machine in a stage that several compute.

    Attributes:
        node: which it is, from 0; the processes of node 0 have the lowest ranks.
        nodes: how many there are.
        host: the name of node 0.
        port: at which the agents of this stage meet there.
        seconds: that an agent waits for the others.
    """

    node: int
    nodes: int
    host: str
    port: int
    seconds: float

    @property
    def is_on_one_machine(self) -> bool:
        """Whether the nodes are folders of one machine, as in tests."""
        return self.host in LOOPBACK


@dataclass(frozen=True)
class Launch:
    """A stage that several processes compute.

    Attributes:
        compute: `module:function` of the stage.
        out: folder that its files go into.
        log: takes each point of its curve.
        arguments: of the stage, beside `out` and `log`.
        stage: its name, for errors.
        processes: how many of this machine.
        logs: folder for what each process prints; it is begun anew.
        place: of this machine among several; None where it is alone.
        look: is called while the processes compute; what it raises ends them.
    """

    compute: str
    out: Path
    log: Log
    arguments: Mapping[str, Any]
    stage: str
    processes: int
    logs: Path
    place: Place | None = None
    look: Callable[[], None] = lambda: None

    @property
    def all_processes(self) -> int:
        """How many compute it on all machines together."""
        return self.processes * (self.place.nodes if self.place else 1)


def get_ready() -> None:
    """Begin to load the libraries of a stage's processes, and return at once; without it the first stage begins with that."""
    _context()
    forkserver.ensure_running()


def call_on_processes(launch: Launch) -> Outcome:
    """Compute a stage on several processes, and return what the first of them gave: nothing on any machine but the first.

    Raises:
        PosttrainError, OSError: as the first process that failed raised it.
        ContractError: a process ended without a word, or failed by a fault of ours.
    """
    import cloudpickle

    out, logs, place = launch.out, launch.logs, launch.place

    scratch = out / ".launch"
    scratch.mkdir()
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    terminal = os.ttyname(2) if os.isatty(2) else ""
    asked = {"compute": launch.compute, "out": str(out), "arguments": dict(launch.arguments), "logs": str(logs)}
    pipeline = psutil.Process()
    asked |= {"terminal": terminal, "pipeline": (pipeline.pid, pipeline.create_time())}
    (scratch / "request.pkl").write_bytes(cloudpickle.dumps(asked))
    with _agent(scratch, launch.processes, logs, place) as agent:
        _follow(agent, scratch / "points.jsonl", launch.log, launch.look)
    if agent.exitcode:
        raise _failure(scratch, logs, stage=launch.stage, processes=launch.all_processes)
    if place and place.node:
        return Outcome()
    told = json.loads((scratch / "outcome.json").read_text(encoding="utf-8"))
    peaks = sum(float(file.read_text()) for file in scratch.glob("peak-*"))
    shutil.rmtree(scratch)
    return Outcome(metrics=told["metrics"], costs={**told["costs"], "peak_rss_mb": peaks})


def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([LIBRARIES])
    return context


@contextmanager
def _agent(scratch: Path, processes: int, logs: Path, place: Place | None) -> Iterator[BaseProcess]:
    """Start the processes; whatever ends the block ends them, and all that they started."""
    agent = _context().Process(target=be_agent, args=(scratch, processes, logs, dict(os.environ), place))
    agent.start()
    try:
        yield agent
    finally:
        _end(agent)


def _end(agent: BaseProcess) -> None:
    """End the agent and its processes: politely, and then not."""
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(agent.pid), *psutil.Process(agent.pid).children(recursive=True)]
        for one in family if agent.is_alive() else family[1:]:
            with suppress(psutil.NoSuchProcess):
                one.terminate()
        for one in psutil.wait_procs(family, timeout=ENDING)[1]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    agent.join()


def _follow(agent: BaseProcess, points: Path, log: Log, look: Callable[[], None]) -> None:
    """Hand over the points of the curve as they come, until the processes have ended."""
    read, is_over = 0, False
    while not is_over:
        is_over = not agent.is_alive()
        if points.exists():
            with points.open("rb") as file:
                file.seek(read)
                for line in file:
                    if not line.endswith(b"\n"):  # it is still being written
                        break
                    read += len(line)
                    step, figures = json.loads(line)
                    log(step, figures)
        if not is_over:
            look()
            time.sleep(WAIT)


def _failure(scratch: Path, logs: Path, *, stage: str, processes: int) -> Exception:
    """Return the error of whichever process failed first."""
    told = [json.loads(file.read_text(encoding="utf-8")) for file in scratch.glob("error-*.json")]
    told.sort(key=lambda one: float(one["at"]))
    # an error of ours is what all failed of; without one, a process that was killed is why the others lost their connection
    for one in told:
        kind = getattr(errors, one["kind"], None)
        if isinstance(kind, type) and issubclass(kind, PosttrainError):
            return kind(one["text"])
        if one["errno"]:
            return OSError(one["errno"], one["text"])
    ended = json.loads((scratch / FAILURES).read_text(encoding="utf-8")) if (scratch / FAILURES).exists() else []
    killed = [(number, -code) for number, code in ended if code < 0 and code != -signal.SIGTERM]
    looks = f"What they printed is in {logs}"
    if killed:
        number, by = killed[0]
        cause = " (memory that ran out ends a process so)" if by == signal.SIGKILL else ""
        return ContractError(
            f"stage {stage}: process {number} of {processes} was killed by signal {by}{cause}, so the others were ended too. "
            f"{looks}. The same command goes on from the last checkpoint, where the stage has one"
        )
    if told:
        first = told[0]
        return UnexplainedError(
            f"stage {stage}: process {first['rank']} of {processes} failed with {first['kind']}: {first['text']}. We did not "
            f"expect that. {looks}"
        )
    return UnexplainedError(f"stage {stage}: its {processes} processes could not be started, or ended without a word. {looks}")


# --- within the agent, and within a process ---------------------------------------------------------------------------


def be_agent(scratch: Path, processes: int, logs: Path, environment: Mapping[str, str], place: Place | None = None) -> None:
    """Start a stage's processes, wait for them, and end with how they ended, as `torchrun` does.

    Args:
        scratch: folder of the stage's request; `FAILURES` in it then says which process ended with which exit code.
        processes: how many.
        logs: what torchrun says goes there.
        environment: of the pipeline: what the forkserver has is as old as the pipeline.
        place: of this machine among several; None where it is alone.
    """
    # a session of its own: Ctrl-C reaches the pipeline alone, which then ends them all
    os.setsid()
    _redirect(logs / "torchrun.log", terminal="")
    os.environ.clear()
    os.environ.update(environment)
    os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // processes))
    if place is None or place.is_on_one_machine:  # else gloo takes the address of the machine's name, or what the user has set
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"

    import torch
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    nodes = place.nodes if place else 1
    how = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=processes,
        run_id="stage" if place else scratch.parent.name,
        **(_among(place) if place else _alone()),
        max_restarts=0,
        start_method="spawn" if torch.cuda.device_count() else "fork",
    )
    try:
        elastic_launch(how, be_process)(scratch)
    except ChildFailedError as error:
        traceback.print_exc()
        _write_whole(scratch / FAILURES, json.dumps([[rank, one.exitcode] for rank, one in error.failures.items()]))
        sys.exit(1)


def _alone() -> dict[str, Any]:
    return {"rdzv_backend": "c10d", "rdzv_endpoint": "127.0.0.1:0", "local_addr": "127.0.0.1"}


def _among(place: Place) -> dict[str, Any]:
    """Return how agents of several machines meet: with the ranks that they were given, since node 0 takes the stage's files.

    torchrun's c10d rendezvous gives ranks by the order of the machines' names.
    """
    how = {"rank": place.node, "timeout": int(place.seconds) + 1}
    return {"rdzv_backend": "static", "rdzv_endpoint": f"{place.host}:{place.port}", "rdzv_configs": how}


def be_process(scratch: Path) -> None:
    """Be one of a stage's processes; its exit code is 0 or `STOPPED`."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if code := _main(scratch):
        sys.exit(code)


def _main(scratch: Path) -> int:
    """Compute the stage, or tell why not, and return the exit code."""
    number = int(os.environ["RANK"])
    asked = pickle.loads((scratch / "request.pkl").read_bytes())
    _redirect(Path(asked["logs"]) / f"process-{number}.log", terminal=asked["terminal"] if number == 0 else "")
    _end_with(*asked["pipeline"])
    try:
        outcome = _computed(asked, scratch, number)
    except Exception as error:
        traceback.print_exc()
        told = {"kind": type(error).__name__, "text": str(error), "rank": number, "at": time.time()}
        told["errno"] = error.errno if isinstance(error, OSError) else None
        _write_whole(scratch / f"error-{number}.json", json.dumps(told))
        if not isinstance(error, PosttrainError | OSError):
            # most often a connection to a process that was killed: the agent, which names one process, must see that one first
            time.sleep(PATIENCE)
        return STOPPED
    _write_whole(scratch / f"peak-{number}", str(peak_rss_mb()))
    if number == 0:
        told = {"metrics": dict(outcome.metrics), "costs": dict(outcome.costs)}
        _write_whole(scratch / "outcome.json", json.dumps(told))
    return 0


def _computed(asked: Mapping[str, Any], scratch: Path, number: int) -> Outcome:
    import torch
    from accelerate import PartialState

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    state = PartialState(cpu=not torch.cuda.is_available())
    out = Path(asked["out"]) if number == 0 else Path(mkdtemp(dir=scratch))
    module, _, function = asked["compute"].partition(":")
    with (scratch / "points.jsonl" if number == 0 else Path(os.devnull)).open("a", encoding="utf-8") as points:

        def log(step: int, figures: Mapping[str, float]) -> None:
            points.write(json.dumps([step, dict(figures)]) + "\n")
            points.flush()

        outcome: Outcome = getattr(import_module(module), function)(out, log, **asked["arguments"])
    state.wait_for_everyone()
    state.destroy_process_group()
    return outcome


def _redirect(file: Path, *, terminal: str) -> None:
    """Let what is printed go into a file; the first process's progress goes to the terminal, where there is one."""
    target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    if terminal:
        with suppress(OSError):
            os.dup2(os.open(terminal, os.O_WRONLY), 2)


def _end_with(pid: int, created: float) -> None:
    """End this process when the pipeline has ended, however that was: nothing would take the result."""

    def watch() -> None:
        while True:
            time.sleep(1)
            try:
                pipeline = psutil.Process(pid)
                # one that was killed stays a zombie where nothing waits for it, as in a container without an init
                is_there = pipeline.create_time() == created and pipeline.status() != psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                is_there = False
            if not is_there:
                os._exit(STOPPED)

    threading.Thread(target=watch, daemon=True).start()


def _write_whole(file: Path, text: str) -> None:
    part = file.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
