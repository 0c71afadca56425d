import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.data.facts import (
    FACTS,
    FEWEST_LABELS,
    FactTable,
    HeldOut,
    encoding_facts,
    filled_characters,
    first_lines,
    opposing_lines,
    prompt_key,
    row_facts,
    shares,
    token_facts,
)
from posttrain.digests import text_number
from posttrain.records import KIND_OF_ROLE, Demonstration, Message, Preference, Question, Ranking, Rating, Text


def words(texts):
    return [len(text.split()) for text in texts]


def columns(*records, held_out=None, texts=()):
    table = FactTable(type(records[0]), count_tokens=words, held_out=held_out or HeldOut(), texts=texts)
    table.add(records)
    return table.columns()


def preference(number, chosen, rejected, *, prompt="which?", annotator="ann"):
    return Preference(id=str(number), prompt=prompt, chosen=chosen, rejected=rejected, annotator=annotator)


def lines(column):
    return [None if math.isnan(line) else int(line) for line in column]


def test_white_space_does_not_fill_a_text():
    assert filled_characters(" a\tb\n\u00a0c ") == 3
    assert filled_characters(" \n\u2003") == 0


@pytest.mark.parametrize(
    ("text", "fact", "count"),
    [
        ("a\x00b\x1b", "unprintable_characters", 2),
        ("a\x85b", "unprintable_characters", 1),
        ("a\ufffdb\ufffd\ufffd", "replacement_characters", 3),
        ("a\ud800", "replacement_characters", 1),
        ("cafÃ© dâ€™or, naÃ¯ve â€œquotes", "mojibake_marks", 4),
        ("ï»¿start", "mojibake_marks", 1),
        ("smile ðŸ˜€", "mojibake_marks", 1),
    ],
)
def test_each_broken_encoding_has_its_own_mark(text, fact, count):
    facts = encoding_facts((text,))
    assert facts.pop(fact) == count
    assert set(facts.values()) == {0}


@pytest.mark.parametrize(
    "text", ["tab\tline\nreturn\r page\f", "café, naïve, «non», Äpfel", "„Ä“ ÉTÉ Ångström", "日本語 😀 ±½ £5", "SÃO"]
)
def test_good_text_bears_no_mark(text):
    assert set(encoding_facts((text,)).values()) == {0}


@given(st.text(alphabet=st.characters(min_codepoint=0xA1, max_codepoint=0xFF), min_size=1))
def test_utf8_read_as_latin1_is_seen(text):
    # U+00A1..U+00FF become C2 or C3 and a byte 80..BF: a lead letter and either a C1 control or a sign.
    facts = encoding_facts((text.encode("utf-8").decode("latin-1"),))
    assert facts["mojibake_marks"] >= 1


def test_a_prompt_is_known_again_in_other_clothes():
    asked = (Message(role="user", content="How  many\nApples?"),)
    assert prompt_key("how many apples?") == prompt_key(asked) == "how many apples?"
    assert prompt_key("3 + 4") != prompt_key("3 - 4")


def test_parts_of_a_digest_do_not_run_together():
    assert text_number("ab", "c") != text_number("a", "bc")


def test_facts_of_a_demonstration_by_hand():
    record = Demonstration(id="1", prompt="2 + 2 ?", completion="It is 4. Answer: 4", answer="4")
    facts = row_facts(record)
    assert facts["prompt_characters"] == 4  # 2+2?
    assert facts["completion_characters"] == 14  # Itis4.Answer:4
    assert facts["answer_characters"] == 1
    assert facts["final_answer"] == "right"
    # "2 + 2 ?" and a line end: 4 words; the completion: 5 words.
    assert token_facts([record], count_tokens=words) == {"prompt_tokens": [4], "completion_tokens": [5], "total_tokens": [9]}


@pytest.mark.parametrize(
    ("completion", "answer", "verdict"),
    [
        ("#### 5", "4", "wrong"),
        ("no idea", "4", "missing"),
        ("#### 4.0", "4", "right"),
        ("#### 4", None, None),
        ("#### 4", " ", None),
        ("def solution():\n    apples = 9\n    return 4", "4", None),  # a program has to run first
    ],
)
def test_the_final_answer_is_compared_with_the_rows_own(completion, answer, verdict):
    assert row_facts(Demonstration(id="1", prompt="?", completion=completion, answer=answer))["final_answer"] == verdict


