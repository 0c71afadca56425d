"""Searches on a fake runner whose best setting is known."""

import math
from pathlib import Path
from typing import Any

import pytest

from flows.jobs import Finished, Job
from flows.tuning import check_tuning, tune
from posttrain.comparison.tuning import Trial, Tuned
from posttrain.errors import DataError, RequestError
from posttrain.methods import METHODS
from posttrain.settings.config import merge
from tasks.workspace.jsonl import write_rows
from tests.flows.fake_jobs import FakeJobs


def hill(config: Any) -> float:
    """Accuracy of 0.9 at β = 0.4 and lr = 6e-4, lower the further away, by factors."""
    away = abs(math.log(config.dpo.beta / 0.4)) + abs(math.log(config.dpo.learning_rate / 6e-4))
    return 0.9 - 0.1 * away


def search(jobs: FakeJobs, trials: int = 12, *overrides: str, method: str = "dpo", seed: int = 3, **how: Any) -> Tuned:
    config = merge({}, [f"method={method}", *overrides])
    return tune(method, jobs, trials, config=config, seed=seed, overrides=tuple(overrides), **how)


def test_the_first_trial_has_the_requests_settings_and_all_are_on_the_development_part() -> None:
    jobs = FakeJobs(accuracy=hill)
    search(jobs, 5, "dpo.beta=0.3", "data.name=mine")
    assert jobs.asked[0].overrides == ("dpo.beta=0.3", "data.name=mine", "evaluate.part=development")
    for job in jobs.asked:
        assert (job.purpose, job.seed, job.method) == ("trial", 3, "dpo")
        assert job.overrides[-1] == "evaluate.part=development" and job.overrides[0] == "dpo.beta=0.3"
    names = {word.partition("=")[0] for job in jobs.asked[1:] for word in job.overrides[2:-1]}
    assert names == {"dpo.learning_rate", "dpo.beta", "dpo.nll_weight"}
    assert len(jobs.asked) == 5 and len({job.overrides for job in jobs.asked}) == 5


def test_the_search_finds_the_hill() -> None:
    """The defaults, β 0.2 and 3e-4, are two factors of two away: 0.9 - 0.2 log 2 = 0.761."""
    tuned = search(FakeJobs(accuracy=hill), 40)
    assert tuned.trials[0].development == pytest.approx(0.9 - 0.2 * math.log(2))
    assert tuned.best is not None and tuned.best.development is not None and tuned.best.development > 0.86
    late = [one.development for one in tuned.trials[25:] if one.development is not None]
    early = [one.development for one in tuned.trials[1:10] if one.development is not None]
    assert sum(late) / len(late) > sum(early) / len(early) + 0.05, "the sampler goes by what it has seen"


