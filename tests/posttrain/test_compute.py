"""Floating-point operations of training and reading: by hand."""

from posttrain.compute import Compute, Size, learning, reading


def test_a_token_read_takes_two_operations_a_weight_and_one_learnt_from_six() -> None:
    whole = Size(trained=1_000)
    assert reading(whole, 7) == Compute(forward_tokens=7, flops=2 * 1_000 * 7)
    assert learning(whole, 7) == Compute(forward_tokens=0, flops=6 * 1_000 * 7)


def test_frozen_weights_have_no_gradient_of_their_own() -> None:
    adapted = Size(trained=10, frozen=1_000)
    assert adapted.weights == 1_010
    assert learning(adapted, 3).flops == (6 * 10 + 4 * 1_000) * 3
    assert reading(adapted, 3).flops == 2 * 1_010 * 3


def test_sums() -> None:
    assert Size(1, 2).plus(Size(10, 20)) == Size(11, 22)
    both = reading(Size(5), 2).plus(learning(Size(5), 4))
    assert both == Compute(forward_tokens=2, flops=20.0 + 120.0)
    assert both.as_costs() == {"forward_tokens": 2, "flops": 140.0}