def test_the_longest_completion_counts_and_equal_texts_are_counted_once():
    asked = []

    def count(texts):
        asked.extend(texts)
        return words(texts)

    records = [preference(1, "a b c", "a"), preference(2, "a", "a b c")]
    assert token_facts(records, count_tokens=count) == {
        "prompt_tokens": [1, 1],
        "completion_tokens": [3, 3],
        "total_tokens": [4, 4],
    }
    assert len(asked) == len(set(asked)) == 3


def test_the_prompt_is_counted_as_the_model_reads_it_and_every_completion_ends():
    counted = token_facts(
        [preference(1, "a b c", "a")], count_tokens=words, prompt_text=lambda _: "user : q ! bot :", end_tokens=1
    )
    assert counted == {"prompt_tokens": [6], "completion_tokens": [3 + 1], "total_tokens": [6 + 3 + 1]}
    question = Question(id="1", prompt="q", answers=("4",))
    alone = {"prompt_tokens": [1], "completion_tokens": [0], "total_tokens": [1]}
    assert token_facts([question], count_tokens=words, end_tokens=1) == alone
    # a reference is as long as an answer would be, and is not learnt from
    held_out = question.model_copy(update={"reference": "a b"})
    assert token_facts([held_out], count_tokens=words, end_tokens=1) == alone | {"completion_tokens": [3]}


def test_a_corpus_is_never_tokenised():
    table = FactTable(Text, count_tokens=lambda texts: pytest.fail("tokenised"), held_out=HeldOut())
    table.add([Text(id="1", text="one"), Text(id="1", text="")])
    assert table.columns()["text_characters"].tolist() == [3, 0]


@given(st.lists(st.integers(0, 5)))
def test_first_lines_agree_with_a_dictionary(keys):
    seen, expected = {}, []
    for line, key in enumerate(keys, start=1):
        expected.append(seen.get(key))
        seen.setdefault(key, line)
    assert lines(first_lines(np.array(keys, dtype=np.uint64))) == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=12))
def test_opposing_lines_agree_with_a_double_loop(opinions):
    expected = [
        next((line for line, (asked, said) in enumerate(opinions, start=1) if asked == question and said != stance), 0)
        for question, stance in opinions
    ]
    line = np.arange(1, len(opinions) + 1)
    question, stance = np.array(opinions, dtype=np.uint64).reshape(-1, 2).T
    assert opposing_lines(line, question, stance).tolist() == expected


def test_shares_by_hand():
    labels = np.array([7] * 15 + [8] * 5 + [0], dtype=np.uint64)
    assert len(labels) - 1 == FEWEST_LABELS
    assert shares(labels)[[0, 15, -1]].tolist() == [0.75, 0.25, 0]  # 15/20, 5/20; the row without a label counts nowhere
    assert not shares(labels[1:]).any()


def test_one_annotator_who_says_both_contradicts_themself():
    found = columns(preference(1, "A", "B"), preference(2, "C", "D"), preference(3, "B ", "A"))
    assert lines(found["contradicts_own_line"]) == [3, None, 1]
    assert lines(found["contradicts_other_line"]) == [None, None, None]


def test_two_annotators_disagree():
    found = columns(
        preference(1, "A", "B"), preference(2, "B", "A", annotator="bob"), preference(3, "A", "B", annotator="bob", prompt="?")
    )
    assert lines(found["contradicts_own_line"]) == [None, None, None]
    assert lines(found["contradicts_other_line"]) == [2, 1, None]


def test_unnamed_annotators_may_be_different_people():
    found = columns(preference(1, "A", "B", annotator=None), preference(2, "B", "A", annotator=None))
    assert lines(found["contradicts_own_line"]) == [None, None]
    assert lines(found["contradicts_other_line"]) == [2, 1]


def test_a_ranking_is_as_many_opinions_as_pairs_and_ties_are_none():
    first = Ranking(id="1", prompt="?", completions=("A", "B", "C"), ranks=(1, 2, 2), annotator="ann")
    tied = Ranking(id="2", prompt="?", completions=("C", "B"), ranks=(1, 2), annotator="ann")
    turned = Ranking(id="3", prompt="?", completions=("C", "A"), ranks=(1, 2), annotator="ann")
    reverse = Ranking(id="4", prompt="?", completions=("B", "C"), ranks=(1, 2), annotator="ann")
    for decided in (tied, reverse):
        assert lines(columns(first, decided)["contradicts_own_line"]) == [None, None]
    assert lines(columns(first, tied, turned)["contradicts_own_line"]) == [3, None, 1]


