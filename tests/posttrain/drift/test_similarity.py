"""The kernel of texts: what it sees, and what it does not."""

import numpy as np
import pytest

from posttrain.drift.similarity import LONGEST, centred, similarity

TEXTS = [
    "Tom has 5 apples. How many?",
    "Tom has 7 apples. How many?",
    "Bitte fasse den Text zusammen!",
    "漢字の問題です",
    "TOM HAS 5 APPLES.",
]


@pytest.fixture(scope="module")
def kernel():
    return similarity(TEXTS)


def test_a_text_is_like_itself_and_texts_are_like_each_other_both_ways(kernel):
    assert kernel == pytest.approx(kernel.T)
    assert np.diag(kernel) == pytest.approx(np.ones(len(TEXTS)))
    assert (kernel >= 0).all() and (kernel <= 1 + 1e-12).all()


def test_words_in_common_make_texts_alike(kernel):
    assert kernel[0, 1] > 0.4 > kernel[0, 2] and kernel[0, 3] == 0
    assert 0 < kernel[0, 4] < kernel[0, 1], "words are compared without case, runs of characters with it"


def test_a_number_alone_makes_a_difference():
    assert similarity(["3 + 4", "3 - 4", "3 + 4"])[0, 1] < 0.999
    assert similarity(["3 + 4", "3 - 4", "3 + 4"])[0, 2] == pytest.approx(1)


def test_the_order_of_texts_decides_nothing(kernel):
    order = [3, 1, 4, 0, 2]
    assert similarity([TEXTS[place] for place in order]) == pytest.approx(kernel[np.ix_(order, order)])


def test_what_lies_behind_the_limit_is_not_read():
    start = "word " * (LONGEST // 5)
    assert similarity([start + "one", start + "two", "another"])[0, 1] == pytest.approx(1)


def test_a_centred_kernel_is_that_of_vectors_about_their_mean(kernel):
    assert centred(kernel).sum(axis=0) == pytest.approx(np.zeros(len(TEXTS)))
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    about_mean = vectors - [1.0, 1.0]
    assert centred(vectors @ vectors.T) == pytest.approx(about_mean @ about_mean.T)


def test_texts_without_any_sign_are_like_nothing():
    assert similarity(["", "  ", "a word"])[0].tolist() == [0, 0, 0]


def test_no_text():
    with pytest.raises(ValueError, match="similarity needs at least one text"):
        similarity([])
