"""What a search may choose for each method, and what it found."""

import pytest

from posttrain.comparison.budgets import length_of
from posttrain.comparison.tuning import RANGES, Range, Trial, Tuned, parse_trials, ranges_of, readable, unreported_seed
from posttrain.errors import RequestError
from posttrain.methods import METHODS
from posttrain.settings.config import Config, merge
from posttrain.settings.merging import setting_names

COSTLY = ("epochs", "updates", "episodes", "batch_size", "max_steps", "samples_per_prompt", "num_generations", "per_prompt")


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_every_method_has_ranges_that_its_settings_take(method):
    ranges = ranges_of(method)
    assert ranges, f"{method.name} has nothing to search, so it would be compared untuned: give it a row of RANGES"
    assert len({one.setting for one in ranges}) == len(ranges)
    for one in ranges:
        assert one.setting in setting_names(Config)
        section, _, name = one.setting.partition(".")
        start = getattr(getattr(Config(), section), name)
        for value in one.choices or one.around(start):
            merge({}, [f"{one.setting}={value}"])
        low, high = (min(one.choices), max(one.choices)) if one.choices else one.around(start)
        assert one.choices or low < start < high, f"{one.setting}: the default {start} is outside"
        assert not one.is_log or low > 0


def test_no_range_decides_what_a_trial_costs():
    for method in METHODS.values():
        length = length_of(method)
        for one in ranges_of(method):
            assert not one.setting.endswith(COSTLY) and (length is None or one.setting != length.setting)


def test_what_adjusts_a_trainer_stands_in_the_place_of_its_settings():
    names = {method: [one.setting for one in ranges_of(METHODS[method])] for method in ("reft", "rlhf", "drlaif", "grpo", "sft")}
    assert names["reft"] == ["ppo.learning_rate", "ppo.kl_coef", "ppo.gae_lambda"]
    assert names["drlaif"] == ["ppo.learning_rate", "ppo.gae_lambda", "rlhf.kl_coef"]
    assert names["rlhf"] == [*names["drlaif"], "reward_model.learning_rate"]
    assert names["grpo"][:2] == ["ppo.learning_rate", "grpo.kl_coef"]
    assert names["sft"] == ["sft.learning_rate", "sft.warmup_ratio"]


def test_every_range_is_some_methods():
    assert {one for method in METHODS.values() for one in ranges_of(method)} == {one for row in RANGES.values() for one in row}


def test_a_rate_is_searched_around_what_the_request_has():
    assert Range("ppo.learning_rate", factor=4.0, is_log=True).around(1e-6) == (2.5e-7, 4e-6)
    assert Range("dpo.beta", 0.05, 1.0).around(7.0) == (0.05, 1.0)


def test_nothing_is_searched_around_nought():
    with pytest.raises(RequestError) as caught:
        Range("ppo.kl_coef", factor=5.0).around(0.0)
    assert str(caught.value) == (
        "TUNE cannot search around ppo.kl_coef=0: its range is a factor of 5 each way, and 0 has none. Set it above 0, or run "
        "without TUNE"
    )


def test_trials_asked_for():
    assert (parse_trials(""), parse_trials("1"), parse_trials(" 20 ")) == (0, 1, 20)


@pytest.mark.parametrize("text", ["0", "-3", "many", "2.5", "nan"])
def test_a_number_of_trials_that_is_none_is_refused(text):
    with pytest.raises(RequestError) as caught:
        parse_trials(text)
    assert str(caught.value) == (
        f"TUNE={text} must be a whole number of trials, 1 or more: each method gets as many, and its defaults are the first. "
        "Leave TUNE out for no search"
    )


@pytest.mark.parametrize(("seeds", "seed"), [((0, 1, 2), 3), ((10, 3), 11), ((), 0)])
def test_trials_have_a_seed_that_nobody_reports(seeds, seed):
    assert unreported_seed(seeds) == seed and seed not in seeds


def test_values_have_three_digits():
    assert [readable(value) for value in (0.000123456, 1.23449, 0.3)] == [0.000123, 1.23, 0.3]


def trial(number, development, **values):
    return Trial(number, {f"dpo.{name}": value for name, value in values.items()}, development)


START = {"dpo.beta": 0.2, "dpo.learning_rate": 3e-4}


def test_the_best_trial_is_chosen_and_of_equal_ones_the_first():
    done = (trial(0, 0.5), trial(1, 0.8, beta=0.1), trial(2, None, beta=0.9), trial(3, 0.8, beta=0.4))
    tuned = Tuned("dpo", 3, done, START)
    assert (tuned.best.number, tuned.overrides, tuned.failed) == (1, ("dpo.beta=0.1",), 1)
    chosen = {"dpo.beta": 0.1, "dpo.learning_rate": 3e-4}
    assert tuned.as_record() == {"trials": 4, "chosen": chosen, "development": 0.8}
    assert tuned.sentence() == (
        "DPO got 4 trials on seed 3, which is not reported; 1 of them failed, and count. Chosen: dpo.beta=0.1, 0.8 on the "
        "development questions (the request's own: 0.5)"
    )


def test_the_defaults_stand_unless_something_is_better():
    tuned = Tuned("dpo", 3, (trial(0, 0.8), trial(1, 0.8, beta=0.1)), START)
    assert (tuned.overrides, tuned.as_record()["chosen"]) == ((), START)
    assert tuned.sentence().endswith("Nothing was better on the development questions than the request's own settings (0.8)")


def test_where_all_trials_failed_the_request_stands():
    tuned = Tuned("dpo", 3, (trial(0, None),), START)
    assert (tuned.best, tuned.overrides) == (None, ())
    assert tuned.as_record() == {"trials": 1, "chosen": START, "development": None}
    assert tuned.sentence() == (
        "DPO got 1 trial on seed 3, which is not reported; 1 of them failed, and count. All failed, so its settings are the "
        "request's"
    )


def test_defaults_that_fail_are_no_obstacle():
    tuned = Tuned("dpo", 3, (trial(0, None), trial(1, 0.4, beta=0.1)), START)
    assert tuned.overrides == ("dpo.beta=0.1",) and tuned.sentence().endswith("(the request's own: failed)")


def test_a_method_without_trials_says_so():
    tuned = Tuned("dpo", 3)
    assert (tuned.as_record(), tuned.overrides) == (None, ())
    assert tuned.sentence() == (
        "DPO got no trial: nothing of it is searched (posttrain/comparison/tuning.py), so its settings are the request's"
    )


def test_the_tags_of_a_trials_run():
    assert trial(4, 0.5).tags("c-1") == {"posttrain.comparison": "c-1", "posttrain.trial": "4"}
