"""How alike prompts are: by the words and the runs of characters that they share, whatever the language."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LONGEST = 2_000
"""Characters of a prompt that are compared, from its beginning; how long prompts are is compared apart."""
HASHES = 2**18
"""Columns that n-grams are hashed into: a quarter of scikit-learn's default, ten times the n-grams of some thousand prompts."""
WORDS = r"(?u)\w+|[^\w\s]"
"""A word, or a sign by itself: numbers and signs of arithmetic are what some prompts differ in."""


def similarity(texts: Sequence[str]) -> Array:
    """Return the kernel of texts: scalar products of their n-grams, weighted by tf-idf.

        K = (W Wᵀ + C Cᵀ) / 2

    W has a row a text with the words and pairs of words in it, C one with its runs of three and four characters, case kept. Both
    are hashed (Weinberger et al. 2009, arXiv:0902.2206), weighted with (1 + log tf) · idf and scaled to length 1. The weights are
    those of all texts together: no label enters, so permuting labels leaves the kernel as it is.

    Args:
        texts: (texts,); of each the first `LONGEST` characters count.

    Returns:
        (texts, texts), symmetric; 1 on the diagonal for texts that have n-grams of both kinds.

    Raises:
        ValueError: there is no text.
    """
    # scikit-learn takes a second to import, and only a check of prompts needs it
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    if not texts:
        raise ValueError("similarity needs at least one text")
    cut = [text[:LONGEST] for text in texts]
    kernel = np.zeros((len(cut), len(cut)))
    plain = {"n_features": HASHES, "alternate_sign": False, "norm": None}
    for counts in (
        HashingVectorizer(analyzer="word", ngram_range=(1, 2), token_pattern=WORDS, **plain),
        HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), lowercase=False, **plain),
    ):
        weights = TfidfTransformer(sublinear_tf=True).fit_transform(counts.transform(cut))
        kernel += (weights @ weights.T).toarray() / 2
    return kernel


def centred(kernel: Array) -> Array:
    """Return the kernel of the same texts about their mean: rows and columns sum to 0.

    K - mean of rows - mean of columns + mean of all
    """
    means = kernel.mean(axis=0)
    return np.asarray(kernel - means - means[:, None] + means.mean())
