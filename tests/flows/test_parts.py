"""The part of the held-out questions that is asked, and a planned length, in real pipelines on a small world."""

from pathlib import Path

import pytest
import yaml

from flows.budgets import costs_in_store, within_budget
from flows.jobs import Finished, Job
from posttrain.comparison.budgets import parse_budget, used
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
    """A pilot of one epoch, a second one, and the plan. An epoch is four steps here, and the last step is whole."""
    jobs: list[Job] = []

    def run_job(job: Job) -> Finished:
        jobs.append(job)
        run(house, "pipeline", f"method={job.method}", *job.overrides, f"seed={job.seed}")
        return Finished(job, report(house))

    small = ("sft.batch_size=4",)
    config, budget = merge(yaml.safe_load(SMALL), ["method=sft", *small]), parse_budget("tokens:20k")
    costs = costs_in_store(Paths(house))
    (plan,) = within_budget("sft", 0, budget, run_job, config=config, stage_costs=costs, overrides=small)
    finished = run_job(Job("sft", 0, (*small, *plan.overrides)))
    assert finished.report is not None and [job.purpose for job in jobs] == ["pilot", "pilot", "report"]
    spent = used(budget, plan.amount, finished.report["metrics"])
    assert spent is not None and abs(spent["share"] - 1) < 0.05, (plan, spent)
