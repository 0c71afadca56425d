"""Similarity by hand and by identity, string checks, and form."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.errors import RequestError
from posttrain.graders import Sample, build_grader
from posttrain.graders.text import METRICS, bleu, gleu, rouge_l, rouge_n

CAT = ["the", "cat", "sat", "on", "the", "mat"]
DOG = ["the", "cat", "lay", "on", "a", "mat"]
WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=12)


def one(spec, completion, **record):
    (found,) = build_grader(spec).grade([Sample(completion, record)])
    return found


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_rouge_1_by_hand():
    # shared words: the (once of two), cat, on, mat = 4; 6 words each: 2 · 4 / 12
    assert rouge_n(CAT, DOG, 1) == pytest.approx(8 / 12, abs=1e-12)


def test_rouge_2_by_hand():
    # shared pairs: "the cat" only, since "sat on" is not "lay on" and "on the" is not "on a"; 5 pairs each: 2 · 1 / 10
    assert rouge_n(CAT, DOG, 2) == pytest.approx(0.2, abs=1e-12)


def test_rouge_l_by_hand():
    # the cat … on … mat: a common subsequence of 4 words: 2 · 4 / 12
    assert rouge_l(CAT, DOG) == pytest.approx(8 / 12, abs=1e-12)
    # reversed, only one word is in order: 2 · 1 / 4
    assert rouge_l(["a", "b"], ["b", "a"]) == pytest.approx(0.5, abs=1e-12)


def test_gleu_by_hand():
    # n-grams of 1 to 4 words: 6 + 5 + 4 + 3 = 18 each; shared: 4 words and 1 pair = 5
    assert gleu(CAT, DOG) == pytest.approx(5 / 18, abs=1e-12)
    # half of the reference: its n-grams 3 + 2 + 1 = 6 are all shared, the reference has 18: recall 6/18 is the smaller
    assert gleu(CAT[:3], CAT) == pytest.approx(6 / 18, abs=1e-12)


def test_bleu_by_hand():
    # p1 = 4/6, p2 = (1 + 1)/(5 + 1), p3 = (0 + 1)/(4 + 1), p4 = (0 + 1)/(3 + 1); equal lengths, so no brevity penalty
    assert bleu(CAT, DOG) == pytest.approx((4 / 6 * 2 / 6 * 1 / 5 * 1 / 4) ** 0.25, abs=1e-12)
    # the first three of six words: every n-gram is shared, p1 = 3/3, p2 = 3/3, p3 = 2/2, p4 = 1/1; penalty exp(1 − 6/3)
    assert bleu(CAT[:3], CAT) == pytest.approx(math.exp(-1), abs=1e-12)
    # a longer text gets no penalty: p1 = 3/6, p2 = (2 + 1)/(5 + 1), p3 = (1 + 1)/(4 + 1), p4 = 1/(3 + 1)
    assert bleu(CAT, CAT[:3]) == pytest.approx((1 / 2 * 1 / 2 * 2 / 5 * 1 / 4) ** 0.25, abs=1e-12)


def test_fuzzy_match_by_hand():
    # "kitten" and "sitting" share i, t, t, n in order: 2 · 4 / 13
    assert METRICS["fuzzy_match"]("Kitten!", "sitting") == pytest.approx(8 / 13, abs=1e-9)


# --- by identity ------------------------------------------------------------------------------------------------------


@given(WORDS, WORDS, st.sampled_from(sorted(METRICS)))
def test_similarity_lies_between_0_and_1_and_is_1_for_itself(left, right, metric):
    a, b = " ".join(left), " ".join(right)
    assert 0 <= METRICS[metric](a, b) <= 1 + 1e-12
    if len(left) >= 5:
        assert METRICS[metric](a, a) == pytest.approx(1.0)
        assert METRICS[metric](a.upper() + "!", a) == pytest.approx(1.0)


@given(WORDS, WORDS)
def test_f1_metrics_are_symmetric(left, right):
    for size in (1, 2, 3):
        assert rouge_n(left, right, size) == rouge_n(right, left, size)
    assert rouge_l(left, right) == rouge_l(right, left)
    assert gleu(left, right) == gleu(right, left)


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_nothing_in_common_is_0_and_empty_is_only_like_empty(metric):
    assert METRICS[metric]("abcdefgh", "12345678") == pytest.approx(0.0, abs=1e-12)
    assert METRICS[metric]("", "one two three four five") == 0.0


def test_padding_with_copies_of_a_word_is_not_paid():
    assert rouge_n(["the"] * 50, CAT, 1) < rouge_n(CAT, CAT, 1) / 10
    assert bleu(["the"] * 50, CAT) < 0.1


# --- the graders ------------------------------------------------------------------------------------------------------


def test_text_similarity():
    spec = {
        "type": "text_similarity",
        "input": "{{sample.output_text}}",
        "reference": "{{item.reference_answer}}",
        "evaluation_metric": "rouge_1",
        "pass_threshold": 0.6,
    }
    found = one(spec, " ".join(CAT), reference_answer=" ".join(DOG))
    assert found.score == pytest.approx(2 / 3)
    assert (found.is_right, found.reason) == (True, "rouge_1 0.667, right from 0.6")
    assert not one({**spec, "pass_threshold": 0.7}, " ".join(CAT), reference_answer=" ".join(DOG)).is_right


def test_a_text_beyond_the_limit_is_cut_and_flagged():
    spec = {"type": "text_similarity", "input": "{{sample.output_text}}", "reference": "a", "evaluation_metric": "rouge_l"}
    assert one(spec, "a " * 30_000).errors == ("truncated_observation_error",)
    assert one(spec, "a").errors == ()


@pytest.mark.parametrize(
    ("operation", "text", "reference", "holds"),
    [
        ("eq", "Paris", "Paris", True),
        ("eq", "paris", "Paris", False),
        ("ne", "paris", "Paris", True),
        ("ne", "Paris", "Paris", False),
        ("neq", "paris", "Paris", True),
        ("like", "in Paris now", "Paris", True),
        ("like", "in paris now", "Paris", False),
        ("like", "Paris", "in Paris now", False),
        ("ilike", "in PARIS now", "paris", True),
        ("ilike", "STRASSE", "straße", True),
        ("ilike", "Rome", "paris", False),
    ],
)
def test_string_check(operation, text, reference, holds):
    spec = {"type": "string_check", "input": "{{sample.output_text}}", "reference": "{{item.x}}", "operation": operation}
    found = one(spec, text, x=reference)
    assert (found.score, found.is_right) == (float(holds), holds)
    assert (found.extracted, found.compared_with) == (text, (reference,))


@pytest.mark.parametrize(
    ("settings", "completion", "holds"),
    [
        ({"pattern": r"^<think>.*</think>"}, "<think>a\nb</think> 3", True),
        ({"pattern": r"^<think>.*</think>"}, "3", False),
        ({"ends_with_answer": True}, "2 + 3 = 5\nAnswer: 5\n", True),
        ({"ends_with_answer": True}, "Answer: 5\nThat was easy", False),
        ({"min_characters": 3}, "abc", True),
        ({"min_characters": 3}, "ab", False),
        ({"max_characters": 3}, "abc", True),
        ({"max_characters": 3}, "abcd", False),
        ({"max_characters": 0}, "", True),
        ({"contains": ["a", "b"]}, "ab", True),
        ({"contains": ["a", "b"]}, "ac", False),
        ({"lacks": ["sorry", "cannot"]}, "yes", True),
        ({"lacks": ["sorry", "cannot"]}, "I cannot", False),
        ({"is_json": True}, '{"a": [1]}', True),
        ({"is_json": True}, "{'a': 1}", False),
    ],
)
def test_each_check_of_form(settings, completion, holds):
    found = one({"type": "format", **settings}, completion)
    (check,) = found.parts
    assert (found.score, found.is_right, found.parts[check]) == (float(holds), holds, float(holds))


def test_form_may_be_paid_by_share():
    spec = {"type": "format", "max_characters": 5, "contains": ["x"], "lacks": ["y"], "score": "share"}
    found = one(spec, "y" * 4)
    assert found.score == pytest.approx(1 / 3)
    assert (found.is_right, found.reason) == (False, "fails contains, lacks")
    assert one({**spec, "score": "all"}, "y" * 4).score == 0


def test_an_unreadable_completion_has_every_part_too():
    spec = {"type": "format", "input": "{{sample.output_json.x}}", "max_characters": 5, "contains": ["x"]}
    found = one(spec, "no JSON")
    assert (found.score, found.parts, found.errors) == (0.0, {"max_characters": 0.0, "contains": 0.0}, ("sample_parse_error",))


def test_a_pattern_that_runs_away_is_stopped_and_flagged(monkeypatch):
    monkeypatch.setattr("posttrain.graders.text.PATTERN_SECONDS", 0.1)
    found = one({"type": "format", "pattern": "(a|aa)+$"}, "a" * 80 + "b")
    assert (found.score, found.errors) == (0.0, ("limit_error",))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"type": "format"},
            "grader checks nothing: give one of pattern, ends_with_answer, min_characters, max_characters, contains, lacks, json",
        ),
        ({"type": "format", "pattern": "("}, "grader.pattern is no regular expression: missing ) at position 1"),
        (
            {"type": "text_similarity", "input": "a", "reference": "b", "evaluation_metric": "cosine"},
            "grader: evaluation_metric cosine is not offered (it needs an embedding model; take score_model with a model of "
            "yours); metrics are fuzzy_match, bleu, gleu, rouge_1, rouge_2, rouge_3, rouge_4, rouge_5, rouge_l",
        ),
        (
            {"type": "string_check", "input": "a", "reference": "b", "operation": "equals"},
            "grader.operation must be one of 'eq', 'ne', 'neq', 'like' or 'ilike', got \"equals\"",
        ),
    ],
)
def test_refusals(spec, message):
    with pytest.raises(RequestError) as refused:
        build_grader(spec)
    assert str(refused.value) == message
