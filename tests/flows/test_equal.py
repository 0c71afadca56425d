"""What every method is given alike: jobs at the defaults, or with the settings that pilots and trials found."""

import json

import pytest

from flows import equal as subject
from flows.compare_request import Request
from flows.equal import check_terms, producers, terms_of
from flows.jobs import Finished
from posttrain.errors import DataError
from posttrain.settings.config import merge
from tasks.workspace.paths import Paths


class Board:
    """Takes jobs; a trial's accuracy is told by its β, and a pilot's labels by a table."""

    def __init__(self):
        self.submitted, self.ran, self.lines = [], [], []
        self.screen = self

    def submit(self, job):
        self.submitted.append(job)

    def say(self, line):
        self.lines.append(line)

    def run_job(self, job):
        self.ran.append(job)
        metrics = {"eval/accuracy": merge({}, job.words).dpo.beta, "cost/labels": 400.0}
        return Finished(job, {"metrics": metrics, "stages": [{"name": "sample"}], "mlflow": {"run_id": "r"}})


def run(request, tmp_path):
    board, terms = Board(), terms_of(request)
    configuration = lambda words, is_told=True: merge({}, words)  # noqa: E731
    for produce in producers(Paths(tmp_path), request, terms, request.jobs(reference="sft"), board, configuration):
        produce()
    return board, terms


def test_at_the_defaults_all_jobs_wait_at_once(tmp_path):
    request = Request(("dpo",), (0, 1), settings=("dpo.epochs=1",))
    board, terms = run(request, tmp_path)
    assert board.submitted == list(request.jobs(reference="sft")) and not board.ran
    assert (terms.notes, terms.left_out, terms.tuned_record("dpo"), terms.used_record([])) == ([], {}, None, None)


def test_each_method_gets_its_trials_on_a_seed_and_on_questions_that_nobody_reports(tmp_path):
    board, terms = run(Request(("dpo",), (0, 1), tune=3), tmp_path)
    trials = [job for job in board.ran if job.purpose == "trial"]
    assert {job.seed for job in trials} == {2} and all("evaluate.part=development" in job.overrides for job in trials)
    reported = [job for job in board.submitted if job.method in {"dpo"}]
    assert [job.seed for job in reported] == [0, 1]
    chosen = terms.tuned_record("dpo")["chosen"]["dpo.beta"]
    assert chosen == max(float(merge({}, job.words).dpo.beta) for job in trials if job.method in {"dpo"})
    for job in board.submitted:
        assert "evaluate.part=reported" in job.overrides and job.purpose == "report"
        assert merge({}, job.words).evaluate.part == "reported"
    assert merge({}, reported[0].words).dpo.beta == pytest.approx(chosen)
    assert len(terms.notes) == 2, "a sentence a method"


def test_a_budget_of_labels_becomes_a_cap_on_them(tmp_path):
    board, terms = run(Request(("dpo",), (3,), budget="labels:100"), tmp_path)
    (job,) = [job for job in board.submitted if job.method in {"dpo"}]
    assert merge({}, job.words).labels.budget == 100
    assert [pilot.seed for pilot in board.ran if pilot.purpose == "pilot"] == [3]
    reports = [{"metrics": {"cost/labels": 90.0}}, {"metrics": {"cost/labels": 100.0}}]
    assert terms.used_record(reports) == {"amount": 95.0, "share": 0.95}
    assert terms.budget.as_record() == {"kind": "labels", "amount": 100.0}


def test_a_method_that_cannot_keep_to_the_budget_is_left_out_with_its_reason(tmp_path):
    board, terms = run(Request(("dpo",), (0,), budget="labels:4000"), tmp_path)
    if "dpo" in terms.left_out:
        assert [job.method for job in board.submitted] == ["sft"]
        assert terms.left_out["dpo"] in board.lines
    else:
        assert {job.method for job in board.submitted} == {"sft", "dpo"}


def test_too_few_questions_to_choose_by_are_refused(tmp_path):
    rows = [{"id": f"held_out-{n}", "prompt": f"What is {n} and {n * n}?", "answers": [str(n + n * n)]} for n in range(12)]
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps({"kind": "question", **row}) + "\n" for row in rows))
    check_terms(Request(("dpo",), (0,)), tmp_path, [merge({})])
    with pytest.raises(DataError, match="TUNE chooses settings on"):
        check_terms(Request(("dpo",), (0,), tune=2), tmp_path, [merge({})])
    assert subject.REPORTED == ("evaluate.part=reported",)
