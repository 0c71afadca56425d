"""Budgets: read, what was used of them, and how long a method trains to use them up."""

import pytest

from posttrain.comparison.budgets import (
    COSTS,
    LENGTHS,
    Budget,
    Length,
    Measured,
    Pairs,
    cost_of,
    cost_of_stage,
    labels_overrides,
    length_of,
    level,
    off_budget,
    parse_budget,
    planned,
    shown,
    used,
)
from posttrain.errors import RequestError
from posttrain.methods import METHODS
from posttrain.settings.config import Config, merge
from posttrain.settings.merging import setting_names

# --- what is asked for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "amounts"),
    [
        ("", "defaults", ()),
        ("defaults", "defaults", ()),
        ("labels:500", "labels", (500.0,)),
        ("labels:4000,500,1k", "labels", (500.0, 1000.0, 4000.0)),
        (" Tokens : 2M ", "tokens", (2e6,)),
        ("flops:1.5e12", "flops", (1.5e12,)),
        ("flops:3T", "flops", (3e12,)),
        ("flops:7G,2P", "flops", (7e9, 2e15)),
        ("seconds:0.5", "seconds", (0.5,)),
        ("tokens:10K", "tokens", (1e4,)),
    ],
)
def test_a_budget_is_a_kind_and_amounts(text, kind, amounts):
    budget = parse_budget(text)
    assert (budget.kind, budget.amounts) == (kind, amounts)
    assert budget.amount == (amounts[-1] if amounts else None)
    assert budget.as_record() == {"kind": kind, "amount": budget.amount}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "lables:500",
            "BUDGET=lables:500: there is no budget of lables; did you mean labels? Budgets are defaults, labels:N, tokens:N, "
            "flops:N and seconds:N",
        ),
        (
            "500",
            "BUDGET=500: there is no budget of 500. Budgets are defaults, labels:N, tokens:N, flops:N and seconds:N",
        ),
        ("defaults:5", "BUDGET=defaults:5: defaults takes no amount, since each method trains as long as its settings say"),
        ("tokens", "BUDGET=tokens needs an amount: BUDGET=tokens:10k, or several for a curve: BUDGET=tokens:1k,4k,16k"),
        ("tokens: ", "BUDGET=tokens:  needs an amount: BUDGET=tokens:10k, or several for a curve: BUDGET=tokens:1k,4k,16k"),
        ("tokens:ten", "BUDGET=tokens:ten: ten is no amount. Write 10000, 10k, 1e6 or 2M; commas part several"),
        ("tokens:5,", "BUDGET=tokens:5,: nothing is no amount. Write 10000, 10k, 1e6 or 2M; commas part several"),
        ("tokens:inf", "BUDGET=tokens:inf: inf is no amount. Write 10000, 10k, 1e6 or 2M; commas part several"),
        ("tokens:k", "BUDGET=tokens:k: k is no amount. Write 10000, 10k, 1e6 or 2M; commas part several"),
        (
            "tokens:10,000",
            "BUDGET=tokens:10,000: an amount must be more than 0, got 000. Commas part several amounts, so write 10k for 10,000",
        ),
        (
            "labels:-1",
            "BUDGET=labels:-1: an amount must be more than 0, got -1. Commas part several amounts, so write 10k for 10,000",
        ),
        ("labels:2.5", "BUDGET=labels:2.5: labels must be a whole number, got 2.5"),
        ("labels:1k,1000", "BUDGET=labels:1k,1000: the amount 1,000 stands there twice"),
    ],
)
def test_a_budget_that_is_none_is_refused(text, message):
    with pytest.raises(RequestError) as caught:
        parse_budget(text)
    assert str(caught.value) == message


# --- what was used ----------------------------------------------------------------------------------------------------

METRICS = {
    "cost/labels": 40.0,
    "cost/generated_tokens": 1000.0,
    "cost/trained_tokens": 300.0,
    "cost/critic_tokens": 70.0,
    "cost/forward_tokens": 5000.0,
    "cost/flops": 2e9,
    "cost/train_seconds": 12.5,
    "eval/accuracy": 0.5,
}


def test_what_each_kind_counts():
    # tokens: 1000 generated + 300 trained + 70 of the critic; the 5,000 that were only read are in flops
    expected = {"labels": 40, "tokens": 1370, "flops": 2e9, "seconds": 12.5}
    assert {kind: cost_of(kind, METRICS) for kind in COSTS} == expected


def test_a_stage_has_the_costs_of_what_it_did_alone():
    assert cost_of_stage("tokens", {"trained_tokens": 5, "flops": 9.0}) == 5
    assert cost_of_stage("labels", {"trained_tokens": 5}) == 0


