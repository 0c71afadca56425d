"""A job as a process: started, told to end, ended with its parent; on this machine, and on a local Dask and Ray cluster."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import clusters
from flows import runners as subject
from flows.clusters import check_runner
from flows.runners import ALIVE, Exchange, ProcessFailedError, environment_of_a_job, result_of, run_process
from posttrain.errors import RequestError
from posttrain.settings.compare import CompareSettings
from tests.flows.houses import READY, environment

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = f"""
import os, sys, time
sys.path[0] = {str(ROOT)!r}
import importlib.util
spec = importlib.util.spec_from_file_location("children", {str(ROOT / "flows" / "children.py")!r})
children = importlib.util.module_from_spec(spec)
spec.loader.exec_module(children)
from posttrain.errors import DataError

@children.as_child
def pipeline(paths, words):
    print("1/2 base: pretraining …", flush=True)
    if "method=slow" in words:
        open("pid", "w").write(str(os.getpid()))
        time.sleep(120)
    if "method=wrong" in words:
        raise DataError("no questions")
    return {{"pipeline_id": "-".join(words), "threads": os.environ["OMP_NUM_THREADS"]}}

try:
    pipeline(None, sys.argv[2:])
except KeyboardInterrupt:
    sys.exit(130)
except DataError as error:
    print(f"data: {{error}}", file=sys.stderr)
    sys.exit(2)
"""
"""Stands in for `python -m flows`: it does what a child does, at once."""


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    (folder / "flows").mkdir(parents=True)
    (folder / "flows" / "__init__.py").touch()
    (folder / "flows" / "__main__.py").write_text(PIPELINE)
    return folder


@pytest.fixture
def exchange(tmp_path):
    folder = tmp_path / "compare"
    folder.mkdir()
    (folder / ALIVE).touch()
    return Exchange(folder=str(folder), name="001-sft-seed-0")


def start(method, root, exchange):
    run_process.fn("a job", (f"method={method}", "seed=0"), str(root), exchange, {"OMP_NUM_THREADS": "1"})


def until(condition, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.02)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_a_job_leaves_its_log_its_result_and_its_code(root, exchange):
    start("sft", root, exchange)
    assert result_of(exchange) == {"pipeline_id": "method=sft-seed=0", "code": 0}
    assert exchange.log.read_text() == "1/2 base: pretraining …\n" and exchange.end.read_text() == "0"


def test_one_that_refuses_tells_why(root, exchange):
    with pytest.raises(ProcessFailedError, match="a job ended with 2: see "):
        start("wrong", root, exchange)
    assert result_of(exchange) == {"code": 2, "error": "no questions", "kind": "DataError"}


def test_one_that_cannot_be_started_leaves_a_code_all_the_same(tmp_path, exchange):
    with pytest.raises(FileNotFoundError):
        start("sft", tmp_path / "nowhere", exchange)
    assert result_of(exchange)["code"] == -1


def test_a_job_ends_when_the_comparison_stops(root, exchange, tmp_path):
    import threading

    raised = []

    def run():
        try:
            start("slow", root, exchange)
        except ProcessFailedError as error:
            raised.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: (root / "pid").exists() and (root / "pid").read_text())
    (Path(exchange.folder) / ALIVE).unlink()
    thread.join(60)
    assert result_of(exchange)["code"] == 130 and "ended with 130" in raised[0]


def test_one_that_does_not_listen_is_killed(root, exchange, monkeypatch):
    monkeypatch.setattr(subject, "LONGEST_END", 0.2)
    main = root / "flows" / "__main__.py"
    main.write_text(
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(60)\n"
    )
    (Path(exchange.folder) / ALIVE).unlink()
    with pytest.raises(ProcessFailedError):
        start("sft", root, exchange)
    assert exchange.end.read_text() in (str(-signal.SIGKILL), str(-signal.SIGINT), "1", "130")


def test_a_job_on_a_cluster_ends_where_the_comparison_gives_no_sign_of_life(exchange, monkeypatch):
    far = Exchange(folder=exchange.folder, name=exchange.name, is_far=True)
    assert subject._is_wanted(far) and subject._is_wanted(exchange)
    old = time.time() - subject.LONGEST_SILENCE - 5
    os.utime(Path(exchange.folder) / ALIVE, (old, old))
    assert not subject._is_wanted(far), "nobody waits for it"
    assert subject._is_wanted(exchange), "on our own machine it ends with us by itself"


def test_a_job_ends_when_its_parent_is_killed(root, exchange):
    code = f"""
        from flows.runners import Exchange, run_process
        run_process.fn("a job", ("method=slow", "seed=0"), {str(root)!r}, Exchange({exchange.folder!r}, "slow"), {{}})
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, env=environment())
    until(lambda: (root / "pid").exists() and (root / "pid").read_text(), 300)
    child = int((root / "pid").read_text())
    assert is_alive(child)
    parent.kill()
    parent.wait(60)
    until(lambda: not is_alive(child))


