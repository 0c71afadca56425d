"""What a dry run counts before pilots and trials have told anything."""

import pytest

from flows.compare_request import Request
from flows.expected import expected_jobs, not_known
from posttrain.settings.config import merge


def expected(request):
    return expected_jobs(request, request.jobs(reference="sft"), lambda words, is_told=True: merge({}, words))


def test_without_budget_and_search_the_jobs_are_those_that_were_asked_for():
    request = Request(("dpo",), (0, 1))
    assert expected(request) == request.jobs(reference="sft") and not_known(request) == []


def test_trials_are_counted_with_settings_of_their_own_on_a_seed_of_their_own():
    found = expected(Request(("dpo",), (0, 1), tune=3))
    trials = [job for job in found if job.purpose == "trial"]
    assert [(job.method, job.seed, job.part) for job in trials] == [
        (method, 2, str(n)) for method in ("sft", "dpo") for n in range(3)
    ]
    assert len({(job.method, job.overrides) for job in trials}) == 6 and trials[0].overrides == ("evaluate.part=development",)
    for job in trials:
        assert 0.05 <= merge({}, job.words).dpo.beta <= 1.0
    reported = [job for job in found if job.purpose == "report"]
    assert [job.overrides for job in reported] == [("evaluate.part=reported",)] * 4


def test_pilots_are_counted_and_lengths_are_said_to_be_unknown():
    request = Request(("dpo",), (0,), budget="tokens:10k,20k", tune=1)
    pilots = [job for job in expected(request) if job.purpose == "pilot"]
    assert [(job.method, job.seed) for job in pilots] == [("sft", 0), ("sft", 1), ("dpo", 0), ("dpo", 1)]
    budget, tune = not_known(request)
    assert "how long each method trains is known after the pilots" in budget and "the 2 amounts as one" in budget
    assert tune.startswith("TUNE=1: the trials are counted; ")


@pytest.mark.parametrize("tune", [0, 2])
def test_labels_are_counted_at_each_amount_where_a_method_needs_some(tune):
    found = expected(Request(("dpo",), (0,), budget="labels:100,200", tune=tune))
    told = [(job.method, job.purpose, merge({}, job.words).labels.budget) for job in found if job.purpose in ("report", "level")]
    assert told == [("sft", "report", 0), ("dpo", "level", 100), ("dpo", "report", 200)]
    assert {merge({}, job.words).labels.budget for job in found if (job.method, job.purpose) == ("dpo", "trial")} <= {200}
    assert [job.method for job in found if job.purpose == "pilot"] == ["dpo"] * (1 + bool(tune))
