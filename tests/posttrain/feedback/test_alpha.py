"""The interval of Krippendorff's α: by hand, by identity, by refusal, and what it covers."""

from itertools import product

import numpy as np
import pytest

from posttrain.feedback.agreement import agreement_of, as_json
from posttrain.feedback.alpha import alpha_interval, krippendorff_alpha
from posttrain.feedback.labels import Label

AGREED, DISPUTED = [["a", "a"], ["b", "b"]], [["a", "b"], ["a", "b"]]


def test_by_hand_of_two_prompts():
    """Drawn are both (half of the draws), the agreed one twice or the disputed one twice (a quarter each).

    The disputed one twice: 8 choices, 4 of each kind; D = 4 units of 2 ordered pairs over 1 = 8; α = 1 - 7 · 8 / (64 - 32),
    which is -0.75.
    Both: 8 choices, 4 of each; D = 4; α = 1 - 7 · 4 / 32 = 0.125. The agreed one twice: D = 0, α = 1.
    """
    found = alpha_interval([AGREED, DISPUTED])
    assert (found.estimate, found.low, found.high) == (0.125, -0.75, 1.0)
    middle = alpha_interval([AGREED, DISPUTED], confidence=0.4)  # the quantiles at 0.3 and 0.7 lie in the half of both
    assert (middle.low, middle.high) == (0.125, 0.125)


def test_a_prompt_is_drawn_with_all_of_its_units():
    """The same units are surer where each is a prompt of its own: those of one prompt are no independent draws."""
    units = [["a", "a"], ["b", "b"], ["a", "b"], ["b", "a"]] * 10
    pooled = alpha_interval([units[start : start + 10] for start in range(0, 40, 10)])
    single = alpha_interval([[unit] for unit in sorted(units)])
    clumped = alpha_interval([[unit] * 4 for unit in sorted(units)[::4]])
    assert pooled.estimate == single.estimate == krippendorff_alpha(units)
    assert clumped.high - clumped.low > 1.5 * (single.high - single.low)


def test_order_of_prompts_units_and_names_decides_nothing_and_a_seed_does():
    prompts = [[["a", "a", "b"], ["b", "b"]], [["a", "b"]], [["b", "b", "b"], ["a", "c"]], [["a", "a"]], [["c"]]]
    found = alpha_interval(prompts)
    assert alpha_interval([[unit[::-1] for unit in units[::-1]] for units in prompts[::-1]]) == found
    assert alpha_interval([*prompts, [], [["a"]]]) == found, "who has no second choice says nothing of agreement"
    assert alpha_interval(prompts * 5, resamples=50, seed=1) != alpha_interval(prompts * 5, resamples=50)
    assert found.low <= found.estimate <= found.high <= 1


@pytest.mark.parametrize(
    "prompts",
    [
        [],
        [[["a"]], [["b"]]],
        [DISPUTED],
        [AGREED, AGREED],
        [[["a", "a"]], [["a", "a"]]],
        [[["a", "b"]], *[[["a", "a"]]] * 2],
    ],
    ids=["nothing", "no pairs", "one prompt", "nobody disagrees", "all alike", "a draw in three is all alike"],
)
def test_where_it_says_nothing_there_is_none(prompts):
    assert alpha_interval(prompts) is None


def test_it_holds_the_truth_as_often_as_it_says():
    """200 worlds of 60 prompts of three pairs, a prompt hard or easy as a whole; the truth is that of 20,000 prompts."""
    random = np.random.default_rng(3)

    def world(prompts):
        flips = random.beta(1.5, 8.5, size=prompts).clip(max=0.5)
        truth = random.random((prompts, 3)) < 0.5
        said = truth[..., None] ^ (random.random((prompts, 3, 3)) < flips[:, None, None])
        return said.astype(int).tolist()

    alpha = krippendorff_alpha([unit for units in world(20_000) for unit in units])
    found = [alpha_interval(world(60), resamples=400) for _ in range(200)]
    held = sum(one.low <= alpha <= one.high for one in found)
    assert 180 <= held <= 198, "95 % of 200, less or more three standard errors"


def test_labels_have_it_in_figures_and_in_the_file():
    labels = [
        Label.model_validate(
            {
                "id": f"{prompt}{pair}{who}",
                "prompt": prompt,
                "question": prompt,
                "group": prompt,
                "first": "x",
                "second": f"y{pair}",
            }
            | {
                "preference": float(((prompt, who) != ("p0", "Ben")) == (prompt in ("p1", "p2", "p3"))),
                "annotator": who,
                "source": "person",
            }
        )
        for prompt, pair, who in product([f"p{number}" for number in range(6)], range(2), ("Ada", "Ben"))
    ]
    told = agreement_of(labels)
    figures = told.figures()
    assert figures["alpha_low"] < figures["alpha"] < figures["alpha_high"]
    assert as_json(told)["alpha_interval"] == {name: getattr(told.alpha_bounds, name) for name in ("estimate", "low", "high")}
    alone = agreement_of([label for label in labels if label.annotator == "Ada"])
    assert as_json(alone)["alpha_interval"] is None and "alpha_low" not in alone.figures()