def test_what_a_job_gets_of_our_environment(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("A_SECRET", "x")
    told = environment_of_a_job(comparison_id="id", mark="")
    assert told["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
    assert (told["OMP_NUM_THREADS"], told["POSTTRAIN_COMPARISON"]) == ("1", "id")
    assert not {"A_SECRET", "POSTTRAIN_TRIAL"} & set(told)
    assert environment_of_a_job(comparison_id="id", mark="3")["POSTTRAIN_TRIAL"] == "3"


# --- runners ----------------------------------------------------------------------------------------------------------


def test_the_log_of_our_own_dask_cluster_is_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_LOGGING", "")
    monkeypatch.delenv("DASK_LOGGING")
    subject.keep_dasks_log(tmp_path / "logs")
    code = """
        import ast, logging.config, os
        logging.getLogger("another")
        logging.config.dictConfig(ast.literal_eval(os.environ["DASK_LOGGING"]))
        for name in ("distributed.nanny", "tornado.application"):
            try:
                raise OSError("no heartbeat")
            except OSError:
                logging.getLogger(name).exception("went")
        logging.getLogger("another").warning("told as ever")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    written = (tmp_path / "logs" / "dask.log").read_text()
    assert written.count("OSError: no heartbeat") == 2 and "distributed.nanny ERROR went" in written
    assert done.stderr == "told as ever\n" and done.stdout == ""


def test_where_the_user_has_dasks_log_written_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_LOGGING", "{'distributed': 'debug'}")
    subject.keep_dasks_log(tmp_path / "logs")
    assert os.environ["DASK_LOGGING"] == "{'distributed': 'debug'}"


def test_a_cluster_with_an_address_keeps_its_log_to_itself(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(subject, "keep_dasks_log", kept.append)
    monkeypatch.setattr(subject, "import_module", lambda name: SimpleNamespace(DaskTaskRunner=dict))
    subject.task_runner(CompareSettings(runner="dask", address="tcp://10.0.0.1:8786"), workers=1, root=tmp_path)
    assert kept == []
    subject.task_runner(CompareSettings(runner="dask"), workers=1, root=tmp_path)
    assert kept == [tmp_path / ".posttrain" / "logs"]


def test_an_address_without_a_cluster_is_refused():
    check_runner(CompareSettings())
    with pytest.raises(RequestError) as told:
        check_runner(CompareSettings(address="tcp://10.0.0.1:8786"))
    assert str(told.value) == (
        "compare.address=tcp://10.0.0.1:8786 is the address of a cluster, and compare.runner=processes has none. "
        "Add compare.runner=dask or compare.runner=ray, or leave the address out"
    )


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_runner_that_is_not_installed_is_refused_with_its_extra(runner, monkeypatch):
    monkeypatch.setattr(clusters.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=rf"compare\.runner={runner} needs the extra of that name, which is not installed"):
        check_runner(CompareSettings(runner=runner))


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_local_cluster_runs_jobs(runner, root, exchange):
    if find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"prefect-{runner} is not installed here: the extra {runner}")
    code = f"""
        import logging
        from pathlib import Path
        from prefect import flow, task
        from flows.runners import Exchange, result_of, run_process, task_runner
        from posttrain.settings.compare import CompareSettings

        ROOT = Path({str(root if runner == "dask" else ROOT)!r})

        @task
        def tell():
            logging.getLogger("distributed.worker").error("no heartbeat")

        @flow(task_runner=task_runner(CompareSettings(runner={runner!r}), workers=2, root=ROOT))
        def both():
            files = [Exchange({exchange.folder!r}, name, is_far=True) for name in ("one", "two")]
            futures = [
                run_process.submit(one.name, (f"method={{one.name}}", "seed=0"), {str(root)!r}, one, {{"OMP_NUM_THREADS": "1"}})
                for one in files
            ]
            for future in [*futures, tell.submit()]:
                future.wait()
            return [result_of(one)["pipeline_id"] for one in files]

        if __name__ == "__main__":
            print(both())
    """
    script = root / "both.py"
    script.write_text(textwrap.dedent(code))
    of_run = environment() | {"PREFECT_API_URL": READY.address(), "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run([sys.executable, str(script)], cwd=ROOT, env=of_run, capture_output=True, text=True, timeout=600)
    assert "['method=one-seed=0', 'method=two-seed=0']" in done.stdout, done.stderr[-3000:]
    if runner == "dask":
        written = (root / ".posttrain" / "logs" / "dask.log").read_text()
        assert written.count("distributed.worker ERROR no heartbeat") == 1 and "heartbeat" not in done.stdout + done.stderr
