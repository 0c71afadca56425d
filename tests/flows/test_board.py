"""The board of a comparison: jobs taken, started, followed in their logs, failed alike, interrupted; no process starts here."""

import json
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import board as subject
from flows.board import MADE, STAGE_LINE, Board
from flows.compare_screen import Screen
from flows.jobs import Finished, Job
from flows.probe import Probed, ProbedStage
from flows.runners import ALIVE
from posttrain.errors import DataError
from tasks.workspace.paths import Paths

STAGES = {"sft": ("base", "sft"), "dpo": ("base", "sft", "dpo"), "reft": ("base", "sft", "reft"), "ppo": ("base", "ppo")}


class Task:
    """Stands in for Prefect's task: it says how each job goes, and what it left in its files."""

    def __init__(self, ends):
        self.ends, self.started, self.environments = ends, [], {}

    def submit(self, *, title, words, root, exchange, environment):
        self.started.append(title)
        self.environments[title] = environment
        log, result, code = self.ends[title]
        exchange.log.write_text(log)
        if result:
            exchange.result.write_text(json.dumps(result))
        if code is not None:
            exchange.end.write_text(str(code))
        return self

    def wait(self, timeout):
        pass

    @property
    def state(self):
        return self

    def is_final(self):
        return False


class Asked:
    def __init__(self, refused=(), there=()):
        self.refused, self.there = refused, there

    def probe(self, words):
        method, seed = words[0].partition("=")[2], words[-1].partition("=")[2]
        if method in self.refused:
            raise DataError(f"{method} has no data")
        artifact = object() if method in self.there else None
        return Probed(tuple(ProbedStage(name, f"{name}/{seed}", {}, artifact) for name in STAGES[method]))


def report(paths, name, **stages):
    paths.reports.mkdir(exist_ok=True)
    told = {"pipeline_id": name, "stages": [{"seconds": 1.0, "cached": False}]}
    (paths.reports / f"{name}.json").write_text(json.dumps(told))
    return {"pipeline_id": name, "code": 0}


@pytest.fixture
def boards(tmp_path, monkeypatch):
    monkeypatch.setattr(subject, "LOOK", 0.001)
    monkeypatch.setattr(subject, "LONGEST_END", -5.0)
    lines = []

    def make(ends, *, workers=1, prober=None, taken=lambda job, probed: None):
        task = Task(ends)
        monkeypatch.setattr(subject, "run_process", task)
        board = Board(
            paths=Paths(tmp_path),
            folder=tmp_path / "compare" / "20260101-000000-abcd",
            prober=prober or Asked(),
            configuration=lambda words: words,
            taken=taken,
            workers=workers,
            is_far=False,
            screen=Screen(lines.append),
        )
        return board, task, lines

    return make


def test_jobs_run_in_order_and_are_told_a_line_each(boards, tmp_path, monkeypatch):
    monkeypatch.setattr(subject, "time", SimpleNamespace(monotonic=lambda: 100.0, sleep=lambda _: None))  # no time passes
    paths = Paths(tmp_path)
    ends = {f"{method} seed 0": ("", report(paths, method), 0) for method in ("sft", "dpo", "reft")}
    board, task, lines = boards(ends)
    futures = [board.submit(Job(method, 0)) for method in ("reft", "dpo", "sft")]
    board.work()
    assert task.started == ["sft seed 0", "reft seed 0", "dpo seed 0"], "SFT makes what both share"
    assert [future.result().report["pipeline_id"] for future in futures] == ["reft", "dpo", "sft"]
    assert [line.partition(":")[0] for line in lines] == ["1/3 sft seed 0", "2/3 reft seed 0", "3/3 dpo seed 0"]
    assert all(re.search(r": done in (under 1|\d+) s", line) for line in lines)
    assert not (board.folder / ALIVE).exists(), "what tells jobs to end is taken away at the end"


def test_what_is_there_is_taken_and_nothing_starts(boards):
    board, task, lines = boards({}, prober=Asked(there=("sft",)), taken=lambda job, probed: {"pipeline_id": "old"})
    future = board.submit(Job("sft", 0))
    board.work()
    assert task.started == [] and future.result() == Finished(Job("sft", 0), {"pipeline_id": "old"}, is_cached=True)
    assert lines == ["1/1 sft seed 0: finished before, its report is taken"]


def test_a_job_that_cannot_run_is_refused_and_the_others_run(boards, tmp_path):
    board, task, lines = boards({"sft seed 0": ("", report(Paths(tmp_path), "x"), 0)}, prober=Asked(refused=("dpo",)))
    refused, ran = board.submit(Job("dpo", 0)), board.submit(Job("sft", 0))
    board.work()
    assert (refused.result().code, refused.result().error, refused.result().kind) == (2, "dpo has no data", "DataError")
    assert ran.result().report and task.started == ["sft seed 0"]
    assert lines[0].startswith("1/2 dpo seed 0: failed: dpo has no data")


def test_a_pilot_that_fails_alarms_nobody_since_a_longer_one_follows(boards):
    board, _, lines = boards({}, prober=Asked(refused=("dpo",)))
    refused = board.submit(Job("dpo", 0, (), "pilot"))
    board.work()
    assert refused.result().report is None
    assert lines == ["1/1 dpo seed 0, pilot: measured nothing: dpo has no data"]


