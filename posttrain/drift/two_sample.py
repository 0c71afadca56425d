"""A classifier two-sample test: two samples differ where a classifier tells which of them a text is from.

The idea is Friedman's (2003, "On multivariate goodness-of-fit and two-sample testing") and Lopez-Paz and Oquab's (2017,
arXiv:1610.06545). What is measured is the area under the ROC curve (AUC) on texts that the classifier did not see, and how sure
it is comes from permuting the labels. The classifier is scikit-learn's ridge regression on labels, which fits all permutations
at once: why not a logistic one, docs/decisions/0024-drift.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]

DIGITS = 9
"""Of a score: equal texts must tie, and matrix products differ in the last digits by where a row lies."""
POWER = 0.8
"""Chance with which the smallest effect is seen (Cohen 1988, the usual choice; statistics of a comparison use it as well)."""


@dataclass(frozen=True)
class TwoSample:
    """What a test found.

    Attributes:
        auc: chance that a text of the second sample gets a higher score than one of the first, ties as half.
        p: share of the labellings, the true one among them, with an AUC as high; one-sided.
        permuted: AUC of each permutation. (permutations,).
        scores: of each text, by a classifier that saw neither it nor its family; higher: more like the second sample. (texts,).
        first, second: texts of each sample.
    """

    auc: float
    p: float
    permuted: Array
    scores: Array
    first: int
    second: int

    @property
    def sd(self) -> float:
        """Standard deviation of the AUC where the samples are alike."""
        return float(self.permuted.std(ddof=1))

    def critical(self, level: float) -> float:
        """Return the AUC that permutations exceed in no more than `level` of the cases."""
        return float(np.quantile(self.permuted, 1 - level, method="higher"))

    def smallest(self, level: float, *, least: float = 0.5) -> float:
        """Return the smallest true AUC that an alarm at `level`, and at `least`, has a chance of 80 % to see.

            max(critical, least) + z_.8 sd

        The deviation of the AUC is taken from the permutations: an effect that is just visible varies about as much.
        """
        return min(1.0, max(self.critical(level), least) + float(ndtri(POWER)) * self.sd)


def two_sample_test(
    kernel: Array, is_second: Flags, family: NDArray[np.integer], *, folds: int, permutations: int, seed: int
) -> TwoSample:
    """Test whether a classifier tells the texts of two samples apart.

    Nearly equal texts, a family, lie in one fold, so that none is recognised by its twin; and they are permuted together.

    Args:
        kernel: similarity of the texts, centred (posttrain/drift/similarity.py). (texts, texts).
        is_second: the text is of the second sample. (texts,), bool.
        family: number of the family of each text. (texts,).
        folds: of the cross-validation.
        permutations: of the labels.
        seed: of folds and permutations.

    Raises:
        ValueError: shapes differ, a sample is empty, there are fewer families than folds, or no fold has texts of both samples.
    """
    if kernel.shape != (len(is_second), len(is_second)) or len(family) != len(is_second):
        raise ValueError(f"kernel {kernel.shape}, labels {is_second.shape} and families {family.shape} must be of the same texts")
    if is_second.all() or not is_second.any():
        raise ValueError("each sample must have a text")
    random = np.random.default_rng(seed)
    fold = folds_of(family, folds, random)
    labels = relabelled(is_second, family, permutations, random)
    scores = out_of_fold(kernel, labels, fold)
    aucs = auc_within(scores, labels, fold)
    return TwoSample(
        auc=float(aucs[0]),
        p=float((aucs >= aucs[0]).mean()),
        permuted=aucs[1:],
        scores=scores[:, 0].copy(),
        first=int((~is_second).sum()),
        second=int(is_second.sum()),
    )


def folds_of(family: NDArray[np.integer], folds: int, random: Generator) -> Numbers:
    """Return the fold of each text: families whole, folds of about equal size. Labels have no say, so a permutation keeps them.

    Raises:
        ValueError: there are fewer families than folds.
    """
    from sklearn.model_selection import GroupKFold

    names, number = np.unique(family, return_inverse=True)
    # numbers that nothing is known by: GroupKFold takes families of one size in their order
    number = random.permutation(len(names))[number]
    fold = np.zeros(len(family), dtype=np.int64)
    for place, (_, held_out) in enumerate(GroupKFold(n_splits=folds).split(fold, groups=number)):
        fold[held_out] = place
    return fold


def relabelled(is_second: Flags, family: NDArray[np.integer], permutations: int, random: Generator) -> Flags:
    """Return the labels and their permutations, (texts, 1 + permutations); the first column is the labels as they are.

    A family whose texts are all of one sample changes places with families of its own size, as a whole. Within a family that has
    texts of both, the texts change places. Both keep the counts, and leave the chance of a labelling as it is where the samples
    are alike, whether texts or whole families were drawn.
    """
    labels = np.repeat(is_second[:, None], permutations + 1, axis=1)
    for places in _exchangeable(is_second, family):
        # one label a block: of a whole family, or of a text
        drawn = random.permuted(np.repeat(is_second[places[:, 0]][None], permutations, axis=0), axis=1).T
        labels[places, 1:] = drawn[:, None, :]
    return labels


def _exchangeable(is_second: Flags, family: NDArray[np.integer]) -> Iterator[Numbers]:
    """Yield the blocks that change places with one another: (blocks, texts of a block), as places in the labels."""
    order = np.argsort(family, kind="stable")
    _, starts = np.unique(family[order], return_index=True)
    of_size: dict[int, list[Numbers]] = {}
    for members in np.split(order, starts[1:]):
        if 0 < is_second[members].sum() < len(members):
            yield members[:, None]
        else:
            of_size.setdefault(len(members), []).append(members)
    for blocks in of_size.values():
        yield np.stack(blocks)


def out_of_fold(kernel: Array, labels: Flags, fold: Numbers) -> Array:
    """Return the score of each text by the ridge regression of the labels of all other folds. (texts, labellings).

        score = K_{text, others} (K_{others, others} + α I)⁻¹ (labels - their mean),   α = mean of K's diagonal

    α is as large as a text's own part. All labellings are solved for at once, since they differ on the right side alone.
    """
    from sklearn.kernel_ridge import KernelRidge

    penalty = float(kernel.diagonal().mean())
    scores = np.zeros(labels.shape)
    for place in np.unique(fold):
        is_held_out = fold == place
        others = np.flatnonzero(~is_held_out)
        wanted = labels[others].astype(np.float64)
        # texts that are all alike have a kernel of zeros, and any penalty will do
        ridge = KernelRidge(alpha=penalty if penalty > 0 else 1.0, kernel="precomputed")
        ridge.fit(kernel[np.ix_(others, others)], wanted - wanted.mean(axis=0))
        scores[is_held_out] = ridge.predict(kernel[np.ix_(is_held_out, others)])
    return np.round(scores, DIGITS)


def auc_within(scores: Array, labels: Flags, fold: Numbers) -> Array:
    """Return the AUC of each labelling, from pairs of texts within a fold: another fold's scores are another classifier's.

        AUC = Σ over folds (R - m (m + 1) / 2) / Σ over folds m n

    R is the sum of the ranks of the m texts of the second sample among the m + n of their fold (Mann and Whitney 1947). Scores
    pooled over folds would be biased below one half (Parker, Günter and Bedo 2007, doi:10.1186/1471-2105-8-326).

    Args:
        scores, labels: (texts, labellings).
        fold: (texts,).

    Raises:
        ValueError: no fold has texts of both samples.
    """
    from scipy.stats import rankdata

    wins = np.zeros(labels.shape[1])
    pairs = np.zeros(labels.shape[1])
    for place in np.unique(fold):
        is_in = fold == place
        of_second = labels[is_in]
        second = of_second.sum(axis=0)
        wins += (rankdata(scores[is_in], axis=0) * of_second).sum(axis=0) - second * (second + 1) / 2
        pairs += second * (len(of_second) - second)
    if not pairs.all():
        raise ValueError("no fold has texts of both samples; take fewer folds or more texts")
    return np.asarray(wins / pairs)
