"""The part of the held-out questions that is asked, and a planned length, in real pipelines on a small world."""

from pathlib import Path

import pytest
import yaml

from flows.budgets import costs_in_store, within_budget
from flows.jobs import Finished, Job
from posttrain.comparison.budgets import cost_of_stage, parse_budget, used
from posttrain.settings.config import merge
from tasks.workspace.jsonl import PROBLEMS, read_rows
from tasks.workspace.paths import Paths
from tests.flows.houses import SMALL, new_house, ran, report, run


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_house(tmp_path_factory.mktemp("parts") / "house")


def asked(house: Path, stage: str) -> set[str]:
    """Return the ids of the questions that the last pipeline's stage answered."""
    key = next(one["key"] for one in report(house)["stages"] if one["name"] == stage)
    return {row["id"] for row in read_rows(Paths(house).stages / stage / key / PROBLEMS)}


def test_a_trial_and_a_reported_run_share_their_training_and_no_question(house: Path) -> None:
    run(house, "pipeline", "method=sft", "evaluate.part=reported")
    reported, told = asked(house, "evaluate-sft"), report(house)["notes"][0]
    run(house, "pipeline", "method=sft", "evaluate.part=development")
    assert ran(house) == ["part", "evaluate-sft", "evaluate-base"]
    chosen = asked(house, "evaluate-sft")
    everything = {row["id"] for row in read_rows(house / "data" / "world" / "held_out.jsonl")}
    assert not reported & chosen and reported | chosen == everything and len(chosen) >= 2
    assert told == (
        f"models are measured on {len(reported)} of the {len(everything)} held-out questions (evaluate.part=reported); the "
        "others are for choosing settings, and none of these did"
    )


def test_a_planned_run_uses_what_it_was_given(house: Path) -> None:
    """A pilot of two updates, a second one, and the plan; an update has 16 responses here, so a tenth of it is chance."""

    jobs: list[Job] = []

    def run_job(job: Job) -> Finished:
        jobs.append(job)
        run(house, "pipeline", f"method={job.method}", *job.overrides, f"seed={job.seed}")
        return Finished(job, report(house))

    config = merge(yaml.safe_load(SMALL), ["method=reft"])
    budget = parse_budget("tokens:20k")
    (plan,) = within_budget("reft", 0, budget, run_job, config=config, stage_costs=costs_in_store(Paths(house)))
    finished = run_job(Job("reft", 0, plan.overrides))
    assert finished.report is not None
    spent = used(budget, plan.amount, finished.report["metrics"])
    assert spent is not None and plan.length is not None and plan.expected is not None
    assert abs(spent["amount"] / plan.expected - 1) < 0.1, (plan, spent)
    # updates are whole, so half of one is left or too much
    own = cost_of_stage("tokens", costs_in_store(Paths(house))(finished.report)["ppo"])
    half_an_update = own / plan.length / 2
    assert abs(spent["amount"] - budget.amounts[0]) < half_an_update + 0.1 * budget.amounts[0], (plan, spent)
    assert [job.purpose for job in jobs] == ["pilot", "pilot", "report"]