@pytest.mark.parametrize("metrics", [{}, {**METRICS, "cost/critic_tokens": None}])
def test_an_unknown_cost_is_never_nought(metrics):
    with pytest.raises(ValueError, match=r"^the report has no cost/\w+, so what was used of tokens is not known$"):
        cost_of("tokens", metrics)


def test_a_method_far_from_its_budget_is_named():
    seconds, tokens = {"kind": "seconds", "amount": 60.0}, {"kind": "tokens", "amount": 12_500.0}
    assert off_budget(tokens, {"SFT": 1.25, "DPO": 0.8, "few-shot": 0.0}) == [] == off_budget(tokens, {})
    assert off_budget(seconds, {"SFT": 2.584, "DPO": 1.0, "ReFT": 0.79}) == [
        "the methods are not compared at equal cost: of the budget of 60 seconds SFT used 258 %, ReFT used 79 %; seconds depend "
        "on what else the machine does, tokens and flops do not"
    ]
    assert off_budget(tokens, {"SFT": 1.26}) == [
        "the methods are not compared at equal cost: of the budget of 12,500 tokens SFT used 126 %"
    ]


def test_the_share_of_a_budget_that_was_used():
    budget = Budget("tokens", (1000.0, 2000.0))
    assert used(budget, 2000.0, METRICS) == {"amount": 1370, "share": 0.685}
    assert used(budget, 1000.0, METRICS) == {"amount": 1370, "share": 1.37}, "above 1 where it went over"
    assert used(Budget(), None, METRICS) is None
    assert level(1000.0, "dpo", 2, 0.8, 990.0) == {"amount": 1000, "method": "dpo", "seed": 2, "value": 0.8, "used": 990}


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (12500, "12,500"),
        (2.1e12, "2.1e+12"),
        (1e9, "1e+09"),
        (999_999_999, "999,999,999"),
        (0.5, "0.5"),
        (3, "3"),
        (9.5, "9.5"),
        (10.4, "10"),
        (12.34, "12"),
    ],
)
def test_amounts_as_people_read_them(amount, text):
    assert shown(amount) == text


# --- how long a method trains -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_every_trained_method_has_one_setting_that_decides_its_length(method):
    """A new trainer without one would be left out of every budget: give it a row of LENGTHS."""
    length = length_of(method)
    assert (length is None) == method.is_prompted
    if length:
        names = setting_names(Config)
        assert length.setting in names and (not length.uncut or length.uncut in names)
        config = merge({}, [f"method={method.name}", *length.overrides(7)])
        section, _, name = length.setting.partition(".")
        assert getattr(getattr(config, section), name) == 7
        if hasattr(getattr(config, section), "max_steps"):
            assert getattr(config, section).max_steps == 10**9, "a planned length is not cut off by max_steps"
    assert method.own_stage in method.stages


def test_pilots_are_short_and_never_longer_than_the_training_itself():
    updates, epochs = LENGTHS["ppo"], LENGTHS["dpo"]
    assert [updates.pilot(default) for default in (60, 200, 3, 1)] == [9, 30, 2, 1]
    assert [epochs.pilot(default) for default in (10, 2, 0.5)] == [2.5, 1, 0.5]
    assert {name: one.pilot(10) for name, one in LENGTHS.items()} == {**dict.fromkeys(LENGTHS, 2.5), "ppo": 2}
    assert (updates.rounded(3.5001), epochs.rounded(3.14159)) == (4, 3.142)


PPO, DPO = METHODS["ppo"], METHODS["dpo"]
UPDATES, EPOCHS = LENGTHS["ppo"], LENGTHS["dpo"]
TOKENS = Budget("tokens", (10_000.0,))


def test_one_pilot_by_hand():
    """1,000 tokens come before, 10 updates cost 2,000: 9,000 are left, at 200 an update that is 45."""
    plan = planned(PPO, UPDATES, TOKENS, 10_000, [Measured(length=10, own=2_000, upstream=1_000)])
    assert (plan.length, plan.expected, plan.reason) == (45, 10_000, "")


def test_two_pilots_by_hand():
    """10 updates cost 2,500 and 30 cost 6,500: 200 each and 500 once. (10,000 - 1,000 - 500) / 200 = 42.5, a half to even."""
    pilots = [Measured(10, 2_500, 1_000), Measured(30, 6_500, 1_000)]
    plan = planned(PPO, UPDATES, TOKENS, 10_000, pilots)
    assert (plan.length, plan.expected) == (42, 1_000 + 500 + 42 * 200)
    longer = planned(PPO, UPDATES, TOKENS, 12_000, pilots)
    assert longer.length == 52, "2,000 more are 10 updates more"


