"""Sampling against training, by hand and by identity."""

from dataclasses import replace

import pytest

from posttrain.advice.situation import Asked, Base, Machine, Situation
from posttrain.methods import METHODS
from posttrain.scale.rates import (
    Device,
    Loop,
    balance,
    copies_need,
    step_seconds,
    sync_bytes,
    tokens_a_second,
    update_flops,
)

BASE = Base(
    name="b", is_tiny=False, weights=1_000, adapter_width=50, layers=2, width=10, cache_width=8, vocabulary=100, context=512
)
HERE = Situation(base=BASE, machine=Machine(has_gpu=True, weight_bytes=2), asked=Asked(rollout_rows=64))
LOOP = Loop(episodes=10, epochs=3, prompt=6, response=4)
DEVICE = Device(memory=1e6, flops=1e6, bandwidth=1e5, link=1e5, used=0.5)
SHARED = replace(HERE, asked=replace(HERE.asked, has_shared_critic=True))


@pytest.mark.parametrize(
    ("method", "changes", "loop", "passes"),
    [
        # a weight and a token: reference and recomputed log-probabilities 2 each, three epochs of 6
        ("grpo", {}, {}, 2 + 2 + 3 * 6),
        ("grpo", {}, {"recomputes": False}, 2 + 3 * 6),
        ("grpo", {}, {"checkpointed": True}, 2 + 2 + 3 * 8),
        ("reft", {"has_shared_critic": True}, {}, 2 + 2 + 3 * 6),
        ("reft", {}, {}, 2 + 2 + 2 + 2 * 3 * 6),
        ("rlhf", {"has_shared_critic": True}, {"reward_models": 2}, 2 + 2 + 2 * 2 + 3 * 6),
    ],
)
def test_operations_of_an_update_by_hand(method, changes, loop, passes):
    here = replace(HERE, asked=replace(HERE.asked, **changes))
    assert update_flops(METHODS[method], here, replace(LOOP, **loop)) == passes * 1_000 * 10 * 10


def test_operations_under_adapters():
    here = replace(HERE, asked=replace(HERE.asked, lora_rank=4))
    # 200 weights of adapters: 2 · 1,200 a token read, 6 · 200 + 4 · 1,000 a token learnt from
    assert update_flops(METHODS["grpo"], here, LOOP) == (2 * 2_400 + 3 * 5_200) * 100


def test_a_sync_hands_over_every_weight_in_the_format_that_it_is_trained_in():
    assert sync_bytes(HERE) == 4_000
    assert sync_bytes(replace(HERE, asked=Asked(lora_rank=4))) == 2_000


def test_a_step_of_decoding_by_hand():
    # weights 2,000 bytes over 1e5 a second; a row has 6 + 4 / 2 tokens of 2 layers · 8 numbers · 2 bytes; 2 · 1,000 operations
    assert step_seconds(HERE, LOOP, DEVICE, rows=5) == pytest.approx(
        {"weights": 0.02, "cache": 5 * 8 * 32 / 1e5, "arithmetic": 5 * 2_000 / 5e5}
    )
    assert step_seconds(HERE, LOOP, DEVICE, rows=5, together=4)["weights"] == pytest.approx(0.005)
    assert tokens_a_second({"weights": 0.02, "cache": 0.03, "arithmetic": 0.01}, rows=5) == pytest.approx(100)
    assert tokens_a_second({"weights": 0.02, "cache": 0.03, "arithmetic": 0.1}, rows=5) == pytest.approx(50)


def test_as_many_gpus_hold_a_copy_as_leave_half_of_their_memory():
    assert [copies_need(HERE, replace(DEVICE, memory=memory)) for memory in (4_000, 3_999, 2_000, 1_000)] == [1, 2, 2, 4]


def test_balance_by_hand():
    """22 operations a weight and token: 2.2e6 over 5e5 a second are 4.4 s, in which 40 tokens are drawn: 9.09 a second."""
    found = balance(METHODS["reft"], SHARED, LOOP, DEVICE)
    assert found.update_seconds == pytest.approx(4.4)
    assert found.needed == pytest.approx(40 / 4.4)
    # one row: 0.02 s of weights and 0.00256 of its cache: 44 a second, so that one is enough
    assert (found.rows, found.bound) == (1, "cache")
    # all ten at once: 0.02 + 0.0256 s of reading, 0.04 of arithmetic
    assert found.reached == pytest.approx(10 / 0.0456)


@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_so_many_rows_are_enough_and_one_fewer_is_not(devices, epochs):
    loop, slow = replace(LOOP, epochs=epochs, episodes=1_000, prompt=0), replace(DEVICE, bandwidth=3e4, used=1.0)
    found = balance(METHODS["reft"], SHARED, loop, slow, devices=devices)
    assert found.rows and found.rows > 1

    def rate(rows):
        return tokens_a_second(step_seconds(SHARED, loop, slow, rows=rows, together=min(devices, 1)), rows=rows)

    assert rate(found.rows) >= found.needed * (1 - 1e-9) > rate(found.rows - 1)


def test_more_gpus_share_an_update():
    one, four = (balance(METHODS["reft"], SHARED, LOOP, DEVICE, devices=count) for count in (1, 4))
    assert four.update_seconds == pytest.approx(one.update_seconds / 4)
    assert four.needed == pytest.approx(one.needed), "each GPU has a quarter of the tokens, in a quarter of the time"


def test_a_cache_that_takes_longer_to_read_than_there_is_time_is_never_fast_enough():
    found = balance(METHODS["reft"], SHARED, LOOP, replace(DEVICE, bandwidth=2e3))
    assert (found.rows, found.bound) == (None, "cache") or found.rows is None
    assert balance(METHODS["reft"], SHARED, replace(LOOP, prompt=0), replace(DEVICE, bandwidth=1e9)).bound == "arithmetic"
