"""Every number of a record, worked out again from tables of per-question scores by other code (again.py)."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from posttrain.comparison.record import build_comparison
from tests.posttrain.comparison import again
from tests.posttrain.comparison.made import ACCURACY, FACTS, LOSS, losses, methods, questions

pytestmark = pytest.mark.usefixtures("no_collection")

CLOSE = {"rel": 1e-9, "abs": 1e-9}


def without_one_run():
    whole = methods()
    return [replace(one, by_seed={s: r for s, r in one.by_seed.items() if (one.name, s) != ("dpo", 1)}) for one in whole]


def two_copies():
    """Two names for one model, and two other methods."""
    first, second, third = methods()
    return [first, replace(first, name="copy", title="COPY"), third, second]


CASES = {
    "three methods, three seeds": (ACCURACY, methods),
    "one seed": (ACCURACY, lambda: methods(seeds=(5,))),
    "a run failed": (ACCURACY, without_one_run),
    "nothing sampled": (ACCURACY, lambda: methods(samples=0)),
    "a loss": (LOSS, losses),
    "a loss, one seed": (LOSS, lambda: losses(seeds=(2,))),
    "two copies": (ACCURACY, two_copies),
    "two methods": (ACCURACY, lambda: methods({"sft": 0.0, "dpo": 0.1})),
    "much noise": (ACCURACY, lambda: methods({"sft": 0.0, "dpo": 0.0, "kto": 0.0, "reft": 0.2}, noise=1.5)),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    design, make = CASES[request.param]
    given = make()
    record = build_comparison(design=design, questions=questions(), methods=given, facts=FACTS)
    tables = {one.name: {seed: list(map(float, result.scores)) for seed, result in one.by_seed.items()} for one in given}
    return design, given, tables, record


def told(part, *names):
    return [part[name] for name in names or ("estimate", "low", "high")]


def turned(values, design):
    estimate, low, high = values
    return [estimate, low, high] if design.higher_is_better else [-estimate, -high, -low]


def test_levels(case):
    design, _, tables, record = case
    for part in record["methods"]:
        table = tables[part["name"]]
        for row in part["scores"]:
            expected = again.level([table[row["seed"]]], is_share=design.unit == "share")
            assert told(row) == pytest.approx(turned(expected, design), **CLOSE)
        whole = again.level([table[seed] for seed in part["seeds"]], is_share=design.unit == "share")
        assert told(part["mean"]) == pytest.approx(turned(whole, design), **CLOSE)
        assert part["seeds"] == sorted(table)
        assert part["accuracy"] == (part["scores"] if design.metric == "accuracy" else None)


def families_again(tables, design, names):
    """Return the pairs of each family, recomputed."""

    def pairs(of):
        return again.family([again.Pair(tables, a, b, is_share=design.unit == "share") for a, b in of], margin=design.margin)

    means = {name: np.mean([np.mean(row) for row in tables[name].values()]) for name in names}
    best = max(names, key=means.__getitem__)
    every = list(combinations(names, 2))
    turned_round = [(best, b if a == best else a) if best in (a, b) else (a, b) for a, b in every]
    return {
        "reference": pairs([(name, design.reference) for name in names if name != design.reference]),
        # which one is best was read from the same values: corrected over every pair
        "best": [one for one in pairs(turned_round) if one.a == best],
        "all": pairs(every),
    }


def test_pairs(case):
    design, given, tables, record = case
    expected = families_again(tables, design, [one.name for one in given])
    assert sum(map(len, expected.values())) == len(record["pairs"])
    for name, members in expected.items():
        found = [pair for pair in record["pairs"] if pair["family"] == name]
        assert [pair["methods"] for pair in found] == [[pair["a"], pair["b"]] for pair in found] == [[m.a, m.b] for m in members]
        for pair, one in zip(found, members, strict=True):
            check_pair(pair, one)
            check_needs(pair, one, design)


def check_pair(pair, one):
    assert told(pair) == pytest.approx([one.estimate, one.low, one.high], **CLOSE)
    assert told(pair, "low_decides", "high_decides") == pytest.approx([one.low_decides, one.high_decides], **CLOSE)
    assert pair["p"] == pytest.approx(one.p, rel=1e-7, abs=1e-12)
    assert pair["p_holm"] == pytest.approx(one.p_holm, rel=1e-7, abs=1e-12)
    assert pair["smallest_effect"] == pytest.approx(one.smallest, rel=1e-7)
    assert pair["degrees"] == pytest.approx(one.degrees, rel=1e-7)
    assert pair["verdict"] == one.verdict
    assert [row["seed"] for row in pair["per_seed"]] == pair["seeds"] == one.common
    for row, seed in zip(pair["per_seed"], one.per_seed, strict=True):
        assert told(row) == pytest.approx(seed, **CLOSE)


def check_needs(pair, one, design):
    """Each design shows the effect, and one seed, or one question, less would not."""
    if pair["verdict"] not in ("undecided", "disagree"):
        assert pair["needs"] == []
    for need in pair["needs"]:
        assert need["effect"] == pytest.approx(design.margin) or need["effect"] == pytest.approx(abs(one.estimate))
        assert one.sees(need["effect"], one.level, need["seeds"], need["questions"])
        fewer = (need["seeds"] - 1, need["questions"])
        if need["questions"] not in (one.count, 2 * one.count, 4 * one.count):
            fewer = (need["seeds"], need["questions"] - 1)
        assert fewer[0] < 2 <= one.seeds or not one.sees(need["effect"], one.level, *fewer)


def test_groups(case):
    design, given, tables, record = case
    members = {f"{count} numbers": [place for place in range(66) if place % 3 == count - 2] for count in (2, 3, 4)}
    pairs = {}
    for name, places in members.items():
        inside = {
            method: {seed: [row[place] for place in places] for seed, row in table.items()} for method, table in tables.items()
        }
        for one in given:
            if one.name != design.reference:
                pairs[name, one.name] = again.Pair(inside, one.name, design.reference, is_share=design.unit == "share")
    again.family(list(pairs.values()), margin=design.margin)
    assert [(group["name"], group["questions"]) for group in record["groups"]["groups"]] == [(name, 22) for name in members]
    for group in record["groups"]["groups"]:
        for method, gain in group["methods"].items():
            one = pairs.pop((group["name"], method))
            expected = [one.estimate, one.low, one.high, one.p, one.p_holm]
            assert told(gain, "estimate", "low", "high", "p", "p_holm") == pytest.approx(expected, rel=1e-7, abs=1e-9)
            assert gain["verdict"] == one.verdict
    assert not pairs


def test_samples_and_yardsticks(case):
    _, given, _, record = case
    for part, method in zip(record["methods"], given, strict=True):
        results = [method.by_seed[seed] for seed in part["seeds"]]
        if results[0].sampled is None:
            assert part["sampled"] is part["mean_sampled"] is part["yardsticks"] is None
            continue
        tables = [[sum(row) / 4 for row in one.sampled] for one in results]
        assert told(part["mean_sampled"]) == pytest.approx(again.level(tables, is_share=True), **CLOSE)
        for row, table in zip(part["sampled"], tables, strict=True):
            assert told(row) == pytest.approx(again.level([table], is_share=True), **CLOSE)
        check_yardsticks(part["yardsticks"], results)


def check_yardsticks(found, results):
    assert (list(found["pass"]), list(found["majority"]), list(found["best_of"])) == (["1", "2", "4"], ["2", "4"], ["2", "4"])
    assert found["best_of_by"] == "reward model of dpo"
    for k in (1, 2, 4):
        passed = [[again.pass_at(row, k) for row in one.sampled] for one in results]
        assert told(found["pass"][str(k)]) == pytest.approx(again.level(passed, is_share=True), **CLOSE)
    for k in (2, 4):
        votes = [[again.majority(*both, k) for both in zip(one.extracted, one.sampled, strict=True)] for one in results]
        assert told(found["majority"][str(k)]) == pytest.approx(again.level(votes, is_share=True), **CLOSE)
        chosen = [[again.best(*both, k) for both in zip(one.reward, one.sampled, strict=True)] for one in results]
        assert told(found["best_of"][str(k)]) == pytest.approx(again.level(chosen, is_share=True), **CLOSE)


def test_costs_and_other_means(case):
    _, _, _, record = case
    for part in record["methods"]:
        seeds = part["seeds"]
        mean = sum(seeds) / len(seeds)
        assert part["costs"]["train_seconds"] == pytest.approx(10 + mean)
        assert [row["train_seconds"] for row in part["costs_per_seed"]] == [10 + seed for seed in seeds]
        assert part["costs"]["critic_tokens"] is None
        assert part["kl"] == pytest.approx(1.5 + mean)
        assert part["saw"]["labels"] == round(100 + mean)
        assert part["saw"]["labels_by"] == "simulated annotators" and part["saw"]["judge"] is None
        assert told(part["win_rate"]) == pytest.approx([0.6, 0.5, 0.7])


@pytest.mark.parametrize("seeds", [(0, 1, 2), (0,)])
def test_two_copies_are_never_called_different(seeds):
    first = methods(seeds=seeds)[0]
    copy = replace(first, name="copy", title="COPY")
    record = build_comparison(design=ACCURACY, questions=questions(), methods=[first, copy], facts=FACTS)
    for pair in record["pairs"]:
        assert pair["estimate"] == 0 and pair["p"] == pair["p_holm"] == 1
        assert pair["verdict"] in ("undecided", "equal")
        assert pair["low"] < 0 < pair["high"]
    assert record["answers"] == []
    json.dumps(record, allow_nan=False)


def test_a_model_that_is_better_by_construction_is_found():
    """Right answers in the place of 5 % of its own, on each of three seeds, 1,000 questions: the lower bound is below that."""
    base = methods({"sft": 0.0}, count=1000, samples=0)[0]
    better = {}
    for seed, result in base.by_seed.items():
        scores = result.scores.copy()
        scores[np.flatnonzero(scores == 0)[:50]] = 1.0
        better[seed] = replace(result, scores=scores)
    given = [base, replace(base, name="dpo", title="DPO", by_seed=better)]
    record = build_comparison(design=ACCURACY, questions=questions(1000), methods=given, facts=FACTS)
    pair = record["pairs"][0]
    assert pair["verdict"] == "better" and pair["estimate"] == pytest.approx(0.05)
    assert 0 < pair["low_decides"] < 0.05
    assert record["verdict"].startswith("DPO is better than SFT: +5.0 points [+")
