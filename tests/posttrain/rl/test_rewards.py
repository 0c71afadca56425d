"""Rewards: what a function may return, and what PPO makes of it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posttrain.errors import ContractError, DataError
from posttrain.rl.rewards import Rewards, RunningScale, adapted_kl_coef, eos_shaped, rewarded, token_rewards

RECORDS = [{"id": "q1"}, {"id": "q2"}, {"prompt": "How many?"}]


def given_by(function):
    return rewarded(function, "mine", ["a", "b", "c"], ["x", "yy", "zzz"], RECORDS)


def test_plain_numbers_are_rewards():
    lengths = given_by(lambda prompts, completions, records: [len(text) for text in completions])
    assert lengths == Rewards(values=[1, 2, 3])
    assert given_by(lambda *_: torch.tensor([1.0, 2.0, 0.5])).values == [1.0, 2.0, 0.5]


def test_parts_and_reasons_pass_through():
    told = Rewards(values=[1.0, 0.0, 1.0], parts={"format": [1.0, 1.0, 0.0]}, reasons=["right", "wrong", "right"])
    assert given_by(lambda *_: told) is told


def test_a_reward_that_raises_stops_the_run_and_names_the_record():
    def fussy(prompts, completions, records):
        if "zzz" in completions:
            raise KeyError("answers")
        return [0.0] * len(prompts)

    said = (
        "^the reward mine raised KeyError: 'answers'; the first response it raises for is 'zzz' to the record 'How many\\?'. "
        "A reward that breaks stops the run, as a 0 in its place would be learned from$"
    )
    with pytest.raises(ContractError, match=said) as caught:
        given_by(fussy)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_reward_that_raises_for_batches_only_says_so():
    def alone_only(prompts, completions, records):
        if len(prompts) > 1:
            raise RuntimeError("out of memory")
        return [0.0]

    with pytest.raises(ContractError, match="no single one of the 3 responses makes it raise, only the batch that starts with"):
        given_by(alone_only)


def test_our_own_errors_are_not_wrapped():
    def wrong_data(*_):
        raise DataError("no answer")

    with pytest.raises(DataError, match=r"^no answer$"):
        given_by(wrong_data)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([1.0, 2.0], "the reward mine must be one number a response, 3, got 2"),
        ([1.0, math.nan, 0.0], "the reward mine must be a finite number, got nan for record q2"),
        ([1.0, 0.0, math.inf], "the reward mine must be a finite number, got inf for the record 'How many?'"),
        ([None, 0.0, 1.0], "the reward mine must be a finite number, got None for record q1"),
        (1.0, "the reward mine must return a list of 3 numbers, got float"),
        ("abc", "the reward mine must return a list of 3 numbers, got str"),
        (
            Rewards(values=[0.0] * 3, parts={"format": [0.0, 1.0, -math.inf]}),
            "the part format of the reward mine must be a finite number, got -inf for the record 'How many?'",
        ),
        (
            Rewards(values=[0.0] * 3, parts={"format": [0.0]}),
            "the part format of the reward mine must be one number a response, 3, got 1",
        ),
        (Rewards(values=[0.0] * 3, reasons=["why"]), "the reward mine gave 1 reasons for 3 responses"),
    ],
)
def test_what_is_no_reward_is_refused(returned, said):
    with pytest.raises(ContractError) as caught:
        given_by(lambda *_: returned)
    assert str(caught.value) == said


# --- shaping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("missing_eos", "wanted"), [("keep", [2.0, 3.0]), ("subtract", [2.0, 2.5]), ("replace", [2.0, -0.5])])
def test_the_score_of_what_was_cut_off_by_hand(missing_eos, wanted):
    told = eos_shaped(torch.tensor([2.0, 3.0]), torch.tensor([True, False]), missing_eos=missing_eos, penalty=0.5)
    assert told.tolist() == wanted


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match=r"^missing_eos must be keep, subtract or replace, got drop$"):
        eos_shaped(torch.zeros(1), torch.tensor([True]), missing_eos="drop", penalty=1.0)


def test_the_score_lies_on_the_last_token():
    told = token_rewards(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2, 1, 3]), longest=4)
    assert told.tolist() == [[0.0, 1.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]]


def test_the_running_scale_by_hand():
    # 1 and 3: mean 2, squares 2, deviation 1; then 5: mean 3, squares 4 + 0 + 4 = 8, deviation √(8/3)
    scale = RunningScale().with_scores(torch.tensor([1.0, 3.0]))
    assert (scale.count, scale.mean, scale.squares, scale.deviation) == (2, 2.0, 2.0, 1.0)
    scale = scale.with_scores(torch.tensor([5.0]))
    assert (scale.count, scale.mean, scale.squares) == pytest.approx((3, 3.0, 8.0))
    assert scale.deviation == pytest.approx((8 / 3) ** 0.5)


@given(batches=st.lists(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=8), min_size=1, max_size=5))
def test_the_running_scale_in_parts_is_that_of_all_at_once(batches):
    scale = RunningScale()
    for batch in batches:
        scale = scale.with_scores(torch.tensor(batch))
    whole = torch.tensor([number for batch in batches for number in batch], dtype=torch.float64)
    assert scale.mean == pytest.approx(whole.mean().item(), abs=1e-9)
    assert scale.squares / scale.count == pytest.approx(whole.var(correction=0).item(), rel=1e-9, abs=1e-9)


def test_equal_scores_are_not_scaled():
    assert RunningScale().deviation == 1.0
    assert RunningScale().with_scores(torch.full((9,), 7.0)).deviation == 1.0


@pytest.mark.parametrize(
    ("kl", "wanted"),
    [
        (6.0, 0.1),  # on target: stays
        (6.6, 0.1 * (1 + 0.1 * 256 / 10_000)),  # a tenth above: up
        (60.0, 0.1 * (1 + 0.2 * 256 / 10_000)),  # far above: no more than 0.2
        (5.4, 0.1 * (1 - 0.1 * 256 / 10_000)),
        (-3.0, 0.1 * (1 - 0.2 * 256 / 10_000)),
    ],
)
def test_the_adaptive_coefficient_by_hand(kl, wanted):
    assert adapted_kl_coef(0.1, kl, target=6.0, horizon=10_000, episodes=256) == pytest.approx(wanted, rel=1e-12)
