"""Any of k, majority of k, best of k: every subset listed, by hand, by identity, by refusal."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.statistics.repeated import best_of, majority_at, pass_at

SAMPLES = st.lists(st.tuples(st.sampled_from(["1", "2", "3", "4", None]), st.integers(0, 3)), min_size=1, max_size=7)
"""Of each sample: what it answers, and its score. "1" and "2" are right, so that two texts are one answer."""
RIGHT = ("1", "2")


def subsets(count: int, k: int) -> list[tuple[int, ...]]:
    return list(combinations(range(count), k))


@given(SAMPLES)
def test_each_is_the_mean_over_all_subsets(samples: list[tuple[str | None, int]]) -> None:
    answers, scores = [one for one, _ in samples], [float(score) for _, score in samples]
    right = [answer in RIGHT for answer in answers]
    for k in range(1, len(samples) + 1):
        anyone, majority, best = [], [], []
        for subset in subsets(len(samples), k):
            anyone.append(any(right[place] for place in subset))
            votes = Counter("right" if right[place] else answers[place] for place in subset if answers[place] is not None)
            winners = [name for name, count in votes.items() if count == max(votes.values())]
            majority.append(("right" in winners) / len(winners) if winners else 0.0)
            highest = [place for place in subset if scores[place] == max(scores[other] for other in subset)]
            best.append(np.mean([right[place] for place in highest]))
        assert pass_at([right], k)[0] == pytest.approx(np.mean(anyone), abs=1e-12)
        assert majority_at([answers], [right], k)[0] == pytest.approx(np.mean(majority), abs=1e-12)
        assert best_of([scores], [right], k)[0] == pytest.approx(np.mean(best), abs=1e-12)


def test_pass_at_by_hand() -> None:
    # 1 of 4 right, two drawn: 1 - C(3, 2) / C(4, 2) = 1 - 3/6; none right: 0; all: 1
    assert pass_at([[0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], 2) == pytest.approx([0.5, 0.0, 1.0])


def test_majority_by_hand() -> None:
    # a right twice, b and c once. All four: a wins. Three: {a, a, x} twice of 4 wins, {a, b, c} twice is a third each: ½ + ½ · ⅓
    given = [["a", "b", "a", "c"]], [[1, 0, 1, 0]]
    assert majority_at(*given, 4) == pytest.approx([1.0])
    assert majority_at(*given, 3) == pytest.approx([2 / 3])
    # with one vote each, a vote is a draw
    assert majority_at(*given, 1) == pytest.approx([0.5])


def test_a_sample_without_an_answer_does_not_vote() -> None:
    assert majority_at([["a", None, None]], [[1, 0, 0]], 3) == pytest.approx([1.0])
    assert majority_at([[None, None]], [[0, 0]], 2) == pytest.approx([0.0])
    # one of two: the right one is drawn half the time
    assert majority_at([["a", None]], [[1, 0]], 1) == pytest.approx([0.5])


def test_right_answers_written_differently_are_one() -> None:
    assert majority_at([["5", "5.0", "7", "7"]], [[1, 1, 0, 0]], 4) == pytest.approx([0.5])
    # a text that was right once is right wherever it stands
    assert majority_at([["5", "5", "7"]], [[1, 0, 0]], 3) == pytest.approx([1.0])


def test_best_by_hand() -> None:
    # the best of two of scores 1, 2, 3, 4 is the 2nd, 3rd, 4th with chances 1/6, 2/6, 3/6
    assert best_of([[1, 2, 3, 4]], [[0, 1, 0, 1]], 2) == pytest.approx([4 / 6])
    # 1 and the two of score 2, which share: {1, 2} twice, {2, 2} once, a right one half the time
    assert best_of([[1, 2, 2]], [[0, 1, 0]], 2) == pytest.approx([0.5])
    assert best_of([[1.0, 3.0]], [[2.5, -1.0]], 2) == pytest.approx([-1.0])


def test_one_of_one_is_the_mean_and_all_of_all_is_what_is_there() -> None:
    random = np.random.default_rng(0)
    right = random.random((50, 8)) < 0.5
    answers = [["yes" if one else str(place) for place, one in enumerate(row)] for row in right]
    scores = random.normal(size=right.shape)
    for at in (pass_at(right, 1), majority_at(answers, right, 1), best_of(scores, right, 1)):
        assert at == pytest.approx(right.mean(axis=1))
    assert (pass_at(right, 8) == right.any(axis=1)).all()
    assert (best_of(scores, right, 8) == np.take_along_axis(right, scores.argmax(1)[:, None], 1)[:, 0]).all()


def test_thousands_of_samples_are_counted_not_listed() -> None:
    right = np.zeros((1, 3_000), dtype=bool)
    right[0, :1_000] = True
    answers = [["yes"] * 1_000 + ["no"] * 1_500 + ["maybe"] * 500]
    assert 0.999999 < pass_at(right, 100)[0] <= 1
    # 3 voters, 1/3 yes, 1/2 no, 1/6 maybe, in the limit: ³·(1/9)(2/3) + 1/27 + ⅓ · 6 · (1/3)(1/2)(1/6)
    assert majority_at(answers, right, 3)[0] == pytest.approx(2 / 9 + 1 / 27 + 1 / 18, abs=1e-3)
    assert best_of(np.arange(3_000.0)[None], right, 1_500)[0] == pytest.approx(0.0, abs=1e-9)


def test_what_is_refused() -> None:
    right = [[1, 0]]
    with pytest.raises(ValueError, match="k must lie between 1 and the 2 samples of a question, got 3"):
        pass_at(right, 3)
    with pytest.raises(ValueError, match="k must lie between 1 and the 2 samples of a question, got 0"):
        best_of([[1.0, 2.0]], right, 0)
    with pytest.raises(ValueError, match=r"right must have the axes \(questions, n\), got shape \(2,\)"):
        pass_at([1, 0], 1)
    with pytest.raises(ValueError, match="right and wrong only"):
        pass_at([[0.5, 1.0]], 1)
    with pytest.raises(ValueError, match=r"answers must have the shape of right, \(1, 2\)"):
        majority_at([["a"]], right, 1)
    with pytest.raises(ValueError, match="question 0 has a right sample without an answer, which cannot vote"):
        majority_at([[None, "a"]], right, 1)
    with pytest.raises(ValueError, match=r"scores and right must have the axes \(questions, n\), got \(1, 1\) and \(1, 2\)"):
        best_of([[1.0]], right, 1)
    with pytest.raises(ValueError, match="must be finite"):
        best_of([[np.nan, 1.0]], right, 1)