def test_a_job_that_needs_the_stage_that_failed_fails_alike_without_a_start(boards, tmp_path):
    log = "1/3 base: pretraining … 2 s\n2/3 sft: imitating … stopped after 1 s\ncontract: no\n"
    ends = {
        "sft seed 0": (log, {"code": 3, "error": "sft has learnt nothing", "kind": "ContractError"}, 3),
        "ppo seed 0": ("", report(Paths(tmp_path), "ppo"), 0),
    }
    board, task, _ = boards(ends)
    futures = {method: board.submit(Job(method, 0)) for method in ("sft", "dpo", "ppo")}
    board.work()
    assert task.started == ["sft seed 0", "ppo seed 0"]
    assert [(futures[name].result().code, futures[name].result().error) for name in ("sft", "dpo")] == [
        (3, "sft has learnt nothing")
    ] * 2
    assert futures["ppo"].result().report, "it needs base alone, which was made"


def test_a_full_disk_fails_whoever_waits(boards):
    log = "1/2 base: pretraining …"
    board, task, _ = boards({"sft seed 0": (log, {"code": 2, "error": "the disk is full", "kind": "StorageError"}, 2)})
    futures = [board.submit(Job(method, seed)) for method, seed in (("sft", 0), ("ppo", 1))]
    board.work()
    assert task.started == ["sft seed 0"]
    assert [future.result().error for future in futures] == ["the disk is full"] * 2


def test_a_process_that_ends_without_a_word(boards):
    board, _, _ = boards({"sft seed 0": ("1/2 base: pretraining …\nTraceback\nValueError: boom\n", None, 1)})
    future = board.submit(Job("sft", 0))
    board.work()
    assert (future.result().code, future.result().error, future.result().kind) == (1, "ValueError: boom", "")
    board, _, _ = boards({"sft seed 0": ("", None, -9)})
    future = board.submit(Job("sft", 0))
    board.work()
    assert future.result().error == "the process was ended by SIGKILL (the machine had no memory left, or somebody killed it)"


def test_a_process_whose_report_is_gone_has_failed(boards):
    board, _, _ = boards({"sft seed 0": ("", {"pipeline_id": "20261128-1-sft", "code": 0}, 0)})
    future = board.submit(Job("sft", 0))
    board.work()
    assert (future.result().report, future.result().code) == (None, -1), "its own code says that all is well"
    assert future.result().error.startswith("its report 20261128-1-sft is not in ")


def test_another_job_starts_once_what_both_need_is_made(boards, tmp_path):
    """SFT never ends here; PPO starts, since SFT's log says that the base is there, and DPO does not."""
    ends = {
        "sft seed 0": ("1/2 base: pretraining … 2 s\n2/2 sft: imitating …", None, None),
        "ppo seed 0": ("", report(Paths(tmp_path), "ppo"), 0),
    }
    board, task, _ = boards(ends, workers=3)
    for method in ("sft", "dpo"):
        board.submit(Job(method, 0))
    ran = board.submit(Job("ppo", 0))

    def interrupt_once_ppo_is_done():
        ran.result()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        board.work([interrupt_once_ppo_is_done])
    assert task.started == ["sft seed 0", "ppo seed 0"]
    assert not (board.folder / ALIVE).exists()


def test_a_producer_runs_trials_and_then_submits(boards, tmp_path):
    paths = Paths(tmp_path)
    ends = {"sft seed 0, trial": ("", report(paths, "trial"), 0), "sft seed 0": ("", report(paths, "whole"), 0)}
    board, task, _ = boards(ends)
    threads = []

    def produce():
        threads.append(threading.current_thread())
        assert board.run_job(Job("sft", 0, purpose="trial")).report["pipeline_id"] == "trial"
        board.submit(Job("sft", 0))

    board.work([produce])
    assert task.started == ["sft seed 0, trial", "sft seed 0"] and threads[0] is not threading.main_thread()
    assert task.environments["sft seed 0, trial"]["POSTTRAIN_TRIAL"] == "trial"
    assert "POSTTRAIN_TRIAL" not in task.environments["sft seed 0"]
    marks = {told["POSTTRAIN_COMPARISON"] for told in task.environments.values()}
    assert marks == {"20260101-000000-abcd"} and task.environments["sft seed 0"]["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("line", "found", "is_made"),
    [
        ("3/9 sft: imitating 64 demonstrations …", ("3", "9", "sft"), False),
        ("3/9 sft: imitating 64 demonstrations … 2 s", ("3", "9", "sft"), True),
        ("3/9 sft: imitating 64 demonstrations … stopped after 2 s", ("3", "9", "sft"), False),
        ("10/12 evaluate-self_training: reused", ("10", "12", "evaluate-self_training"), True),
        ("1/1 label: done in 2 min 3 s", ("1", "1", "label"), True),
        ("2/3 base: waiting for the run that is making it", ("2", "3", "base"), False),
        ("4/9 judge …", ("4", "9", "judge"), False),
    ],
)
def test_a_line_of_a_log(line, found, is_made):
    told = STAGE_LINE.findall(f"note: something\n{line}\n")
    assert told[-1][:3] == found and bool(MADE.search(told[-1][3])) == is_made


def test_an_empty_folder_of_logs_is_no_job(boards):
    board, task, lines = boards({})
    board.work()
    assert (task.started, lines, board.finished) == ([], [], [])
    assert isinstance(board.folder, Path)
