"""When it is a drift: each rule at its bounds, and its sentence."""

import numpy as np
import pytest

from posttrain.drift.two_sample import TwoSample
from posttrain.drift.verdict import decide, foreign_share

SPREAD = np.array([0.46, 0.54] * 50)
"""Permutations with a deviation of 0.04 about one half: critical 0.54, smallest 0.54 + 0.8416 · 0.0402 = 0.5738."""


def found(auc, p, *, permuted=SPREAD):
    return TwoSample(auc=auc, p=p, permuted=permuted, scores=np.zeros(3), first=1_000, second=200)


def decided(test, held_out=None, **others):
    return decide(test, held_out, **{"level": 0.05, "min_auc": 0.55, **others})


def test_drift():
    verdict = decided(found(0.83, 0.001))
    assert (verdict.rule, verdict.is_drift) == ("drift", True)
    assert verdict.why == (
        "The prompts have drifted: a classifier ranks a new prompt above one of training in 83 % of the pairs, where half would "
        "be chance (AUC 0.83, p = 0.001). That is as if 66 % of them were unlike any of training"
    )


def test_alike():
    verdict = decided(found(0.56, 0.051))
    assert (verdict.rule, verdict.is_drift) == ("alike", False)
    # min_auc is above what chance gives: 0.55 + 0.8416 · 0.0402
    assert verdict.smallest_auc == pytest.approx(0.5838, abs=1e-4)
    assert verdict.why == (
        "No drift is seen: AUC 0.56, p = 0.051. 200 new prompts against 1,000 of training show an AUC of 0.58 in 80 % of the "
        "cases: as if 17 % of them were unlike any of training"
    )


def test_the_bounds_belong_to_drift():
    assert decided(found(0.55, 0.05)).is_drift
    assert decided(found(0.549, 0.05)).rule == "small"
    assert decided(found(0.549, 0.05), min_auc=0.5).is_drift


def test_too_little_to_act_on():
    assert decided(found(0.53, 0.004)).why == (
        "The new prompts differ, but too little to act on: AUC 0.53, p = 0.004, and monitor.min_auc is 0.55"
    )


def test_where_held_out_prompts_are_told_apart_as_well_new_ones_must_be_further_away():
    held_out = found(0.62, 0.01)
    # z.95 = 1.6449, sd of the difference √2 · 0.0402 = 0.05685: more than 0.0935 further
    assert decided(found(0.713, 0.001), held_out).rule == "as held out"
    assert decided(found(0.714, 0.001), held_out).rule == "drift"
    assert decided(found(0.60, 0.001), held_out).why == (
        "The new prompts differ from those of training (AUC 0.60, p = 0.001), but so do the held-out prompts of the dataset "
        "(AUC 0.62, p = 0.010), and the new ones are not further away"
    )
    assert decided(found(0.60, 0.001), found(0.62, 0.05)).rule == "as held out", "told apart at the level itself"
    assert decided(found(0.60, 0.001), found(0.56, 0.06)).is_drift, "held-out prompts that are not told apart change nothing"


def test_the_share_that_would_give_an_auc():
    # of 100 new prompts 40 always rank above, the 60 others as by chance: 0.4 + 0.3
    assert foreign_share(0.7) == pytest.approx(0.4)
    assert foreign_share(1.0) == 1.0 and foreign_share(0.4) == 0.0
