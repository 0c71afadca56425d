"""Which candidates are shown: each rule by hand, and what the choice keeps to whatever the rule."""

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.errors import RequestError
from posttrain.labelling.selections import (
    RANDOM,
    SELECTIONS,
    UNSCORED,
    Choice,
    Opinions,
    choose,
    disagreement,
    selection_for,
    spread,
    uncertainty,
)
from posttrain.settings.labelling import LabellingSettings

LN3 = math.log(3)
"""sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4."""


def test_the_table_has_what_the_setting_takes():
    assert tuple(SELECTIONS) == get_args(LabellingSettings.model_fields["selection"].annotation)
    kinds = set(get_args(LabellingSettings.model_fields["kind"].annotation))
    assert all(set(row.kinds) <= kinds for row in SELECTIONS.values()) and set(SELECTIONS[RANDOM].kinds) == kinds
    assert all(row.source for row in SELECTIONS.values() if row.score), "a rule says where it is from"


# --- the rules, by hand -----------------------------------------------------------------------------------------------


def test_uncertainty_by_hand():
    assert uncertainty(Opinions(rewards=((1.5, 1.5),))) == 0.5, "p = 1/2: nobody is less sure"
    # p = 3/4, and which response stands first makes no difference: 1/2 - |3/4 - 1/2| = 1/4
    assert uncertainty(Opinions(rewards=((LN3, 0.0),))) == pytest.approx(0.25)
    assert uncertainty(Opinions(rewards=((0.0, LN3),))) == pytest.approx(0.25)
    # two members whose scores are 2 ln 3 and 0 apart are ln 3 apart in the mean; the mean of their p would be 7/10
    assert uncertainty(Opinions(rewards=((2 * LN3, 0.0), (0.0, 0.0)))) == pytest.approx(0.25)
    # three responses, of which two are alike: pairs with p = 3/4, 3/4, 1/2, so (1/4 + 1/4 + 1/2) / 3
    assert uncertainty(Opinions(rewards=((LN3, 0.0, 0.0),))) == pytest.approx(1 / 3)
    assert uncertainty(Opinions()) is None and uncertainty(Opinions(rewards=((1.0,),))) is None
    assert uncertainty(Opinions(rewards=((2_000.0, -2_000.0),))) == 0.0, "no overflow"
    assert uncertainty(Opinions(rewards=((-2_000.0, 2_000.0),))) == 0.0


def test_spread_by_hand():
    # p = 3/4 and 1/4: each 1/4 from their mean, 1/16
    assert spread(Opinions(rewards=((LN3, 0.0), (0.0, LN3)))) == pytest.approx(1 / 16)
    assert spread(Opinions(rewards=((LN3, 0.0), (LN3 + 5, 5.0)))) == pytest.approx(0.0), "a shift of scores is no difference"
    # three responses: the pairs (1, 2), (1, 3) have p = 3/4 and 1/4, the pair (2, 3) has 1/2 twice: (1/16 + 1/16 + 0) / 3
    assert spread(Opinions(rewards=((LN3, 0.0, 0.0), (0.0, LN3, LN3)))) == pytest.approx(1 / 24)
    assert spread(Opinions(rewards=((LN3, 0.0),))) is None and spread(Opinions(rewards=((1.0,), (3.0,)))) is None
    assert spread(Opinions()) is None


def test_disagreement_by_hand():
    assert disagreement(Opinions(judge=0.9, rewards=((0.0, LN3),))) == pytest.approx(0.65)  # against sigmoid(-ln 3) = 1/4
    assert disagreement(Opinions(judge=0.1, rewards=((0.0, LN3),))) == pytest.approx(0.15)
    assert disagreement(Opinions(judge=0.9, people=1.0, rewards=((0.0, LN3),))) == pytest.approx(0.1), "people before models"
    assert disagreement(Opinions(judge=0.0, people=0.0)) == 0.0, "a probability of 0 is an opinion"
    assert disagreement(Opinions(judge=0.9)) is None
    assert disagreement(Opinions(people=1.0, rewards=((1.0, 0.0),))) is None


# --- the choice -------------------------------------------------------------------------------------------------------


def unsure(place):
    """Opinions that `uncertain` wants the more, the smaller the number."""
    return Opinions(rewards=((float(place), 0.0),))


