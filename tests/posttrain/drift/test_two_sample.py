"""The two-sample test: its parts by hand, its level where nothing differs, also where prompts come in families."""

import numpy as np
import pytest

from posttrain.drift.two_sample import TwoSample, auc_within, folds_of, out_of_fold, relabelled, two_sample_test


def flags(text):
    return np.array([sign == "1" for sign in text])


def texts(random, families, *, size=1, features=12, twins=0.0):
    """Return a linear kernel of normal vectors: families of `size`, whose members differ by `twins`."""
    centres = np.repeat(random.standard_normal((families, features)), size, axis=0)
    vectors = centres + twins * random.standard_normal(centres.shape)
    vectors -= vectors.mean(axis=0)
    return vectors @ vectors.T, np.repeat(np.arange(families), size)


# --- parts ------------------------------------------------------------------------------------------------------------


def test_auc_counts_pairs_within_a_fold_and_ties_as_half():
    # fold 0: 2 and 3 are above 1, 2 of 2 pairs. Fold 1: a tie, 0.5 of 1. Fold 2: 8 is below 9, 0 of 1. So 2.5 of 4; a pair
    # across folds counts nothing
    scores = np.array([[1.0], [2.0], [3.0], [0.5], [0.5], [9.0], [8.0]])
    labels, fold = flags("0110101")[:, None], np.array([0, 0, 0, 1, 1, 2, 2])
    assert auc_within(scores, labels, fold) == pytest.approx([2.5 / 4])
    assert auc_within(-scores, labels, fold) == pytest.approx([1.5 / 4])


def test_auc_is_undefined_where_no_fold_has_both():
    with pytest.raises(ValueError, match="no fold has texts of both samples; take fewer folds or more texts"):
        auc_within(np.zeros((2, 1)), flags("01")[:, None], np.array([0, 1]))


def test_folds_keep_families_whole_and_are_of_about_equal_size():
    family = np.array([7] * 6 + [3] * 4 + list(range(10, 20)))
    fold = folds_of(family, 4, np.random.default_rng(0))
    assert all(len(set(fold[family == name])) == 1 for name in set(family))
    # 20 texts in 4 folds; the family of 6 makes one larger
    assert sorted(np.bincount(fold)) in ([4, 5, 5, 6], [4, 4, 6, 6])


def test_folds_need_as_many_families():
    with pytest.raises(ValueError, match="greater than the number of groups"):
        folds_of(np.array([0, 0, 1]), 3, np.random.default_rng(0))


def test_permutations_move_whole_families_among_their_size_and_texts_within_a_mixed_one():
    #       singles   pairs of one sample   a pair of both   a single triple
    family = np.array([0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 7])
    is_second = flags("0011" + "00" + "11" + "01" + "111")
    labels = relabelled(is_second, family, 400, np.random.default_rng(0))
    assert (labels[:, 0] == is_second).all()
    drawn = labels[:, 1:]
    assert (drawn.sum(axis=0) == is_second.sum()).all()
    assert (drawn[:4].sum(axis=0) == 2).all()
    assert (drawn[4] == drawn[5]).all() and (drawn[6] == drawn[7]).all() and (drawn[4] != drawn[6]).all()
    assert (drawn[8] != drawn[9]).all()
    assert drawn[10:].all(), "there is no other family of three to change places with"
    # each of these is a fair coin: 400 tosses lie within 4 standard deviations, 40, of 200
    for row in (0, 4, 8):
        assert abs(drawn[row].sum() - 200) < 40


def test_scores_are_those_of_ridge_regression_on_the_other_folds():
    random = np.random.default_rng(1)
    kernel, _ = texts(random, 9)
    labels = np.stack([flags("010101011"), flags("110010100")], axis=1)
    fold = np.array([0, 1, 2] * 3)
    scores = out_of_fold(kernel, labels, fold)
    penalty = np.trace(kernel) / 9
    for column in (0, 1):
        for place in range(3):
            inside, others = fold == place, fold != place
            wanted = labels[others, column] - labels[others, column].mean()
            inverse = np.linalg.inv(kernel[np.ix_(others, others)] + penalty * np.eye(6))
            assert scores[inside, column] == pytest.approx(kernel[np.ix_(inside, others)] @ inverse @ wanted, abs=1e-8)


def test_texts_that_are_all_alike_are_not_told_apart():
    found = two_sample_test(np.zeros((20, 20)), flags("01" * 10), np.arange(20), folds=5, permutations=99, seed=0)
    assert (found.auc, found.p) == (0.5, 1.0) and found.sd == 0


