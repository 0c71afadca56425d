"""Lengths planned from pilots: on a fake runner whose costs are known, and once on a small world."""

import json
from typing import Any

import pytest

from flows.budgets import Planned, costs_in_store, within_budget
from flows.jobs import Job
from posttrain.comparison.budgets import parse_budget
from posttrain.settings.config import merge
from tasks.workspace.paths import Paths
from tests.flows.fake_jobs import FakeJobs, stage_costs


def plans(jobs: FakeJobs, method: str, budget: str, *overrides: str, seed: int = 7) -> tuple[Planned, ...]:
    config = merge({}, [f"method={method}", *overrides])
    return within_budget(
        method, seed, parse_budget(budget), jobs, config=config, stage_costs=stage_costs, overrides=tuple(overrides)
    )


def used(jobs: FakeJobs, plan: Planned, name: str = "cost/trained_tokens") -> float:
    finished = jobs(Job(plan.method, 0, plan.overrides))
    assert finished.report is not None
    value: float = finished.report["metrics"][name]
    return value


@pytest.mark.parametrize("method", ["sft", "dpo", "reft", "rlhf", "rlaif", "ppo", "grpo"])
@pytest.mark.parametrize(("budget", "amount"), [("tokens:20k", 20_000), ("flops:200k", 200_000), ("seconds:200", 200)])
def test_every_method_uses_what_it_is_given(method: str, budget: str, amount: float) -> None:
    """Its stages before training are counted in: 20,000 tokens of all of them, within half an update of 200."""
    jobs = FakeJobs()
    (plan,) = plans(jobs, method, budget)
    assert plan.reason == "" and plan.amount == amount and all(job.purpose == "pilot" and job.seed == 7 for job in jobs.asked)
    kind = budget.partition(":")[0]
    spent = used(jobs, plan, {"tokens": "cost/trained_tokens", "flops": "cost/flops", "seconds": "cost/train_seconds"}[kind])
    assert spent == pytest.approx(amount, abs=amount / 200) and plan.expected == pytest.approx(spent)


def test_pilots_are_cheap_and_have_the_settings_of_the_comparison() -> None:
    jobs = FakeJobs()
    plans(jobs, "reft", "tokens:2000", "ppo.episodes=128", "data.name=mine")
    (job,) = jobs.asked
    quick = ("evaluate.max_questions=64", "evaluate.samples=1", "evaluate.judge=false")
    assert job.overrides == ("ppo.episodes=128", "data.name=mine", "ppo.updates=9", *quick)


def test_fewer_questions_than_a_pilots_stay_as_they_are() -> None:
    jobs = FakeJobs()
    plans(jobs, "reft", "tokens:2000", "evaluate.max_questions=20")
    assert "evaluate.max_questions=20" in jobs.asked[0].overrides[1:]


def test_a_long_plan_gets_a_second_pilot_since_the_first_saw_the_beginning_alone() -> None:
    """Rollouts that shorten: 400 tokens in each of the first 10 updates, 100 afterwards. One pilot alone would be 3 times off."""
    jobs = FakeJobs(own=lambda updates: 400.0 * min(updates, 10) + 100.0 * max(0, updates - 10))
    (plan,) = plans(jobs, "reft", "tokens:40k")
    # 9 updates cost 3,600: (40,000 - 100) / 400 = 100, of which 0.4 are 40, which cost 7,000. A line through both has 109.7 each
    # and 2,613 once: (40,000 - 100 - 2,613) / 109.7 = 340
    assert [job.overrides[0] for job in jobs.asked] == ["ppo.updates=9", "ppo.updates=40"]
    assert plan.length == 340
    assert used(jobs, plan) == pytest.approx(40_000, rel=0.08)


def test_two_pilots_are_never_close_to_each_other() -> None:
    """A plan of 20 updates: 0.4 of it are 8, fewer than the first pilot's 9, and 18 are asked for."""
    jobs = FakeJobs()
    assert plans(jobs, "reft", "tokens:4100")[0].length == 20
    assert [job.overrides[0] for job in jobs.asked] == ["ppo.updates=9", "ppo.updates=18"]