def chosen(count=10, of=100, share=0.2, seed=0, rule="uncertain", opinions=None):
    known = [unsure(place) for place in range(of)] if opinions is None else opinions
    return choose(range(of), known, Choice(count=count, random_share=share, seed=seed, rule=SELECTIONS[rule]))


def test_the_rule_takes_the_highest_scores_of_what_is_left_and_a_fixed_share_is_random():
    found = chosen()
    assert len(found) == len({one.candidate for one in found}) == 10
    by = {name: [one.candidate for one in found if one.selection == name] for name in (RANDOM, "uncertain")}
    assert len(by[RANDOM]) == 2 and len(by["uncertain"]) == 8
    assert sorted(by["uncertain"]) == [place for place in range(100) if place not in by[RANDOM]][:8]


def test_the_random_part_does_not_depend_on_the_scores():
    def random_part(opinions):
        return {one.candidate for one in chosen(opinions=opinions) if one.selection == RANDOM}

    upwards, downwards = [unsure(place) for place in range(100)], [unsure(100 - place) for place in range(100)]
    assert random_part(upwards) == random_part(downwards)
    assert random_part(upwards) <= {one.candidate for one in chosen(rule=RANDOM, opinions=[])}, "nor on the rule"


def test_every_candidate_is_as_likely_in_the_random_part():
    """Over 2,000 seeds each of 10 candidates is expected 400 times (share 2 of 10), give or take 5 standard deviations of 18."""
    counts = [0] * 10
    for seed in range(2_000):
        for one in chosen(count=4, of=10, share=0.5, seed=seed):
            counts[one.candidate] += one.selection == RANDOM
    assert sum(counts) == 4_000 and all(abs(count - 400) < 90 for count in counts), counts


def test_a_part_of_a_batch_has_the_share_of_random_ones_too():
    """Of the first half of 40 items about half the random ones: 8 of 16 a seed; over 200 seeds 5 standard errors are 0.7."""
    halves = [sum(one.selection == RANDOM for one in chosen(count=40, share=0.4, seed=seed)[:20]) for seed in range(200)]
    assert abs(sum(halves) / 200 - 8) < 0.7


def test_candidates_without_a_score_fill_the_place_and_are_called_so():
    known = [unsure(place) if place < 3 else Opinions() for place in range(10)]
    found = chosen(count=8, of=10, share=0.25, opinions=known)
    names = [one.selection for one in found]
    assert len(found) == 8 and names.count(RANDOM) == 2
    scored = {one.candidate for one in found if one.selection == "uncertain"}
    assert scored == {0, 1, 2} - {one.candidate for one in found if one.selection == RANDOM}
    assert names.count(UNSCORED) == 6 - len(scored), "they are no fair sample, so they are not called random"


@given(st.integers(0, 30), st.integers(1, 40), st.floats(0, 1), st.integers(0, 5), st.sampled_from(list(SELECTIONS)))
def test_as_many_as_wanted_and_each_once(of, count, share, seed, rule):
    found = chosen(count=count, of=of, share=share, seed=seed, rule=rule)
    assert len({one.candidate for one in found}) == len(found) == min(count, of)
    assert found == chosen(count=count, of=of, share=share, seed=seed, rule=rule)
    by_rule = sum(one.selection == rule for one in found)
    assert rule == RANDOM or by_rule <= (1 - share) * len(found) + 1e-6, "never less than the share is random"
    assert RANDOM not in {one.selection for one in found} or share > 0 or rule == RANDOM


def test_another_seed_draws_others():
    assert [one.candidate for one in chosen(seed=0, rule=RANDOM)] != [one.candidate for one in chosen(seed=1, rule=RANDOM)]


def test_opinions_of_other_candidates_are_refused():
    with pytest.raises(ValueError, match=r"^opinions must be one a candidate \(100\), got 3$"):
        chosen(opinions=[unsure(1)] * 3)


def test_a_rule_that_cannot_choose_for_a_kind_is_refused():
    assert selection_for("spread", "rating").name == "spread"
    with pytest.raises(RequestError) as refused:
        selection_for("disagreement", "ranking")
    assert str(refused.value) == (
        "labelling.selection=disagreement can choose a pair, and labelling.kind is ranking. What can choose a ranking: random, "
        "uncertain, spread"
    )