def test_a_search_asked_for_again_is_the_same_and_another_seed_is_another() -> None:
    first, again, other = (search(FakeJobs(accuracy=hill), 15, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert [one.values for one in first.trials[1:]] != [one.values for one in other.trials[1:]]


def test_a_search_that_was_interrupted_arrives_where_it_was() -> None:
    """What is cut off after 6 trials asks for the same 6 first, which the stage store then has."""

    class CutOff(FakeJobs):
        def __call__(self, job: Job) -> Finished:
            if len(self.asked) == 6:
                raise KeyboardInterrupt
            return super().__call__(job)

    cut, whole = CutOff(accuracy=hill), FakeJobs(accuracy=hill)
    with pytest.raises(KeyboardInterrupt):
        search(cut)
    search(whole)
    assert whole.asked[:6] == cut.asked and len(whole.asked) == 12


def test_what_the_requests_settings_gave_teaches_the_sampler() -> None:
    """Two runs that differ in the first figure alone: later trials differ."""

    def first_is(value: float) -> FakeJobs:
        return FakeJobs(accuracy=lambda config: value if config.dpo.beta == 0.2 else hill(config))

    bad, good = search(first_is(0.0)), search(first_is(1.0))
    assert [one.values for one in bad.trials[:2]] == [one.values for one in good.trials[:2]]
    assert [one.values for one in bad.trials[2:]] != [one.values for one in good.trials[2:]]


def test_trials_that_fail_count_and_teach() -> None:
    """Rates above 4e-4 break: they are tried less often later, and never chosen."""

    def breaks(config: Any) -> str:
        return "diverged" if config.dpo.learning_rate > 4e-4 else ""

    jobs = FakeJobs(accuracy=hill, fails=breaks)
    tuned = search(jobs, 30)
    assert len(tuned.trials) == len(jobs.asked) == 30 and 0 < tuned.failed < 20
    assert {one.error for one in tuned.trials if one.development is None} == {"diverged"}
    assert tuned.best is not None and tuned.best.development is not None and "dpo.beta" in tuned.best.values
    assert [one.run_id for one in tuned.trials] == [
        "" if one.development is None else f"run {one.number + 1}" for one in tuned.trials
    ]


def test_where_all_fail_and_where_the_defaults_alone_fail() -> None:
    assert search(FakeJobs(fails=lambda config: "no"), 4).overrides == ()
    tuned = search(FakeJobs(accuracy=hill, fails=lambda config: "no" if config.dpo.beta == 0.2 else ""), 4)
    assert tuned.trials[0].error == "no" and tuned.best is not None and tuned.best.number > 0


def test_an_undefined_figure_is_a_failure_and_never_nought() -> None:
    tuned = search(FakeJobs(accuracy=lambda config: None), 3)
    assert (tuned.failed, tuned.trials[0].error) == (3, "its figure is undefined")


def test_the_figure_that_decides_is_a_choice() -> None:
    tuned = search(FakeJobs(accuracy=hill), 6, value_of=lambda report: -report["metrics"]["eval/accuracy"])
    assert tuned.best is not None and tuned.best.development == max(one.development for one in tuned.trials if one.development)


def test_whoever_asks_is_told_each_trial_as_it_ends() -> None:
    told: list[tuple[Trial, Finished]] = []
    tuned = search(FakeJobs(accuracy=hill), 3, tell=lambda trial, finished: told.append((trial, finished)))
    assert tuple(trial for trial, _ in told) == tuned.trials and told[0][1].job.purpose == "trial"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gets_as_many_trials_as_any_other(method: str) -> None:
    jobs = FakeJobs()
    tuned = search(jobs, 4, method=method)
    assert len(tuned.trials) == len(jobs.asked) == 4


def test_a_method_without_ranges_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.tuning.ranges_of", lambda row: ())
    jobs = FakeJobs()
    assert search(jobs, 4) == Tuned("dpo", 3) and not jobs.asked


def test_a_request_outside_a_range_widens_it() -> None:
    jobs = FakeJobs(accuracy=hill)
    tuned = search(jobs, 20, "dpo.beta=4")
    tried = [float(one.values["dpo.beta"]) for one in tuned.trials[1:]]
    assert max(tried) > 1 and max(tried) <= 4


def test_a_value_that_no_logarithm_has_is_tried_first_and_not_told_to_the_sampler() -> None:
    tuned = search(FakeJobs(accuracy=hill), 6, "dpo.nll_weight=0")
    assert tuned.start["dpo.nll_weight"] == 0 and tuned.failed == 0
    assert all(0.1 <= float(one.values["dpo.nll_weight"]) <= 3 for one in tuned.trials[1:])


# --- what is refused before anything runs -----------------------------------------------------------------------------


def held_out(folder: Path, count: int) -> Path:
    rows = [
        {"kind": "question", "id": f"q{one}", "prompt": f"n{one}a buys n{one}b n{one}c", "answers": ["1"]} for one in range(count)
    ]
    write_rows(folder / "held_out.jsonl", rows)
    return folder


def test_enough_questions_to_choose_by(tmp_path: Path) -> None:
    assert 150 < check_tuning(held_out(tmp_path, 1000), [merge({}, [])]) < 250


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "on 19 of the 120 held-out questions of world (evaluate.development_share=0.2); fewer"),
        (
            ["evaluate.development_share=0.9", "evaluate.max_questions=20", "data.name=mine"],
            "on 107 of the 120 held-out questions of mine (evaluate.development_share=0.9), of which 20 are asked "
            "(evaluate.max_questions); fewer",
        ),
    ],
)
def test_too_few_are_refused_with_their_number(tmp_path: Path, words: list[str], told: str) -> None:
    with pytest.raises(DataError) as caught:
        check_tuning(held_out(tmp_path, 120), [merge({}, words)])
    assert str(caught.value) == (
        f"TUNE chooses settings {told} than 50 choose by chance. Hold more questions out, raise that share, or run without TUNE"
    )


def test_a_setting_without_a_range_is_refused_before_the_first_trial(tmp_path: Path) -> None:
    configs = [merge({}, ["method=sft"]), merge({}, ["method=reft", "ppo.kl_coef=0"])]
    with pytest.raises(RequestError, match=r"^TUNE cannot search around ppo\.kl_coef=0: "):
        check_tuning(held_out(tmp_path, 1000), configs)
