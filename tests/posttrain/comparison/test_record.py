"""The record: its form and the page that documents it, who is compared on what, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from posttrain.comparison.groups import group_questions, numbers_in
from posttrain.comparison.record import build_comparison
from posttrain.comparison.results import Question, check_results
from posttrain.comparison.schema import Record, checked_record
from posttrain.comparison.schema_page import comparison_page, field_names, parts
from posttrain.errors import ContractError, RequestError
from tests.posttrain.comparison.made import ACCURACY, FACTS, LOSS, losses, methods, questions

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def record():
    return build_comparison(design=ACCURACY, questions=questions(), methods=methods(), facts=FACTS)


def test_the_page_is_made_of_the_declarations():
    made = "posttrain/comparison/schema_page.py says something else: write what comparison_page() returns"
    assert (ROOT / "docs/comparison.md").read_text(encoding="utf-8") == comparison_page(), made


def test_every_field_says_what_it_is():
    wanting = [
        f"{part.__name__}.{name}" for part in parts(Record) for name, field in part.model_fields.items() if not field.description
    ]
    assert not wanting


def test_record_and_page_name_the_same_fields(record):
    documented = {name for part in parts(Record) for name in field_names(part)}
    assert set(record) == set(field_names(Record))
    assert set(record["methods"][0]) | set(record["pairs"][0]) | set(record["design"]) <= documented
    assert all(f"| `{name}` |" in comparison_page() for name in documented)
    assert record["schema"] == "posttrain.comparison/1"
    assert checked_record(record) == record == json.loads(json.dumps(record, allow_nan=False))


def test_an_unknown_field_and_nan_are_refused(record):
    for change in ({"surprise": 1}, {"seconds": float("nan")}):
        with pytest.raises(ValidationError):
            checked_record(record | change)


def test_what_latest_json_promises(record):
    for pair in record["pairs"]:
        assert {"methods", "estimate", "low", "high", "p", "p_holm", "smallest_effect", "verdict"} <= set(pair)
    for one in record["methods"]:
        assert one["accuracy"] == one["scores"] and {"seeds", "costs", "saw"} <= set(one)


def test_a_failed_run_leaves_the_rest_compared():
    whole = methods()
    whole[1] = replace(whole[1], by_seed={seed: whole[1].by_seed[seed] for seed in (0, 2)})
    failed = [{"method": "dpo", "seed": 1, "error": "the disk is full", "command": "make pipeline METHOD=dpo", "run_id": None}]
    record = build_comparison(design=ACCURACY, questions=questions(), methods=whole, facts=FACTS | {"failed": failed})
    assert record["status"] == "partial" and record["failed"] == failed
    assert record["warnings"] == [
        "dpo on seed 1 did not finish: the disk is full",
        "dpo has no result on seed 1, so its comparisons use seeds 0 and 2 alone",
    ]
    seeds = {tuple(pair["methods"]): pair["seeds"] for pair in record["pairs"]}
    assert seeds["dpo", "sft"] == [0, 2] and seeds["reft", "sft"] == [0, 1, 2]


def test_a_method_that_went_over_its_budget_is_named_among_the_warnings():
    whole = methods()
    whole[1] = replace(whole[1], budget_used={"amount": 155.0, "share": 2.584})
    design = replace(ACCURACY, budget={"kind": "seconds", "amount": 60.0})
    record = build_comparison(design=design, questions=questions(), methods=whole, facts=FACTS)
    assert len(record["warnings"]) == 1 and f"60 seconds {whole[1].title} used 258 %" in record["warnings"][0]


def test_a_loss_is_shown_as_it_is_and_compared_the_right_way_round():
    given = losses()
    record = build_comparison(design=LOSS, questions=questions(), methods=given, facts=FACTS)
    by_name = {one["name"]: one for one in record["methods"]}
    assert by_name["sft"]["mean"]["estimate"] == pytest.approx(-np.mean([one.scores for one in given[0].by_seed.values()]))
    assert by_name["sft"]["mean"]["low"] < by_name["sft"]["mean"]["estimate"] < by_name["sft"]["mean"]["high"]
    # 0.3 nats a unit of skill, -0.4 and 0.8
    pair = next(one for one in record["pairs"] if one["methods"] == ["reft", "sft"])
    assert pair["estimate"] == pytest.approx(0.36, abs=0.05) and pair["verdict"] == "better"
    assert pair["words"].startswith("better by at least 0.") and pair["words"].endswith(" nats")
    assert record["methods"][0]["accuracy"] is None
    row = record["answers"][0]
    assert row["by"]["sft"]["score"] > row["by"]["reft"]["score"] > 0


def test_a_share_of_failures_is_turned_round_within_its_bounds():
    design = replace(ACCURACY, metric="error_rate", higher_is_better=False)
    given = methods()
    errors = [
        replace(one, by_seed={seed: replace(result, scores=result.scores - 1) for seed, result in one.by_seed.items()})
        for one in given
    ]
    right = build_comparison(design=ACCURACY, questions=questions(), methods=given, facts=FACTS)
    wrong = build_comparison(design=design, questions=questions(), methods=errors, facts=FACTS)
    assert [one | {"words": ""} for one in wrong["pairs"]] == [one | {"words": ""} for one in right["pairs"]]
    for one, other in zip(wrong["methods"], right["methods"], strict=True):
        assert one["mean"]["estimate"] == pytest.approx(1 - other["mean"]["estimate"])
        assert (one["mean"]["low"], one["mean"]["high"]) == pytest.approx((1 - other["mean"]["high"], 1 - other["mean"]["low"]))


def test_one_method_alone():
    record = build_comparison(design=ACCURACY, questions=questions(), methods=methods()[:1], facts=FACTS)
    assert record["pairs"] == [] and record["groups"] is None and record["answers"] == []
    assert record["verdict"] == "Only SFT has results, so there is nothing to compare."


def test_answers_are_those_on_which_methods_differ_most():
    """Four questions: all alike; sft alone right on one of three seeds; dpo alone right, twice. A spread of 1 comes before ⅓."""
    scores = {"sft": [[1, 0, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0]], "dpo": [[1, 1, 1, 0]] * 3}
    whole = []
    for one in methods({"sft": 0.0, "dpo": 0.0}, count=4):
        rows = {seed: replace(one.by_seed[seed], scores=np.array(row, float)) for seed, row in enumerate(scores[one.name])}
        whole.append(replace(one, by_seed=rows))
    record = build_comparison(design=ACCURACY, questions=questions(4), methods=whole, facts=FACTS)
    assert [row["id"] for row in record["answers"]] == ["q1", "q2", "q3"]
    assert record["answers"][2]["by"]["sft"]["score"] == 1.0
    assert record["answers"][0]["by"]["dpo"] | {"is_right": None} == {"seed": 0, "text": "so 1", "is_right": None, "score": 1.0}


def test_every_kind_of_difference_has_its_turn():
    """Of 80 questions the first 70 are won by dpo alone and ten by sft alone: all ten are among the 60."""
    dpo = np.array([1.0] * 70 + [0.0] * 10)
    whole = [
        replace(one, by_seed={0: replace(one.by_seed[0], scores=dpo if one.name == "dpo" else 1 - dpo)})
        for one in methods({"sft": 0.0, "dpo": 0.0}, seeds=(0,), count=80)
    ]
    rows = build_comparison(design=ACCURACY, questions=questions(80), methods=whole, facts=FACTS)["answers"]
    assert len(rows) == 60 and sum(row["by"]["sft"]["score"] for row in rows) == 10


def refused(whole, *, design=ACCURACY, asked=None):
    with pytest.raises(ContractError) as error:
        check_results(design, asked or questions(), whole)
    return str(error.value)


def with_result(change, name="dpo", seed=1):
    whole = methods(samples=0)
    return [
        one
        if one.name != name
        else replace(one, by_seed={**one.by_seed, seed: replace(one.by_seed[seed], **change(one.by_seed[seed]))})
        for one in whole
    ]


def test_what_is_refused():
    whole = methods(samples=0)
    assert refused(whole[1:]) == (
        "the reference sft has no finished run, and every method is compared with it (finished: dpo, reft). "
        "Run it again, or name a finished one: compare.reference"
    )
    assert refused([whole[0], whole[0]]) == "the method sft stands twice in one comparison; each may stand once"
    assert (
        refused(whole, asked=questions()[:1]) == "a comparison needs at least 2 held-out questions, got 1. Hold out more of them"
    )
    assert refused(whole, asked=questions()[:65] * 2) == "the question q0 stands twice in one comparison; each may stand once"
    assert refused([*whole, replace(whole[0], name="kto", by_seed={})]) == (
        "kto has no finished seed, so it cannot be compared. Leave it out, or run it again"
    )
    assert refused([whole[0], replace(whole[1], by_seed={4: replace(whole[1].by_seed[0], seed=4)})]) == (
        "sft finished the seeds [0, 1, 2] and dpo the seeds [4]: no seed is common to both, so nothing pairs them. "
        "Run the missing ones again"
    )


def test_what_is_refused_of_one_run():
    def changed(change):
        return refused(with_result(change))

    place = "dpo, seed 1"
    assert changed(lambda _: {"scores": np.zeros(3)}) == f"{place}: scores holds 3 questions, and the comparison 66"
    assert changed(lambda _: {"texts": ["a"]}) == f"{place}: texts holds 1 questions, and the comparison 66"
    assert changed(lambda _: {"seed": 2}) == f"{place}: its result says that it is of seed 2"
    assert changed(lambda one: {"scores": np.where(np.arange(66) == 4, np.nan, one.scores)}) == (
        f"{place}: the score of question 5 is nan, which is no finite number"
    )
    assert changed(lambda one: {"scores": one.scores * 2}).endswith("a share lies between 0 and 1. Say that the unit is score")
    assert changed(lambda _: {"scores": np.zeros((66, 2))}) == (
        f"{place}: scores must have one value a question, got an array of shape (66, 2)"
    )
    silent = {"sampled": np.ones((66, 1)), "extracted": [["5"]] * 65 + [[None]]}
    assert changed(lambda _: silent) == f"{place}: a right sample of question 66 has no extracted answer, which cannot vote"
    assert changed(lambda _: {"run": {"data_md5": "e" * 32}}) == (
        f"sft, seed 0 ran on data {'d' * 32}, and {place} on data {'e' * 32}: they do not compare. "
        "Run both on one version: make compare"
    )


def test_groups():
    assert [numbers_in(text) for text in ("", "a2", "1,234.5 and 6", "3 4 5")] == [0, 1, 2, 3]
    families = [Question(str(place), f"{place}", (), "sums" if place % 3 else "tales") for place in range(66)]
    assert group_questions(families).by == "family"
    assert {name: len(places) for name, places in group_questions(families).members.items()} == {"sums": 44, "tales": 22}
    # one family of all is none, so the numbers are next
    assert group_questions(questions()).by == "numbers" and group_questions(questions(), "family") is None
    # 1 number in each prompt: the lengths are left
    lengths = [Question(str(place), "a" * place + "1", ()) for place in range(90)]
    by_length = group_questions(lengths)
    assert by_length.by == "length" and [len(places) for places in by_length.members.values()] == [30, 30, 30]
    assert next(iter(by_length.members)) == "short (up to 30 characters)"
    assert group_questions(questions(30)) is None, "no two groups of twenty"
    assert group_questions([replace(one, group=one.id) for one in families], "family") is None, "families of one are no groups"
    with pytest.raises(RequestError, match="there is no grouping famly; did you mean family"):
        group_questions(families, "famly")


@pytest.mark.parametrize(("count", "by"), [(81, None), (80, "family")])
def test_large_families_must_hold_half_of_the_questions(count, by):
    """Two families of 20, the others of one: 40 are half of 80, and less than half of 81."""
    asked = [Question(str(place), "", (), f"large {place % 2}" if place < 40 else f"small {place}") for place in range(count)]
    found = group_questions(asked, "family")
    assert by == (found and found.by)


def test_counts_are_joined_until_a_group_is_large_enough():
    """30 prompts of 1 number, 10 of 2, 15 of 3, 5 of 9: the last is too small alone and joins its neighbour."""
    counts = [1] * 30 + [2] * 10 + [3] * 15 + [9] * 5
    asked = [Question(str(place), "7 " * count, ()) for place, count in enumerate(counts)]
    found = group_questions(asked, "numbers").members
    assert {name: len(places) for name, places in found.items()} == {"1 number": 30, "2 or more numbers": 30}
    assert sorted(place for places in found.values() for place in places) == list(range(60))
