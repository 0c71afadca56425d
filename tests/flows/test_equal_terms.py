"""Budgets and tuning together, on a fake runner whose costs and best setting are known."""

from typing import Any

import pytest

from flows.equal_terms import Terms, equal_terms
from flows.jobs import Job
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
    assert told == Terms("dpo", tuple((None, Job("dpo", seed, ("data.name=mine",))) for seed in (4, 9))) and not jobs.asked
    assert told.notes == []


def test_a_pilot_shares_the_stages_of_the_first_reported_seed_or_of_the_trials() -> None:
    alone, searched = FakeJobs(), FakeJobs()
    terms(alone, "dpo", "tokens:2k")
    terms(searched, "dpo", "tokens:2k", 2)
    assert {job.seed for job in alone.asked} == {4} and {job.seed for job in searched.asked} == {10}


def test_trials_are_within_the_largest_amount_and_reported_runs_within_each() -> None:
    jobs = FakeJobs(accuracy=best_at_a_high_beta)
    told = terms(jobs, "dpo", "tokens:2k,4k", 6, "data.name=mine")
    # 500 come before training and an epoch costs 200: 7.5 and 17.5 of them
    trials = [job for job in jobs.asked if job.purpose == "trial"]
    assert len(trials) == 6 and all(job.overrides[:2] == ("data.name=mine", "dpo.epochs=17.5") for job in trials)
    assert told.tuned is not None and told.tuned.best is not None and told.tuned.best.number > 0
    assert [(amount, job.seed, job.overrides[1], job.purpose) for amount, job in told.jobs] == [
        (2000, 4, "dpo.epochs=7.5", "report"),
        (2000, 9, "dpo.epochs=7.5", "report"),
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
