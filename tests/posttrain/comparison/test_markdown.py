import re

import pytest

from posttrain.comparison.markdown import LONGEST_ANSWER, MOST_ANSWERS, as_markdown, escape, headline
from tests.fabricated_comparison import VARIANTS, comparison, hostile, logs, partial


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_begins_with_the_verdict_and_every_table_is_whole(variant):
    text = as_markdown(VARIANTS[variant]())
    assert text.startswith("# Comparison of methods\n\n**") and text.endswith("\n")
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        # a bar within a cell is escaped, so every line has as many cells as the head
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_text_of_others_makes_no_markup():
    text = as_markdown(hostile())
    assert "<script" not in text and "<img" not in text and "**bold**" not in text
    assert not re.search(r"(?<!\\)\]\(", text), "a link"
    assert "\u202e" not in text and "\x1b" not in text and "\\\\u202e" in text
    assert text.encode("utf-8")


def test_the_headline_says_what_was_compared():
    assert headline(partial()) == (
        "5 methods · 1,000 held-out questions · 3 seeds · dataset world · 2026-11-28 · comparison 20261128-174500-3f2a · "
        "partial: 2 runs did not finish"
    )
    assert "results of other tools" in headline(logs()) and "1 seed ·" in headline(logs())


def test_answers_are_short_and_few():
    made = comparison()
    made["answers"] = [made["answers"][0] | {"prompt": "p" * 1_000}] * (MOST_ANSWERS + 3)
    text = as_markdown(made)
    assert "3 more are in comparison.json and on the page." in text
    assert "p" * LONGEST_ANSWER + " …" in text and "p" * (LONGEST_ANSWER + 1) not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b*c", r"a\_b\*c"),
        ("two\nlines", "two lines"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("see https://x.y", "see https:&#47;&#47;x.y"),
        ("back\\slash", "back\\\\slash"),
    ],
)
def test_escape(text, shown):
    assert escape(text) == shown


def test_it_is_the_same_each_time():
    assert as_markdown(comparison()) == as_markdown(comparison())
