"""Which words of two answers differ."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.labelling import differences
from posttrain.labelling.differences import differing


def marked(first, second):
    """Return the texts that are marked in each, None where nothing is."""
    spans = differing(first, second)
    return spans and tuple([text[slice(*span)] for span in side] for text, side in zip((first, second), spans, strict=True))


@pytest.mark.parametrize(
    "first, second, one, other",
    [
        ("It is 4.", "It is 5.", ["4"], ["5"]),
        ("a b c", "a c", ["b"], []),
        ("a c", "a b c", [], ["b"]),
        ("yes", "no", ["yes"], ["no"]),
        ("", "x y", [], ["x y"]),
        ("", "", [], []),
        ("a  b\n", "a b", [], []),  # space is not compared
        ("one two\n\nthree four five", "one 2\n\n3 four five", ["two\n\nthree"], ["2\n\n3"]),  # one span over the space within
        ("x a a a", "a a a", ["x"], []),
        ("a a a x", "a a a", ["x"], []),
        ("a a", "a a a", [], ["a"]),  # a common beginning and end must not overlap
        ("don't stop", "do stop", ["don't"], ["do"]),
        ("今天天气很好", "今天天气不好", ["很"], ["不"]),  # written without spaces
        ("हिन्दी भाषा है", "हिन्दी भाषा थी", ["है"], ["थी"]),  # signs above and below belong to their letter
        ("👨‍👩‍👧 a", "👨‍👩‍👦 a", ["👨‍👩‍👧"], ["👨‍👩‍👦"]),  # one picture of several characters is never torn
        ("x = 1", "x = -1", [], ["-"]),
    ],
)
def test_by_hand(first, second, one, other):
    assert marked(first, second) == (one, other)


def test_answers_with_little_in_common_are_not_marked():
    words = [f"word{number}" for number in range(20)]
    # of 20 words as long as each other 6 are common: 0.3 of the letters of both; 5 are 0.25
    common, fewer = [words[:6] + [f"more{number}" for number in range(14)], words[:5] + [f"more{number}" for number in range(15)]]
    first = [word.ljust(8, "x") for word in words]
    assert differing(" ".join(first), " ".join(word.ljust(8, "x") for word in common)) is not None
    assert differing(" ".join(first), " ".join(word.ljust(8, "x") for word in fewer)) is None
    # of a short text each reader sees what is meant
    assert differing("a b c d e f g h i j k l", "m n o p q r s t u v w x") is not None
    assert differing("a b c d e f g h i j k l m", "n o p q r s t u v w x y z") is None


words = st.lists(st.sampled_from(["the", "a", "fox", "dog", "7", "."]), max_size=30).map(" ".join)


@given(words, words)
def test_what_is_not_marked_is_the_same_in_both(first, second):
    spans = differing(first, second)
    if spans is None:
        return
    left, right = ("".join(_without(text, side).split()) for text, side in zip((first, second), spans, strict=True))
    assert left == right
    if first.split() == second.split():
        assert spans == ([], [])


def _without(text, spans):
    kept, at = [], 0
    for start, end in spans:
        assert at <= start < end  # in order, none empty, none over another
        kept.append(text[at:start])
        at = end
    return "".join([*kept, text[at:]])


@given(words, words)
def test_long_texts_are_compared_in_another_way_to_the_same_end(first, second):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(differences, "READABLE", 0)
        test_what_is_not_marked_is_the_same_in_both.hypothesis.inner_test(first, second)


def test_a_long_text_is_marked_word_by_word():
    random = Random(0)
    words = [random.choice(["alpha", "beta", "gamma", "delta", "12"]) for _ in range(3000)]
    other = [*words]
    for place in range(5, 3000, 100):
        other[place] = "omega"
    one, two = marked(" ".join(words), " ".join(other))
    assert two == ["omega"] * 30
    assert sum(len(run.split()) for run in one) == 30


def test_what_is_too_long_is_marked_between_beginning_and_end(monkeypatch):
    monkeypatch.setattr(differences, "MOST", 3)
    assert marked("a b c d e", "a x c y e") == (["b c d"], ["x c y"])
