"""What every method is given alike: jobs at the defaults, or with the settings that pilots and trials found."""

import json
from dataclasses import replace

import pytest

from flows import equal as subject
from flows.compare_request import Request
from flows.equal import check_terms, producers, terms_of
from flows.jobs import Finished, Job
from posttrain.errors import ContractError, DataError
from posttrain.settings.config import merge
from tasks.workspace.paths import Paths


class Board:
    """Takes jobs; a trial's figure is told by its β, and each pilot buys 400 labels."""

    def __init__(self, fails=()):
        self.submitted, self.ran, self.lines, self.fails = [], [], [], fails
        self.screen = self

    def submit(self, job):
        self.submitted.append(job)

    def say(self, line):
        self.lines.append(line)

    def run_job(self, job):
        self.ran.append(job)
        if job.method in self.fails:
            return Finished(job, None, error="refused", code=3)
        metrics = {"beta": merge({}, job.words).dpo.beta, "cost/labels": 400.0}
        return Finished(job, {"metrics": metrics, "stages": [{"name": "sample"}], "mlflow": {"run_id": "r"}})


@pytest.fixture(autouse=True)
def figures(monkeypatch):
    """The figure of a report is its β, or what it says of the metric."""
    told = []

    def level_of(paths, report, metric):
        told.append(metric)
        return report["metrics"].get(metric, report["metrics"].get("beta"))

    monkeypatch.setattr(subject, "level_of", level_of)
    return told


def run(request, tmp_path, *, metric="accuracy", board=None, tell=lambda trial, finished: None):
    board = board or Board()
    terms = terms_of(request, merge({}, [f"compare.metric={metric}"]), tmp_path)
    configuration = lambda words, is_told=True: merge({}, words)  # noqa: E731
    jobs = request.jobs(reference="sft")
    for produce in producers(Paths(tmp_path), request, terms, jobs, board, configuration, tell=tell):
        produce()
    return board, terms


def test_at_the_defaults_all_jobs_wait_at_once(tmp_path):
    request = Request(("dpo",), (0, 1), settings=("dpo.epochs=1",))
    board, terms = run(request, tmp_path, metric="auto")
    assert board.submitted == list(request.jobs(reference="sft")) and not board.ran
    assert (terms.notes, terms.left_out, terms.tuned_record("dpo"), terms.used_record([])) == ([], {}, None, None)
    assert terms.levels(Paths(tmp_path), [], "accuracy") is None


def test_each_method_gets_its_trials_on_a_seed_and_on_questions_that_nobody_reports(tmp_path):
    told = []
    tell = lambda trial, finished: told.append((trial.number, finished.job.method))  # noqa: E731
    board, terms = run(Request(("dpo",), (0, 1), tune=3), tmp_path, tell=tell)
    trials = [job for job in board.ran if job.purpose == "trial"]
    assert {job.seed for job in trials} == {2} and all("evaluate.part=development" in job.overrides for job in trials)
    assert [(job.part, job.mark) for job in trials if job.method in {"dpo"}] == [(str(n), str(n)) for n in range(3)]
    assert told == [(n, method) for method in ("sft", "dpo") for n in range(3)]
    reported = [job for job in board.submitted if job.method in {"dpo"}]
    assert [job.seed for job in reported] == [0, 1]
    chosen = terms.tuned_record("dpo")["chosen"]["dpo.beta"]
    assert chosen == max(float(merge({}, job.words).dpo.beta) for job in trials if job.method in {"dpo"})
    for job in board.submitted:
        assert "evaluate.part=reported" in job.overrides and job.purpose == "report"
        assert merge({}, job.words).evaluate.part == "reported"
    assert merge({}, reported[0].words).dpo.beta == pytest.approx(chosen)
    assert len(terms.notes) == 2, "a sentence a method"


def test_a_search_goes_by_the_comparisons_metric_and_a_loss_is_told_as_one(tmp_path, figures):
    class Losses(Board):
        def run_job(self, job):
            finished = super().run_job(job)
            loss = 0.5 + abs(merge({}, job.words).dpo.beta - 0.6)
            return replace(finished, report={**finished.report, "metrics": {"reference_loss": -loss}})

    board, terms = run(Request(("dpo",), (0,), tune=6), tmp_path, metric="reference_loss", board=Losses())
    assert set(figures) == {"reference_loss"}
    told = terms.tuned_record("dpo")
    betas = [merge({}, job.words).dpo.beta for job in board.ran if job.method in {"dpo"}]
    nearest = min(betas, key=lambda beta: abs(beta - 0.6))
    assert told["chosen"]["dpo.beta"] == pytest.approx(nearest) and nearest != betas[0]
    assert told["development"] == pytest.approx(0.5 + abs(nearest - 0.6))
    assert "-" not in terms.notes[1].partition("Chosen")[2].partition(", ")[2], "no loss below 0 is told"


