"""Agreement: the examples of the literature, identities, and what annotators say against each other and themselves."""

import json
from itertools import combinations, permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.feedback.agreement import agreement_of, as_json, cohen_kappa, find_cycle
from posttrain.feedback.alpha import krippendorff_alpha
from posttrain.feedback.labels import Label

CHOICES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), max_size=30)


def says(annotator, better, worse, *, prompt="p", preference=1.0, gold=None, is_turned=False):
    """Return one label: `annotator` finds `better` better with probability `preference`; gold likewise."""
    first, second = (worse, better) if is_turned else (better, worse)
    return Label(
        id="1",
        prompt=prompt,
        question=f"question of {prompt}",
        group="g",
        first=first,
        second=second,
        preference=1 - preference if is_turned else preference,
        annotator=annotator,
        source="person",
        gold=None if gold is None else 1 - gold if is_turned else gold,
    )


# --- kappa --------------------------------------------------------------------------------------------------------------


def test_kappa_by_hand():
    """50 units: both yes 20, both no 15, yes-no 5, no-yes 10. p_o = 35/50; p_e = 25/50 · 30/50 + 25/50 · 20/50 = 0.5; κ = 0.4."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4, abs=1e-12)


def test_kappa_of_three_choices_by_hand():
    """200 units: the diagonal is 88, 40, 12; margins 100, 60, 40 and 120, 60, 20.

    p_o = 140/200 = 0.70, p_e = (100·120 + 60·60 + 40·20) / 200² = 0.41, κ = 0.29/0.59 = 0.4915.
    """
    table = {("a", "a"): 88, ("a", "b"): 10, ("a", "c"): 2, ("b", "a"): 14, ("b", "b"): 40, ("b", "c"): 6}
    table |= {("c", "a"): 18, ("c", "b"): 10, ("c", "c"): 12}
    made = [pair for pair, count in table.items() for _ in range(count)]
    assert cohen_kappa([a for a, _ in made], [b for _, b in made]) == pytest.approx(0.4915, abs=5e-5)


def test_kappa_at_its_ends():
    assert cohen_kappa("abab", "abab") == 1.0
    assert cohen_kappa("abab", "baba") == -1.0
    assert cohen_kappa("aabb", "abab") == 0.0
    assert cohen_kappa("aaa", "aaa") is None and cohen_kappa("", "") is None


@given(CHOICES)
def test_kappa_is_symmetric_and_names_do_not_matter(made):
    first, second = [a for a, _ in made], [b for _, b in made]
    told = cohen_kappa(first, second)
    assert told == cohen_kappa(second, first)
    assert told == cohen_kappa([ord(a) for a in first], [ord(b) for b in second])
    assert told is None or -1 <= told <= 1


def test_kappa_of_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match=r"^first and second must have a choice for each unit, got 1 and 2$"):
        cohen_kappa("a", "ab")


# --- alpha --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observers", "alpha"),
    [
        (["0100000010", "1110010000"], 0.095),  # A. binary, two observers
        (["aabbdcccedda", "babbbcccedd" + "d"], 0.692),  # B. nominal, two observers
        (["123321412...", "1233224125.3", ".33323422" + "51.", "1233244125" + "1."], 0.743),  # C. nominal, missing data
    ],
)
def test_alpha_of_krippendorffs_worked_examples(observers, alpha):
    """Krippendorff 2011, sections A to C, as printed there to three digits; "." is a missing value."""
    units = [[value for value in unit if value != "."] for unit in zip(*observers, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(alpha, abs=5e-4)


def test_alpha_by_hand():
    """Units aa, ab and b, which has nothing to be compared with: n_a = 3, n_b = 1, o_ab + o_ba = 2, so α = 1 - 3 · 2 / 6 = 0."""
    assert krippendorff_alpha([["a", "a"], ["a", "b"], ["b"]]) == pytest.approx(0.0, abs=1e-12)


def test_alpha_at_its_ends():
    assert krippendorff_alpha([["a", "a"], ["b", "b", "b"]]) == 1.0
    assert krippendorff_alpha([["a", "a"], ["a", "a"]]) is None
    assert krippendorff_alpha([["a"], ["b"], []]) is None
    assert krippendorff_alpha([["a", "b"]] * 10) < 0


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=4), max_size=12), st.randoms(use_true_random=False))
def test_alpha_does_not_depend_on_any_order_or_on_units_of_one(units, random):
    told = krippendorff_alpha(units)
    mixed = [random.sample(unit, len(unit)) for unit in random.sample(units, len(units))]
    again = krippendorff_alpha([*mixed, ["a"], []])
    assert (told is None) == (again is None) and (told is None or told == pytest.approx(again, abs=1e-9))
    assert told is None or told <= 1


@given(CHOICES)
def test_alpha_of_two_observers_approaches_scotts_pi(made):
    """α = 1 - (1 - π) (n - 1) / n for two observers without missing values, π with pooled shares; n = 2 · units."""
    told = krippendorff_alpha(made)
    values = [value for pair in made for value in pair]
    n = len(values)
    expected = sum((values.count(value) / n) ** 2 for value in set(values)) if n else 1.0
    if expected < 1 - 1e-9:
        observed = sum(a == b for a, b in made) / len(made)
        pi = (observed - expected) / (1 - expected)
        assert told == pytest.approx(1 - (1 - pi) * (n - 1) / n, abs=1e-9)
    else:
        assert told is None


# --- cycles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edges", "members"),
    [
        ([], None),
        (["ab", "bc", "ac"], None),
        (["ab", "ac", "bd", "cd"], None),  # two ways to one text are no circle
        (["ab", "bc", "ca"], {"a", "b", "c"}),
        (["xa", "ab", "bc", "cd", "db"], {"b", "c", "d"}),  # the way into it is not part of it
        (["ab", "xy", "yz", "zx"], {"x", "y", "z"}),
        (["ab", "ba"], {"a", "b"}),
    ],
)
def test_cycles_by_hand(edges, members):
    for order in list(permutations(edges))[:24]:
        graph = {}
        for better, worse in order:
            graph.setdefault(better, []).append(worse)
        cycle = find_cycle(graph)
        assert cycle is None if members is None else set(cycle) == members and len(cycle) == len(members)


@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda edge: edge[0] != edge[1]), max_size=25))
def test_a_cycle_told_is_one_and_none_is_missed(edges):
    graph = {}
    for better, worse in edges:
        graph.setdefault(str(better), []).append(str(worse))
    cycle = find_cycle(graph)
    # a graph without cycles can be taken apart from its ends
    left = {(str(a), str(b)) for a, b in edges}
    while ends := {b for _, b in left} - {a for a, _ in left}:
        left = {(a, b) for a, b in left if b not in ends}
    assert (cycle is not None) == bool(left)
    if cycle:
        assert all(worse in graph[better] for better, worse in zip(cycle, (*cycle[1:], cycle[0]), strict=True))


def test_a_long_chain_does_not_exhaust_the_stack():
    chain = {str(n): [str(n + 1)] for n in range(20_000)}
    assert find_cycle(chain) is None
    assert len(find_cycle({**chain, "20000": ["0"]})) == 20_001


# --- a store of labels --------------------------------------------------------------------------------------------------


def test_a_store_by_hand():
    """Three people, three prompts of one pair each, x against y.

    p: Ada x, Ben x, Cyd y (agreement of two: 1 of 3).  q: Ada x, Ben y (0 of 1).  r: Ada equal, Ben equal (1 of 1).
    Mean over prompts: 4/9. Gold says x on p and q. Who named a better one is seconded 2 times of 6 on p and never on q: 1/6.
    """
    labels = [
        says("Ada", "x", "y", prompt="p", gold=1.0),
        says("Ben", "x", "y", prompt="p", gold=1.0, is_turned=True),
        says("Cyd", "y", "x", prompt="p", gold=0.0),
        says("Ada", "x", "y", prompt="q", gold=1.0),
        says("Ben", "y", "x", prompt="q", gold=0.0, is_turned=True),
        says("Ada", "x", "y", prompt="r", preference=0.5, gold=1.0),
        says("Ben", "x", "y", prompt="r", preference=0.5),
    ]
    told = agreement_of(labels)
    assert (told.labels, told.pairs, told.prompts, told.shared_pairs) == (7, 3, 3, 3)
    assert told.equal_share == pytest.approx(2 / 7)
    assert told.agreement.estimate == pytest.approx(4 / 9)
    assert told.agreement.low < 4 / 9 < told.agreement.high
    assert told.seconded.estimate == pytest.approx(1 / 6) and told.seconded.low < 1 / 6 < told.seconded.high
    assert [(two.first, two.second, two.pairs) for two in told.kappas] == [
        ("Ada", "Ben", 3),
        ("Ada", "Cyd", 1),
        ("Ben", "Cyd", 1),
    ]
    assert [two.agreement for two in told.kappas] == pytest.approx([2 / 3, 0, 0])
    # Ada x x =, Ben x y =: p_o 2/3, p_e = 2/3 · 1/3 + 0 + 1/3 · 1/3 = 1/3, κ = 1/2; the others disagree on one pair: κ = 0
    assert [two.kappa for two in told.kappas] == pytest.approx([0.5, 0.0, 0.0]) and told.kappa == pytest.approx(0.5 / 3)
    # o_xy: p 2 · 2/(3-1) = 2 (ordered), q 2 → 4; n = 7, x 3, y 2, = 2: 49 - 9 - 4 - 4 = 32; α = 1 - 6 · 4 / 32
    assert told.alpha == pytest.approx(1 - 6 * 4 / 32)
    ada, ben, cyd = (told.annotators[name] for name in ("Ada", "Ben", "Cyd"))
    assert (ada.labels, ada.equals, ada.against_gold, ada.flip_rate.estimate) == (3, 1, 2, 0.0)
    assert (ben.against_gold, ben.flip_rate.estimate) == (2, 0.5)
    assert (cyd.against_gold, cyd.flip_rate.estimate) == (1, 1.0)
    # against the others: on p Ben and Cyd are split, as Ada and Cyd are; Ada and Ben agree against Cyd; on q one other each
    assert (ada.against_others, ada.dissent_rate.estimate) == (1, 1.0)
    assert (ben.against_others, ben.dissent_rate.estimate) == (1, 1.0)
    assert (cyd.against_others, cyd.dissent_rate.estimate) == (1, 1.0)
    assert told.contradictions == told.cycles == 0


def test_both_ways_is_a_contradiction_whatever_the_order_shown():
    labels = [
        says("Ada", "x", "y"),
        says("Ada", "y", "x", is_turned=True),  # both ways
        says("Ben", "x", "y"),
        says("Ben", "x", "y", is_turned=True),  # the same twice
        says("Cyd", "x", "y"),
        says("Cyd", "x", "y", preference=0.5),  # unsure, but not both ways
    ]
    told = agreement_of(labels)
    assert {name: (one.repeated, one.contradictions) for name, one in told.annotators.items()} == {
        "Ada": (1, 1),
        "Ben": (1, 0),
        "Cyd": (1, 0),
    }
    assert told.contradictions == 1 and told.shared_pairs == 1


def test_a_circle_of_one_annotator_and_of_all_together():
    circle = [says("Ada", "a", "b"), says("Ada", "b", "c"), says("Ada", "c", "a", is_turned=True)]
    told = agreement_of(circle)
    assert told.cycles == told.annotators["Ada"].cycles == 1
    ((question, texts),) = told.cycle_examples
    assert question == "question of p" and set(texts) == {"a", "b", "c"}
    assert "".join(texts) in ("abc", "bca", "cab"), "each better than the next"
    # two others find a better than c: the mean has no circle any more, Ada's own labels still have
    outvoted = agreement_of([*circle, says("Ben", "a", "c"), says("Cyd", "a", "c")])
    assert outvoted.cycles == 0 and outvoted.annotators["Ada"].cycles == 1
    # nobody goes round alone, all together do
    together = agreement_of([says("Ada", "a", "b"), says("Ben", "b", "c"), says("Cyd", "c", "a")])
    assert together.cycles == 1 and all(one.cycles == 0 for one in together.annotators.values())
    # the same three texts under three prompts are no circle
    assert agreement_of([says("A", *pair, prompt=pair) for pair in ("ab", "bc", "ca")]).cycles == 0


def test_equals_close_no_circle():
    """a is better than b and b than c; where a and c are equal that is no circle, however the texts are called."""
    for number in range(20):
        a, b, c = (f"{name}{number}" for name in "abc")
        assert agreement_of([says("A", a, b), says("A", b, c), says("A", a, c, preference=0.5)]).cycles == 0


def test_prompts_weigh_alike_however_many_pairs_they_have():
    """Three pairs of p agree, the one of q does not: 1/2, not 3/4; and two prompts leave a wide interval."""
    labels = [says(name, "x", other, prompt="p") for name in ("Ada", "Ben") for other in ("u", "v", "w")]
    told = agreement_of([*labels, says("Ada", "x", "y", prompt="q"), says("Ben", "y", "x", prompt="q")])
    assert told.agreement.estimate == pytest.approx(0.5)
    assert told.agreement.high - told.agreement.low > 0.7


def test_what_is_undefined_is_left_out():
    told = agreement_of([says("Ada", "x", "y"), says("Ben", "x", "y", prompt="q")])
    assert (told.agreement, told.seconded, told.kappa, told.alpha, told.kappas) == (None, None, None, None, ())
    assert (told.pairs, told.shared_pairs) == (2, 0)
    assert told.annotators["Ada"].flip_rate is None and told.annotators["Ada"].dissent_rate is None
    assert set(told.figures()) == {
        *("pairs", "labels", "annotators", "equal_share", "shared_pairs", "contradictions", "cycles"),
    }
    written = json.loads(json.dumps(as_json(told), allow_nan=False))
    assert written["agreement"] is None and written["seconded"] is None and written["annotators"]["Ada"]["flip_rate"] is None


def test_pairs_that_all_find_equal_say_nothing_of_who_is_seconded():
    """Nine prompts of ten are equal to both: they agree on 0.9 where, of the one that they tell apart, they name each another."""
    equal = [says(name, "x", "y", prompt=str(n), preference=0.5) for name in ("Ada", "Ben") for n in range(9)]
    told = agreement_of([*equal, says("Ada", "x", "y", prompt="p"), says("Ben", "y", "x", prompt="p")])
    assert told.agreement.estimate == pytest.approx(0.9) and told.seconded.estimate == 0.0
    assert agreement_of(equal).seconded is None


def test_an_equal_of_the_other_counts_half():
    """Ada names x, Ben says equal: half, whoever is asked first, and in either order shown."""
    for ben in (says("Ben", "x", "y", preference=0.5), says("Ben", "y", "x", preference=0.5, is_turned=True)):
        assert agreement_of([says("Ada", "x", "y"), ben]).seconded.estimate == pytest.approx(0.5)
    # beside Cyd, who seconds Ada: Ada ½ and 1, Cyd ½ and 1
    three = [says("Ada", "x", "y"), says("Ben", "x", "y", preference=0.5), says("Cyd", "x", "y")]
    assert agreement_of(three).seconded.estimate == pytest.approx(0.75)


def test_no_label_is_refused():
    with pytest.raises(ValueError, match=r"^labels must hold at least one label, got none$"):
        agreement_of([])


def crowd(*, flip_rate, prompts=400, annotators=3, seed=0):
    """Labels of pairs by annotators of whom each flips so many; the better one is known."""
    random = Random(seed)
    for prompt in range(prompts):
        for name in range(annotators):
            better, worse = (f"{prompt} good", f"{prompt} bad")
            is_flipped = random.random() < flip_rate
            pair = (worse, better) if is_flipped else (better, worse)
            yield says(f"a{name}", *pair, prompt=str(prompt), gold=0.0 if is_flipped else 1.0, is_turned=random.random() < 0.5)


@pytest.mark.parametrize("flip_rate", [0.0, 0.1, 0.25])
def test_flip_rates_and_agreement_are_those_of_the_crowd(flip_rate):
    """Two of flip rate f agree with probability f² + (1 - f)²; beyond the chance of 1/2 that is κ = (1 - 2f)².

    400 prompts: three standard errors of a share are at most 0.075, of κ about twice that.
    """
    told = agreement_of(list(crowd(flip_rate=flip_rate)))
    for one in told.annotators.values():
        assert one.flip_rate.estimate == pytest.approx(flip_rate, abs=0.07)
        assert one.flip_rate.low <= flip_rate <= one.flip_rate.high
    assert told.agreement.estimate == pytest.approx(flip_rate**2 + (1 - flip_rate) ** 2, abs=0.05)
    assert told.kappa == pytest.approx((1 - 2 * flip_rate) ** 2, abs=0.1)
    assert told.alpha == pytest.approx((1 - 2 * flip_rate) ** 2, abs=0.1)
    assert told.agreement.low <= told.agreement.estimate <= told.agreement.high


def test_figures_do_not_depend_on_the_order_shown_or_of_the_lines():
    labels = list(crowd(flip_rate=0.25, prompts=40))
    turned = [
        one.model_copy(update={"first": one.second, "second": one.first, "preference": 1 - one.preference, "gold": 1 - one.gold})
        for one in labels
    ]
    told = agreement_of(labels).figures()
    assert agreement_of(turned).figures() == pytest.approx(told)
    assert agreement_of(Random(1).sample(labels, len(labels))).figures() == pytest.approx(told)


def test_soft_labels_count_as_what_they_lean_to():
    hard = [says(name, a, b, prompt=a + b) for name in ("Ada", "Ben") for a, b in combinations("wxyz", 2)]
    soft = [one.model_copy(update={"preference": 0.7}) for one in hard]
    assert agreement_of(soft).figures() == agreement_of(hard).figures()
    assert agreement_of(hard).agreement.estimate == 1.0
