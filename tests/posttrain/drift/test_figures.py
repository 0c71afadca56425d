"""What prompts differ in: each figure by hand."""

import pytest

from posttrain.drift.figures import (
    describe,
    index_by_chance,
    length_bins,
    length_quantiles,
    main_script,
    script_counts,
    script_of,
    stability_index,
    telling_words,
    unseen_share,
)


def test_the_stability_index():
    # shares with half a count: 0.5, 0.5 and 25.5/101 = 0.25248, 75.5/101 = 0.74752
    # (0.25248 - 0.5) ln 0.50495 + (0.74752 - 0.5) ln 1.49505 = 0.16913 + 0.09954
    assert stability_index([50, 50], [25, 75]) == pytest.approx(0.26867, abs=1e-5)
    assert stability_index([50, 50], [75, 25]) == pytest.approx(0.26867, abs=1e-5)
    assert stability_index([50, 70, 0], [100, 140, 0]) < 0.01, "the same shares, but for half a count"
    assert stability_index([5, 0], [0, 5]) < float("inf")


@pytest.mark.parametrize(("expected", "actual"), [([1, 2], [1, 2, 3]), ([0, 0], [1, 2]), ([1, 2], [0, 0])])
def test_an_index_of_nothing_is_refused(expected, actual):
    with pytest.raises(ValueError, match="two samples that are not empty need the same bins"):
        stability_index(expected, actual)


def test_the_index_by_chance():
    # 9 degrees times (1/100 + 1/300)
    assert index_by_chance(10, 100, 300) == pytest.approx(0.12)


def test_lengths():
    texts = ["x" * length for length in range(1, 102)]
    assert length_quantiles(texts) == {"5": 6.0, "25": 26.0, "50": 51.0, "75": 76.0, "95": 96.0}
    # deciles of 1..101 are 11, 21, …, 91; a bin holds its upper edge
    assert length_bins(texts, ["x" * length for length in (1, 11, 12, 91, 92, 500)]) == [2, 1, 0, 0, 0, 0, 0, 0, 1, 2]
    assert length_bins(["aa"] * 9, ["a", "aa", "aaa"]) == [2, 1], "deciles that are all alike are one edge"


@pytest.mark.parametrize(
    ("character", "script"),
    [
        *(
            ("a", "Latin"),
            ("É", "Latin"),
            ("ｔ", "Latin"),
            ("я", "Cyrillic"),
            ("漢", "Han"),
            ("ア", "Katakana"),
            ("한", "Hangul"),
        ),
        *(("ع", "Arabic"), ("7", ""), ("+", ""), (" ", ""), ("🙂", "")),
    ],
)
def test_scripts_of_letters(character, script):
    assert script_of(character) == script


def test_the_script_of_most_letters():
    assert main_script("слово or two слова") == "Cyrillic"
    assert main_script("ab яю") == "Cyrillic", "of two as frequent ones the first in the alphabet"
    assert main_script("3 + 4 = ?") == "no letters"
    assert script_counts(["one", "two", "три", "4"]) == {"Latin": 2, "Cyrillic": 1, "no letters": 1}


def test_unseen_words():
    # of Tom, has, TWO, two, pears: two and pears are new, three of five words
    assert unseen_share(["Tom has apples"], ["Tom has TWO two pears"]) == pytest.approx(3 / 5)
    assert unseen_share(["a"], ["", "+"]) == 0


def test_words_that_tell():
    training = ["please add"] * 95 + ["please sum"] * 5
    new = ["please add"] * 70 + ["please sum"] * 30
    more, less = telling_words(training, new, most=5)
    # sum: 30 of 100 against 5: ln (30.5 / 70.5) - ln (5.5 / 95.5) = 2.01643 over √(1/30.5 + 1/70.5 + 1/5.5 + 1/95.5) = 0.48914
    assert (more.word, more.training, more.new) == ("sum", 0.05, 0.3)
    assert more.z == pytest.approx(4.1224, abs=1e-3)
    assert (less.word, less.z) == ("add", -more.z)
    assert telling_words(training, new, most=0) == []
    # b stands in all 4 new prompts and in none of 1,000: z = 4.8, but four prompts prove nothing
    assert [one.word for one in telling_words(["a"] * 1_000, ["b"] * 4, most=5)] == ["a"]
    assert [one.word for one in telling_words(["a"] * 1_000, ["b"] * 5, most=5)] == ["b", "a"], "five prompts are enough"


def test_a_word_counts_once_a_prompt():
    assert telling_words(["x"] * 50, ["y " * 30] + ["x"] * 49, most=5) == []


def test_the_description():
    told = describe(["one two"] * 10, {"new": ["три"] * 5})
    assert told["training"] == {"length": {str(share): 7.0 for share in (5, 25, 50, 75, 95)}, "scripts": {"Latin": 10}}
    new = told["new"]
    assert new["scripts"] == {"Cyrillic": 5} and new["unseen_words"] == 1.0
    # every decile is 7, so there are two bins: up to 7 characters, and beyond
    assert new["length_psi"] == pytest.approx(stability_index([10, 0], [5, 0]))
    assert new["script_psi"] == pytest.approx(stability_index([10, 0], [0, 5]))
    assert new["script_psi_by_chance"] == pytest.approx(1 / 10 + 1 / 5)