@pytest.mark.parametrize(("answers", "metric"), [(["4"], "accuracy"), ([], "reference_loss")])
def test_the_metric_of_a_search_is_decided_by_all_held_out_questions(tmp_path, answers, metric):
    row = {"kind": "question", "id": "a", "prompt": "What is 2 and 2?", "reference": "4", "answers": answers}
    (tmp_path / "held_out.jsonl").write_text(json.dumps(row) + "\n")
    assert terms_of(Request(("dpo",), (0,), tune=2), merge({}), tmp_path).metric == metric
    asked = merge({}, ["compare.metric=accuracy_sampled"])
    assert terms_of(Request(("dpo",), (0,), tune=2), asked, tmp_path).metric == "accuracy_sampled"


def test_a_budget_of_labels_becomes_a_cap_on_them(tmp_path):
    board, terms = run(Request(("dpo",), (3,), budget="labels:100"), tmp_path)
    (job,) = [job for job in board.submitted if job.method in {"dpo"}]
    assert merge({}, job.words).labels.budget == 100
    assert [pilot.seed for pilot in board.ran if pilot.purpose == "pilot"] == [3]
    reports = [{"metrics": {"cost/labels": 90.0}}, {"metrics": {"cost/labels": 100.0}}]
    assert terms.used_record(reports) == {"amount": 95.0, "share": 0.95}
    assert terms.budget.as_record() == {"kind": "labels", "amount": 100.0}
    assert terms.levels(Paths(tmp_path), [Finished(job, reports[0])], "accuracy") is None


@pytest.mark.parametrize(("metric", "sign"), [("accuracy", 1), ("reference_loss", -1)])
def test_several_amounts_are_levels_of_a_curve_and_the_largest_is_reported(tmp_path, metric, sign):
    board, terms = run(Request(("dpo",), (3, 5), budget="labels:100,200"), tmp_path)
    of_dpo = [(job.purpose, job.part, job.seed, merge({}, job.words).labels.budget) for job in board.submitted[2:]]
    assert of_dpo == [("report", "", 3, 200), ("report", "", 5, 200), ("level", "100", 3, 100), ("level", "100", 5, 100)]
    # SFT needs no labels, so one run of a seed stands at every amount
    assert board.submitted[:2] == [Job("sft", 3), Job("sft", 5)] and len(board.submitted) == 6

    def finished(job, value):
        bought = 0.0 if job.method in {"sft"} else merge({}, job.words).labels.budget - 2.0
        return Finished(job, {"method": job.method, "metrics": {metric: sign * value, "cost/labels": bought}})

    told = [finished(job, 0.1 * place) for place, job in enumerate(board.submitted)]
    told[3] = Finished(told[3].job, None, error="its disk was full", code=2)
    rows = terms.levels(Paths(tmp_path), told, metric)
    assert [(row["amount"], row["method"], row["seed"], round(row["value"], 6), row["used"]) for row in rows] == [
        (100, "sft", 3, 0.0, 0),
        (100, "sft", 5, 0.1, 0),
        (100, "dpo", 3, 0.4, 98),
        (100, "dpo", 5, 0.5, 98),
        (200, "sft", 3, 0.0, 0),
        (200, "sft", 5, 0.1, 0),
        (200, "dpo", 3, 0.2, 198),
    ]


def test_a_method_that_cannot_keep_to_the_budget_is_left_out_with_its_reason(tmp_path):
    board, terms = run(Request(("dpo",), (0,), budget="labels:100"), tmp_path, board=Board(fails=("dpo",)))
    assert [job.method for job in board.submitted] == ["sft"]
    reason = "DPO is left out: its pilot failed, so what it costs is not known: refused"
    assert terms.left_out == {"dpo": reason} and board.lines == [reason] and terms.notes == []


def test_without_the_reference_nothing_can_be_compared(tmp_path):
    with pytest.raises(
        ContractError, match=r"^every method is compared with the reference, which has no run\. SFT is left out: "
    ):
        run(Request(("dpo",), (0,), budget="tokens:100"), tmp_path, board=Board(fails=("sft",)))


def test_too_few_questions_to_choose_by_are_refused(tmp_path):
    rows = [{"id": f"held_out-{n}", "prompt": f"What is {n} and {n * n}?", "answers": [str(n + n * n)]} for n in range(12)]
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps({"kind": "question", **row}) + "\n" for row in rows))
    check_terms(Request(("dpo",), (0,)), tmp_path, [merge({})])
    with pytest.raises(DataError, match="TUNE chooses settings on"):
        check_terms(Request(("dpo",), (0,), tune=2), tmp_path, [merge({})])
