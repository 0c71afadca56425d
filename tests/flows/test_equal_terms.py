"""Budgets and tuning together, on a fake runner whose costs and best setting are known."""

from typing import Any

import pytest

from flows.equal_terms import Terms, equal_terms
from flows.jobs import Finished, Job
from posttrain.comparison.budgets import parse_budget
from posttrain.settings.config import merge
from tests.flows.fake_jobs import FakeJobs, stage_costs


def terms(jobs: FakeJobs, method: str, budget: str = "defaults", trials: int = 0, *overrides: str) -> Terms:
    config = merge({}, [f"method={method}", *overrides])
    return equal_terms(
        method,
        (4, 9),
        jobs,
        budget=parse_budget(budget),
        trials=trials,
        config=config,
        stage_costs=stage_costs,
        overrides=tuple(overrides),
    )


def best_at_a_high_beta(config: Any) -> float:
    return 0.5 + min(config.dpo.beta, 1.0) / 4


def test_without_budget_or_search_jobs_are_as_they_were() -> None:
    jobs = FakeJobs()
    told = terms(jobs, "dpo", "defaults", 0, "data.name=mine")
    assert told.jobs == tuple((None, Job("dpo", seed, ("data.name=mine",))) for seed in (4, 9)) and not jobs.asked
    assert told.notes == []


class Seeded(FakeJobs):
    """Runs of seed 9 cost twice as much an epoch, as where more pairs are decided."""

    def __call__(self, job: Job) -> Finished:
        self.own = lambda length: (400.0 if job.seed == 9 else 200.0) * length
        return super().__call__(job)


def test_each_seed_is_planned_by_its_own_pilots() -> None:
    """500 come before training: 1,500 of 2,000 are left, 7.5 epochs at 200 and 3.75 at 400."""
    jobs = Seeded()
    told = terms(jobs, "dpo", "tokens:2k", 2)
    assert [(job.seed, job.overrides[0]) for _, job in told.jobs] == [(4, "dpo.epochs=7.5"), (9, "dpo.epochs=3.75")]
    pilots = [job.seed for job in jobs.asked if job.purpose == "pilot"]
    assert sorted(set(pilots)) == [4, 9, 10], "and the trials by theirs"


def test_a_seed_whose_pilots_fail_is_tried_by_the_plan_of_another() -> None:
    jobs = FakeJobs(fails=lambda config: "refused" if config.seed in (9, 10) else "")
    told = terms(jobs, "dpo", "tokens:2k", 1)
    assert [(job.seed, job.overrides[0]) for _, job in told.jobs] == [(4, "dpo.epochs=7.5"), (9, "dpo.epochs=7.5")]
    assert [job.overrides[0] for job in jobs.asked if job.purpose == "trial"] == ["dpo.epochs=7.5"]


def test_an_amount_that_one_seed_cannot_reach_has_none() -> None:
    """The shortest training, 0.05 epochs, takes 510 or 520 with what comes before."""
    told = terms(Seeded(), "dpo", "tokens:515,2k")
    assert [amount for amount, _ in told.jobs] == [2000, 2000] and len(told.notes) == 1


def test_where_all_pilots_fail_the_method_is_left_out() -> None:
    told = terms(FakeJobs(fails=lambda config: "refused"), "dpo", "tokens:2k", 3)
    assert (told.jobs, told.notes) == (
        (),
        ["DPO is left out: its pilot failed, so what it costs is not known: refused"],
    )


def test_trials_are_within_the_largest_amount_and_reported_runs_within_each() -> None:
    jobs = FakeJobs(accuracy=best_at_a_high_beta)
    told = terms(jobs, "dpo", "tokens:2k,4k", 6, "data.name=mine")
    # 500 come before training and an epoch costs 200: 7.5 and 17.5 of them
    trials = [job for job in jobs.asked if job.purpose == "trial"]
    assert len(trials) == 6 and all(job.overrides[:2] == ("data.name=mine", "dpo.epochs=17.5") for job in trials)
    assert told.tuned is not None and told.tuned.best is not None and told.tuned.best.number > 0
    assert [(amount, job.seed, job.overrides[1], job.purpose) for amount, job in told.jobs] == [
        (2000, 4, "dpo.epochs=7.5", "level"),
        (2000, 9, "dpo.epochs=7.5", "level"),
        (4000, 4, "dpo.epochs=17.5", "report"),
        (4000, 9, "dpo.epochs=17.5", "report"),
    ]
    for _, job in told.jobs:
        assert set(told.tuned.overrides) < set(job.overrides) and job.overrides[-1] == "evaluate.part=reported"
    assert told.notes == [told.tuned.sentence()]


def test_a_search_that_found_nothing_better_is_reported_on_the_same_questions_all_the_same() -> None:
    """Or the methods of one comparison would be measured on different questions."""
    told = terms(FakeJobs(), "dpo", "defaults", 3)
    assert [job.overrides for _, job in told.jobs] == [("evaluate.part=reported",)] * 2


def test_a_method_without_ranges_is_reported_on_the_same_questions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.tuning.ranges_of", lambda row: ())
    told = terms(FakeJobs(), "dpo", "defaults", 3)
    assert [job.overrides for _, job in told.jobs] == [("evaluate.part=reported",)] * 2
    assert told.notes[0].startswith("DPO got no trial")


def test_an_amount_out_of_reach_has_no_jobs_and_the_others_have() -> None:
    told = terms(FakeJobs(), "dpo", "tokens:400,2k")
    assert [amount for amount, _ in told.jobs] == [2000, 2000] and len(told.notes) == 1


def test_what_is_out_of_reach_at_the_largest_amount_is_neither_tuned_nor_run() -> None:
    jobs = FakeJobs()
    told = terms(jobs, "rlhf", "tokens:400,800", 5)
    assert told.jobs == () and told.tuned is None and not [job for job in jobs.asked if job.purpose == "trial"]
    assert [note[:36] for note in told.notes] == ["RLHF is out of reach of tokens:400: ", "RLHF is out of reach of tokens:800: "]