# --- the test ---------------------------------------------------------------------------------------------------------


def test_a_shift_is_found_and_a_twin_of_it_is_the_same_each_time():
    random = np.random.default_rng(2)
    vectors = random.standard_normal((80, 8)) + np.repeat([[0.0], [1.0]], 40, axis=0)
    vectors -= vectors.mean(axis=0)
    asked = {"folds": 5, "permutations": 99, "seed": 3}
    found = two_sample_test(vectors @ vectors.T, np.arange(80) >= 40, np.arange(80), **asked)
    assert found.p == 0.01, "1 / (99 + 1): the true labels alone"
    assert found.auc > 0.85 and (found.first, found.second) == (40, 40)
    again = two_sample_test(vectors @ vectors.T, np.arange(80) >= 40, np.arange(80), **asked)
    assert again.auc == found.auc and (again.permuted == found.permuted).all()
    assert np.mean(found.scores[40:]) > np.mean(found.scores[:40])


def alarms(repetitions, *, knows_families):
    """Return the share of alarms at 5 % among samples of 12 families of four nearly equal texts each, drawn alike."""
    count = 0
    for repetition in range(repetitions):
        random = np.random.default_rng(repetition)
        kernel, family = texts(random, 24, size=4, twins=0.05)
        is_second = np.repeat(random.permutation(24) < 12, 4)
        known = family if knows_families else np.arange(96)
        count += two_sample_test(kernel, is_second, known, folds=4, permutations=99, seed=repetition).p <= 0.05
    return count / repetitions


def test_twins_do_not_raise_alarms_where_families_are_known():
    # at 5 % of 40: 2 expected, more than 7 with a chance of 0.1 %
    assert alarms(40, knows_families=True) <= 7 / 40
    assert alarms(4, knows_families=False) == 1.0, "else every text is recognised by its twins"


def test_the_level_holds_for_samples_of_different_size():
    count = 0
    for repetition in range(60):
        random = np.random.default_rng(100 + repetition)
        kernel, family = texts(random, 60)
        is_second = random.permutation(60) < 20
        count += two_sample_test(kernel, is_second, family, folds=5, permutations=99, seed=repetition).p <= 0.05
    # 3 expected, more than 9 with a chance of 0.1 %
    assert count <= 9


@pytest.mark.parametrize(
    ("kernel", "labels", "family", "sentence"),
    [
        (np.eye(3), "01", [0, 1], "kernel (3, 3), labels (2,) and families (2,) must be of the same texts"),
        (np.eye(2), "01", [0, 1, 2], "kernel (2, 2), labels (2,) and families (3,) must be of the same texts"),
        (np.eye(2), "11", [0, 1], "each sample must have a text"),
        (np.eye(2), "00", [0, 1], "each sample must have a text"),
    ],
)
def test_what_is_no_test_is_refused(kernel, labels, family, sentence):
    with pytest.raises(ValueError) as refused:
        two_sample_test(kernel, flags(labels), np.array(family), folds=2, permutations=99, seed=0)
    assert str(refused.value) == sentence


def test_what_so_many_texts_see():
    permuted = np.array([0.40, 0.45, 0.50, 0.55, 0.60] * 20)
    test = TwoSample(auc=0.5, p=0.6, permuted=permuted, scores=np.zeros(2), first=1, second=1)
    # the 95 % quantile of 100 values of which twenty are 0.60
    assert test.critical(0.05) == 0.60 and test.critical(0.3) == 0.55
    # place 94.05 of 0 to 99 lies between 0.4 and 0.6: only the upper one is exceeded by no more than 5 of 100
    uneven = TwoSample(auc=0.5, p=0.6, permuted=np.array([0.4] * 95 + [0.6] * 5), scores=np.zeros(2), first=1, second=1)
    assert uneven.critical(0.05) == 0.60
    # variance: (0.01 + 0.0025 + 0 + 0.0025 + 0.01) / 5 · 100 / 99 = 0.0050505, sd 0.0710669; z_.8 = 0.8416212
    assert test.sd == pytest.approx(0.0710669, abs=1e-6)
    assert test.smallest(0.05) == pytest.approx(0.60 + 0.0598114, abs=1e-6)
    assert test.smallest(0.05, least=0.7) == pytest.approx(0.70 + 0.0598114, abs=1e-6)
    assert test.smallest(0.05, least=0.99) == 1.0