def test_a_second_pilot_that_fails_leaves_the_first() -> None:
    jobs = FakeJobs(fails=lambda config: "collapsed" if config.ppo.updates > 9 else "")
    assert plans(jobs, "reft", "tokens:20100")[0].length == 100


def test_several_amounts_share_their_pilots() -> None:
    jobs = FakeJobs()
    told = plans(jobs, "dpo", "tokens:700,2k,20k")
    assert [plan.length for plan in told] == [1, 7.5, 97.5] and len(jobs.asked) == 2
    assert [used(jobs, plan) for plan in told] == [700, 2_000, 20_000]


def test_an_amount_out_of_reach_leaves_the_method_out_and_the_others_in() -> None:
    """SFT and samples take 500 by themselves."""
    jobs = FakeJobs()
    small, large = plans(jobs, "dpo", "tokens:500,2k")
    assert small.overrides == () and small.length is None and small.reason.startswith("DPO is out of reach of tokens:500: what ")
    assert large.reason == "" and large.length == 7.5


def test_a_pilot_that_learnt_too_little_to_show_is_run_at_the_usual_length() -> None:
    jobs = FakeJobs(fails=lambda config: "the same answers" if config.ppo.updates < 60 else "")
    assert plans(jobs, "reft", "tokens:20100")[0].length == 100
    assert [job.overrides[0] for job in jobs.asked] == ["ppo.updates=9", "ppo.updates=60"]


def test_a_method_whose_pilots_fail_is_left_out_with_the_reason() -> None:
    jobs = FakeJobs(fails=lambda config: "the reward model is no better than chance")
    told = plans(jobs, "rlhf", "tokens:20k,40k")
    reason = "RLHF is left out: its pilot failed, so what it costs is not known: the reward model is no better than chance"
    assert told == tuple(Planned("rlhf", amount, reason=reason, is_measured=False) for amount in (20_000, 40_000))


def test_nothing_is_planned_for_what_is_not_trained_nor_without_a_budget() -> None:
    jobs = FakeJobs()
    assert plans(jobs, "few_shot", "tokens:20k") == (Planned("few_shot", 20_000),)
    assert plans(jobs, "reft", "defaults") == ()
    assert plans(jobs, "reft", "labels:500,1k") == (Planned("reft", 500, expected=0), Planned("reft", 1000, expected=0))
    assert not jobs.asked


@pytest.mark.parametrize("method", ["dpo", "rlhf", "rlaif"])
def test_methods_that_need_labels_buy_as_many(method: str) -> None:
    jobs = FakeJobs()
    told = plans(jobs, method, "labels:500,4k,10k,40k")
    assert not [word for word in jobs.asked[0].overrides if word.startswith("labels.")]
    assert [used(jobs, plan, "cost/labels") for plan in told] == [500, 4_000, 10_000, 40_000]
    assert len(jobs.asked) - 4 == 1, "one pilot for all amounts"
    assert [len(plan.overrides) for plan in told] == [1, 1, 2, 3]


def test_labels_are_bought_of_what_the_pilot_found_and_not_of_what_was_asked_for_before() -> None:
    """A budget of the request itself does not limit the pilot, and is replaced."""
    jobs = FakeJobs()
    (plan,) = plans(jobs, "dpo", "labels:2k", "labels.budget=100")
    assert plan.overrides == ("labels.budget=2000",)
    assert used(jobs, plan, "cost/labels") == 2_000


def test_costs_are_read_from_the_store(tmp_path: Any) -> None:
    paths = Paths(tmp_path)
    folder = paths.stages / "sft" / "k"
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text(json.dumps({"costs": {"flops": 3.0}}))
    assert costs_in_store(paths)({"stages": [{"name": "sft", "key": "k"}]}) == {"sft": {"flops": 3.0}}