def test_two_pilots_of_a_line_agree_with_one():
    line = [Measured(length, 300.0 * length, 50.0) for length in (2.0, 8.0)]
    assert planned(DPO, EPOCHS, TOKENS, 10_000, line) == planned(DPO, EPOCHS, TOKENS, 10_000, line[:1])


def test_a_second_pilot_that_cost_less_than_the_first_is_taken_by_itself():
    """As seconds may on a busy machine: no line through the two rises, so the longer one's rate holds."""
    assert planned(PPO, UPDATES, TOKENS, 10_000, [Measured(10, 3_000, 0), Measured(20, 2_000, 0)]).length == 100


def test_epochs_have_four_digits_and_updates_are_whole():
    assert planned(DPO, EPOCHS, TOKENS, 10_000, [Measured(1, 3_000, 1_000)]).length == 3
    assert planned(DPO, EPOCHS, TOKENS, 10_000, [Measured(1, 3_100, 0)]).length == 3.226
    assert planned(PPO, UPDATES, TOKENS, 10_000, [Measured(1, 3_100, 0)]).length == 3


def test_a_budget_below_what_comes_before_is_out_of_reach():
    plan = planned(METHODS["rlhf"], UPDATES, TOKENS, 10_000, [Measured(10, 2_000, 12_000)])
    assert plan.length is None and plan.expected == 12_200
    assert plan.reason == (
        "RLHF is out of reach of tokens:10,000: what comes before its own training (sft, sample, label, reward_model) takes "
        "12,000 by itself, and the shortest training brings that to 12,200. It is left out. Give more, or leave it out of METHODS"
    )


def test_the_shortest_training_just_fits_or_is_out_of_reach():
    """1 update costs 200 after 1,000: half an update is rounded to even, which is none."""
    pilots = [Measured(10, 2_000, 1_000)]
    assert planned(PPO, UPDATES, TOKENS, 1_200, pilots).length == 1
    assert planned(PPO, UPDATES, TOKENS, 1_101, pilots).length == 1
    assert planned(PPO, UPDATES, TOKENS, 1_100, pilots).length is None
    assert planned(PPO, UPDATES, TOKENS, 1_000, pilots).length is None


def test_a_method_with_nothing_before_it_says_so():
    plan = planned(METHODS["sft"], LENGTHS["sft"], TOKENS, 1, [Measured(1, 1_000, 0)])
    assert "what comes before its own training (nothing) takes 0 by itself" in plan.reason


def test_a_pilot_that_cost_nothing_has_no_rate():
    with pytest.raises(ValueError, match=r"^dpo: a pilot of 1 epochs cost no tokens, so none can be planned$"):
        planned(DPO, EPOCHS, TOKENS, 100, [Measured(1, 0, 10)])


def test_what_a_length_is_asked_for_with():
    assert Length("ppo.updates", True, "updates", share=0.1).overrides(45.0) == ("ppo.updates=45",)
    assert EPOCHS.overrides(3.226) == ("dpo.epochs=3.226", "dpo.max_steps=1000000000")


# --- labels -----------------------------------------------------------------------------------------------------------

DRAWN = Pairs(is_sampled=True, per_prompt=8, pairs_per_prompt=4)


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_methods_that_need_no_labels_change_nothing(method):
    own, reason = labels_overrides(method, 500, 4_000, DRAWN)
    assert (own, reason) == ((("labels.budget=500",) if method.is_labelled else ()), "")


def test_more_labels_take_more_pairs_and_then_more_samples():
    # 4 pairs a question give 4,000 labels. 8,000 take 8 · 1.02 → 9 pairs of the 8 · 7 / 2 = 28 that there are
    assert labels_overrides(DPO, 8_000, 4_000, DRAWN)[0] == ("labels.budget=8000", "labels.pairs_per_prompt=9")
    # 27,000 take 27.54 → 28 pairs, all that 8 samples have; 28,000 take 28.56 → 29, so 9 samples, which have 36
    assert labels_overrides(DPO, 27_000, 4_000, DRAWN)[0] == ("labels.budget=27000", "labels.pairs_per_prompt=28")
    more = ("labels.budget=28000", "labels.pairs_per_prompt=29", "sample.per_prompt=9")
    assert labels_overrides(DPO, 28_000, 4_000, DRAWN) == (more, "")
    assert labels_overrides(DPO, 4_000, 4_000, DRAWN)[0] == ("labels.budget=4000",)
    merge({}, more)


def test_labels_that_a_dataset_does_not_have_are_out_of_reach():
    own, reason = labels_overrides(DPO, 5_000, 4_000, Pairs(is_sampled=False, per_prompt=8, pairs_per_prompt=4))
    assert own == () and reason == (
        "DPO is out of reach of labels:5,000: there are 4,000 labels, and this source makes no others. It is left out. Ask for "
        "fewer, or let others label: labels.source"
    )
