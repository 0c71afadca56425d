"""How a job becomes a process, here or on a worker of a cluster: a Prefect task that starts it, watches it, tells how it ended.

What passes between a comparison and its jobs lies in a folder that both see: a log, a result and an exit code a job, and one file
that is there while the comparison is at work. It is taken away to stop them: that can be done on a full disk as well.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from prefect import task
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.children import RESULT
from posttrain.settings.compare import CompareSettings
from tasks.workspace.paths import Paths

ALIVE = "alive"
LOOK = 0.1
"""Seconds between two looks at a process."""
LONGEST_END = 20.0
"""Seconds that a job may take to end by itself once it is told to; then it is killed."""
LONGEST_SILENCE = 60.0
"""Seconds without a sign of life of the comparison after which a job on a cluster's worker ends: nobody waits for it any more."""
HANDED_ON = ("PREFECT_", "HF_", "MLFLOW_", "OMP_")
"""Beginnings of the names in our environment that a job gets wherever it runs."""


class ProcessFailedError(Exception):
    """A job's process ended with another code than 0; raised so that Prefect shows the task as failed."""


@dataclass(frozen=True)
class Exchange:
    """The files of one job.

    Attributes:
        folder: of the comparison.
        name: of the job in it.
        is_far: the job runs on a worker of a cluster, which does not end with us by itself.
    """

    folder: str
    name: str
    is_far: bool = False

    @property
    def log(self) -> Path:
        """What the process printed."""
        return Path(self.folder, f"{self.name}.log")

    @property
    def result(self) -> Path:
        """What it said of itself."""
        return Path(self.folder, f"{self.name}.json")

    @property
    def end(self) -> Path:
        """Its exit code; there once it has ended."""
        return Path(self.folder, f"{self.name}.end")


@task(name="pipeline of a comparison", task_run_name="{title}", persist_result=False)
def run_process(title: str, words: Sequence[str], root: str, exchange: Exchange, environment: Mapping[str, str]) -> None:
    """Run `python -m flows pipeline …` to its end.

    Raises:
        ProcessFailedError: it ended with another code than 0.
    """
    code = -1
    try:
        with exchange.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows", "pipeline", *words],
                cwd=root,
                env={**os.environ, **environment, RESULT: str(exchange.result)},
                stdin=subprocess.PIPE,  # never written to: it closes when we are gone (flows/children.py)
                stdout=log,
                stderr=log,
            )
            with process:
                code = _watch(process, exchange)
    finally:
        exchange.end.write_text(str(code), encoding="utf-8")
    if code:
        raise ProcessFailedError(f"{title} ended with {code}: see {exchange.log}")


def _watch(process: subprocess.Popen[bytes], exchange: Exchange) -> int:
    """Return a process's exit code; interrupt it, and then kill it, where the comparison has stopped."""
    told: float | None = None
    while (code := process.poll()) is None:
        if told is None and not _is_wanted(exchange):
            told = time.monotonic()
            process.send_signal(signal.SIGINT)
        if told is not None and time.monotonic() - told > LONGEST_END:
            process.kill()
        time.sleep(LOOK)
    return code


def _is_wanted(exchange: Exchange) -> bool:
    """Tell whether the comparison is at work: its sign of life is there, and on a cluster it is young.

    Only clocks of the folder's own disk are compared: those of two machines may differ.
    """
    alive = Path(exchange.folder, ALIVE)
    try:
        seen = alive.stat().st_mtime
        if not exchange.is_far:
            return True
        probe = Path(exchange.folder, f"{exchange.name}.probe")
        probe.touch()
        return probe.stat().st_mtime - seen < LONGEST_SILENCE
    except FileNotFoundError:
        return False


def environment_of_a_job(*, comparison_id: str, mark: str) -> dict[str, str]:
    """Return what a job gets beside the environment of whoever starts it: one thread, our Prefect server, and whose it is.

    Args:
        comparison_id: whose it is.
        mark: of what is no result (`Job.mark`); "" for a result.
    """
    ours = {name: value for name, value in os.environ.items() if name.startswith(HANDED_ON)}
    marks = {"POSTTRAIN_COMPARISON": comparison_id, **({"POSTTRAIN_TRIAL": mark} if mark else {})}
    return {**ours, "OMP_NUM_THREADS": "1", **marks}


# --- where tasks run --------------------------------------------------------------------------------------------------


def keep_dasks_log(folder: Path) -> None:
    """Have a Dask cluster of our own write its log into a file, unless the user's environment says where.

    On a busy machine its processes log how they miss each other as they end, with stack traces, into the terminal of a comparison
    that is well. Read when Dask is imported, here and in its workers (`distributed.config`: a variable's value is a literal).
    """
    loggers = {name: {"handlers": ["file"], "level": "INFO", "propagate": False} for name in ("distributed", "tornado")}
    how = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"}},
        "handlers": {
            "file": {"class": "logging.FileHandler", "filename": str(folder / "dask.log"), "formatter": "line", "delay": True}
        },
        "loggers": loggers,
    }
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("DASK_LOGGING", repr(how))


def task_runner(settings: CompareSettings, *, workers: int, root: Path) -> TaskRunner[Any]:
    """Return Prefect's task runner, for `workers` jobs at a time."""
    runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=workers)
    if settings.runner == "dask":
        if not settings.address:
            keep_dasks_log(Paths(root).logs)
        kind = import_module("prefect_dask").DaskTaskRunner
        if settings.address:
            runner = kind(address=settings.address)
        else:
            runner = kind(cluster_kwargs={"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None})
    if settings.runner == "ray":
        kind = import_module("prefect_ray").RayTaskRunner
        path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH", ""))))
        of_workers = {"runtime_env": {"env_vars": {"PYTHONPATH": path}}}
        if settings.address:
            runner = kind(address=settings.address, init_kwargs=of_workers)
        else:
            runner = kind(init_kwargs={**of_workers, "num_cpus": workers, "include_dashboard": False})
    return runner


def result_of(exchange: Exchange) -> dict[str, Any]:
    """Return what a job that has ended said of itself: {code, pipeline_id}, or {code, error} and the kind of one that we know."""
    code = int(exchange.end.read_text(encoding="utf-8") or -1)
    try:
        told: dict[str, Any] = json.loads(exchange.result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        told = {}
    if code == 0 and "pipeline_id" in told:
        return told
    return {"code": code or -1, "error": _last_words(exchange.log, code), **told}


def _last_words(log: Path, code: int) -> str:
    """Return the last line that a process printed, or how the system ended it."""
    if code < 0 and code != -1:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        why = " (the machine had no memory left, or somebody killed it)" if -code == signal.SIGKILL else ""
        return f"the process was ended by {name}{why}"
    try:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return lines[-1].strip() if lines else f"the process ended with {code}, and printed nothing"