def test_a_rating_contradicts_only_on_the_same_scale():
    ratings = [Rating(id="1", prompt="?", completion="A", score=1, low=0, high=5, annotator="ann")]
    ratings += [Rating(id="2", prompt="?", completion="A", score=1, low=0, high=1, annotator="ann")]
    ratings += [Rating(id="3", prompt="?", completion="A", score=4, low=0, high=5, annotator="ann")]
    assert lines(columns(*ratings)["contradicts_own_line"]) == [3, None, 1]


def test_an_exact_duplicate_is_not_counted_again_as_a_repeated_prompt():
    rows = [Question(id=str(number), prompt=prompt, answers=answers) for number, (prompt, answers) in enumerate(
        [("a?", ("1",)), ("A? ", ("2",)), ("a?", ("1",))]
    )]  # fmt: skip
    found = columns(*rows)
    assert lines(found["duplicate_of_line"]) == [None, None, 1]
    assert lines(found["same_prompt_as_line"]) == [None, 1, None]


def test_leaks_name_where_the_held_out_row_lies():
    table = FactTable(Question, count_tokens=words, held_out=HeldOut())
    table.add(
        [Question(id="1", prompt="a?"), Question(id="2", prompt="b?", family="f"), Question(id="3", prompt="c?", family="f")]
    )
    held_out = table.held_out("held_out.jsonl")
    training = [Question(id="1", prompt="B?"), Question(id="2", prompt="d?", family="f"), Question(id="3", prompt="e?")]
    found = columns(*training, held_out=held_out)
    assert found["leaks_from"].tolist() == ["held_out.jsonl line 2", None, None]
    assert found["family_leaks_from"].tolist() == [None, "held_out.jsonl line 2", None]


@given(st.lists(st.sampled_from(["A", "B", "C"]), min_size=2, max_size=8), st.integers(1, 7))
def test_chunks_change_nothing(chosen, cut):
    records = [
        preference(number, text, "B" if text != "B" else "A", annotator=f"a{number % 2}") for number, text in enumerate(chosen)
    ]
    whole, chunked = (FactTable(Preference, count_tokens=words, held_out=HeldOut()) for _ in range(2))
    whole.add(records)
    for chunk in (records[:cut], records[cut:]):
        chunked.add(chunk)
    for name, column in whole.columns().items():
        np.testing.assert_array_equal(column, chunked.columns()[name])


@pytest.mark.parametrize(
    "record",
    [
        Text(id="1", text="t"),
        Demonstration(id="1", prompt="p", completion="c"),
        Question(id="1", prompt=()),
        preference(1, "A", "B"),
        Rating(id="1", prompt="p", completion="c", score=1),
        Ranking(id="1", prompt="p", completions=(), ranks=()),
    ],
)
def test_every_fact_is_documented_and_has_a_row(record):
    found = columns(record)
    assert set(found) <= set(FACTS)
    assert all(len(column) == 1 and column.dtype == FACTS[name][0] for name, column in found.items())
    assert type(record) in KIND_OF_ROLE.values()


def test_texts_are_kept_only_where_they_are_asked_for():
    record = Question(id="1", prompt=(Message(role="user", content="hi"),), answers=("4", "four"))
    assert "answers" not in columns(record)
    kept = columns(record, texts=("answers", "prompt", "family"))
    assert kept["answers"].tolist() == ["4\nfour"]
    assert kept["prompt"].tolist() == ["\n\nHuman: hi\n\nAssistant:"]
    assert kept["family"].tolist() == [None]


def test_a_conversation_is_empty_where_its_last_message_is():
    said = [Message(role="user", content="hi"), Message(role="assistant", content=""), Message(role="user", content="why?")]
    assert row_facts(Question(id="1", prompt=tuple(said)))["prompt_characters"] == 4
    assert row_facts(Question(id="1", prompt=tuple(said[:2])))["prompt_characters"] == 0
