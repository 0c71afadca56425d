"""Families of records whose prompts are nearly the same, found without comparing every pair.

Nearly the same: Jaccard similarity of word 3-grams of at least `split.near_duplicate`. Candidates come from MinHash (Broder
1997) and banding (Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, section 3.4); each pair is then compared exactly,
since templated prompts share most of their words and would otherwise all fall into one family.

Only numbers are kept, never text: a million records take less than a gigabyte.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from re import compile as pattern
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from posttrain.data.shared_text import SharedText
from posttrain.digests import text_number
from posttrain.prompts import plain
from posttrain.records import Demonstration, Question, Record, Text

Hashes = NDArray[np.uint32]
Rows = NDArray[np.int64]
PERMUTATIONS = 128
"""MinHash permutations; the estimate errs by 0.035 at a similarity of 0.8, and banding forgives that."""
LONGEST_SKETCH = 128
"""Shingles kept of one prompt. A longer prompt keeps its smallest hashes, a fair sample, and is compared by estimate."""
COMPARED = 2
"""First members, and neighbours, of a bucket that a member is compared with; bounds the work where a template fills one."""
MISSED = 0.01
"""Chance, at most, that a pair at exactly the threshold shares no bucket."""
_BATCH = 1_024
_PAIRS = 50_000
_PUNCTUATION = str.maketrans(dict.fromkeys(".,;:!?\"'()[]{}`´‘’“”", " "))
_UNSPACED = pattern("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True)
class Prompts:
    """What is remembered of each record: hashes of its prompt as it is, normalised, and of its family's name (0: none)."""

    exact: NDArray[np.uint64]
    normal: NDArray[np.uint64]
    named: NDArray[np.uint64]
    is_text: NDArray[np.bool_]
    is_held_out: NDArray[np.bool_]
    has_answer: NDArray[np.bool_]
    sizes: NDArray[np.int32]
    kept: NDArray[np.int32]
    bands: NDArray[np.uint32]
    sketches: NDArray[np.int32]


_KEPT: dict[str, type[np.generic]] = {
    "exact": np.uint64,
    "normal": np.uint64,
    "named": np.uint64,
    "is_text": np.bool_,
    "is_held_out": np.bool_,
    "has_answer": np.bool_,
    "sizes": np.int32,
    "kept": np.int32,
    "bands": np.uint32,
    "sketches": np.int32,
}


def prompt_text(record: Record) -> str:
    """Return the text that decides to which family a record belongs."""
    return record.text if isinstance(record, Text) else plain(record.prompt)  # type: ignore[attr-defined]


def normalised(text: str) -> str:
    """Return `text` without case, punctuation and spacing; signs of arithmetic stay, since 3 + 4 is not 3 - 4."""
    if not text.isascii():
        text = _UNSPACED.sub(r" \g<0> ", unicodedata.normalize("NFKC", text))
    return " ".join(text.casefold().translate(_PUNCTUATION).split())


def rows_a_band(threshold: float) -> int:
    """Return the most hashes a band can have, so that a pair at `threshold` is missed with a chance of `MISSED` at most."""
    fitting = [rows for rows in range(1, PERMUTATIONS + 1) if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= MISSED]
    return max(fitting, default=1)


def shingle_hashes(texts: list[str]) -> tuple[Hashes, Rows]:
    """Return the hashes of the word 3-grams of normalised texts, one text after the other, and how many each has.

    A text of fewer than three words has its words instead, an empty text one shingle that only empty texts have.
    """
    words = [text.encode(errors="surrogatepass").split() or [b""] for text in texts]
    counts = np.array([len(each) for each in words], dtype=np.int64)
    flat = np.fromiter(map(crc32, chain.from_iterable(words)), dtype=np.uint32, count=int(counts.sum()))
    last = np.cumsum(counts)
    grams = _mixed(flat)
    grams[:-2] = _mixed(_mixed(_mixed(flat[:-2]) + flat[1:-1]) + flat[2:])
    is_start = np.ones(len(flat), dtype=np.bool_)
    for back in (1, 2):
        is_start[(last - back)[counts >= 3]] = False
    is_short = np.repeat(counts < 3, counts)
    grams[is_short] = _mixed(flat[is_short])
    return grams[is_start], np.where(counts < 3, counts, counts - 2)


def minhashes(hashes: Hashes, counts: Rows) -> NDArray[np.uint32]:
    """Return the MinHash signatures, (permutations, texts), bit for bit those of `datasketch.MinHash(scheme="affine32")`.

        signature[i] = min over h of a_i fmix(h) + b_i  (mod 2^32)

    Computed for many texts at once, which datasketch does one by one; its permutations are used.
    """
    from datasketch import MinHash

    factors, shifts = MinHash(num_perm=PERMUTATIONS, seed=1, scheme="affine32").permutations
    starts = np.cumsum(counts) - counts
    mixed = _mixed(hashes)
    signatures = np.empty((PERMUTATIONS, len(counts)), dtype=np.uint32)
    for row, (factor, shift) in enumerate(zip(factors, shifts, strict=True)):
        np.minimum.reduceat(mixed * factor + shift, starts, out=signatures[row])
    return signatures


def _mixed(hashes: Hashes) -> Hashes:
    """Return MurmurHash3's 32-bit finaliser of each hash."""
    hashes = (hashes ^ (hashes >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    hashes = (hashes ^ (hashes >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return hashes ^ (hashes >> np.uint32(16))


def remember(records: Iterable[Record], *, rows_a_band: int, shared: SharedText | None = None) -> Prompts:
    """Read the records once, a batch at a time, and keep their hashes in buffers that grow in place."""
    width = PERMUTATIONS // rows_a_band
    buffers = {name: bytearray() for name in _KEPT}
    rows = iter(records)
    while batch := list(islice(rows, _BATCH)):
        texts = [prompt_text(record) for record in batch]
        normal = [normalised(text) for text in texts]
        hashes, counts = shingle_hashes(normal)
        if shared is not None:
            start = len(buffers["is_text"])  # a byte a record
            hashes, counts = shared.without(slice(start, start + len(batch)), hashes, counts)
        sketches, sizes, kept = _sketches(hashes, counts)
        numbers = {
            "exact": [text_number(text) for text in texts],
            "normal": [text_number(text) for text in normal],
            "named": [0 if record.family is None else text_number(record.family) | 1 for record in batch],
            "is_text": [isinstance(record, Text) for record in batch],
            "is_held_out": [record.held_out is True for record in batch],
            "has_answer": [_has_answer(record) for record in batch],
            "sizes": sizes,
            "kept": kept,
            "bands": _bands(minhashes(hashes, counts), rows_a_band=rows_a_band),
            "sketches": sketches,
        }
        for name, values in numbers.items():
            buffers[name] += np.ascontiguousarray(values, dtype=_KEPT[name]).tobytes()
    arrays = {name: np.frombuffer(buffer, dtype=_KEPT[name]) for name, buffer in buffers.items()}
    return Prompts(**{**arrays, "bands": arrays["bands"].reshape(-1, width)})


def _has_answer(record: Record) -> bool:
    return (
        bool(record.answers) if isinstance(record, Question) else isinstance(record, Demonstration) and record.answer is not None
    )


def _sketches(hashes: Hashes, counts: Rows) -> tuple[NDArray[np.int64], Rows, Rows]:
    """Return the smallest distinct hashes of each text in rising order, how many distinct ones it has, and how many are kept."""
    owner = np.repeat(np.arange(len(counts)), counts)
    distinct = np.sort((owner << 31) | (hashes >> np.uint32(1)).astype(np.int64))
    distinct = distinct[np.r_[True, distinct[1:] != distinct[:-1]]]
    sizes = np.bincount(distinct >> 31, minlength=len(counts))
    rank = np.arange(len(distinct)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return distinct[rank < LONGEST_SKETCH] & 0x7FFFFFFF, sizes, np.minimum(sizes, LONGEST_SKETCH)


def _bands(signatures: NDArray[np.uint32], *, rows_a_band: int) -> NDArray[np.uint32]:
    """Return one hash a band, (texts, bands): two texts whose signatures agree on the whole band agree in it."""
    width = PERMUTATIONS // rows_a_band
    grouped = signatures[: width * rows_a_band].reshape(width, rows_a_band, -1)
    folded = np.zeros((width, signatures.shape[1]), dtype=np.uint32)
    for row in range(rows_a_band):
        folded = _mixed(folded + grouped[:, row])
    return folded.T


def families(prompts: Prompts, *, threshold: float) -> NDArray[np.int32]:
    """Return the number of each record's family: the connected parts of "same prompt", "same name" and "nearly equal"."""
    _, first, prompt = np.unique(prompts.normal, return_index=True, return_inverse=True)
    names, name = np.unique(prompts.named, return_inverse=True)
    is_named = prompts.named != 0
    links = (prompt[is_named], len(first) + name[is_named])
    label = _connected(links, len(first) + len(names))
    has_nameless = np.bincount(prompt, weights=~is_named, minlength=len(first)) > 0
    if has_nameless.any():
        sketch, sizes = _sketch_matrix(prompts), prompts.sizes.astype(np.int64)
        for left, right in _candidates(prompts.bands, first):
            is_new = (label[left] != label[right]) & (has_nameless[left] | has_nameless[right])
            left, right = left[is_new], right[is_new]
            is_near = np.zeros(len(left), dtype=np.bool_)
            for start in range(0, len(left), _PAIRS):
                part = slice(start, start + _PAIRS)
                is_near[part] = jaccard(sketch, sizes, first[left[part]], first[right[part]]) >= threshold
            if is_near.any():
                label = _joined(label, left[is_near], right[is_near])
    return np.unique(label[prompt], return_inverse=True)[1].astype(np.int32)


def _connected(links: tuple[Rows, Rows], nodes: int) -> NDArray[np.int32]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(links[0]), dtype=np.int8), links), shape=(nodes, nodes))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int32)


def _joined(label: NDArray[np.int32], left: Rows, right: Rows) -> NDArray[np.int32]:
    """Return the labels after the parts of `left` and `right` have become one."""
    return _connected((label[left].astype(np.int64), label[right].astype(np.int64)), int(label.max()) + 1)[label]


def _candidates(bands: NDArray[np.uint32], first: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Yield, band by band, the pairs worth comparing: with a bucket's first members, and with the neighbours in the bucket.

    A bucket is sorted by the next band, so that pairs which agree in both are neighbours however full the bucket is.
    """
    width = bands.shape[1]
    for band in range(width):
        bucket = bands[first, band]
        order = np.lexsort((bands[first, (band + 1) % width], bucket))
        bucket = bucket[order]
        place = np.arange(len(order))
        opening = np.maximum.accumulate(np.where(np.r_[True, bucket[1:] != bucket[:-1]], place, 0))
        for step in range(COMPARED):
            is_later = place - opening > step
            yield order[opening[is_later] + step], order[is_later]
            is_neighbour = place - opening > COMPARED + step
            yield order[place[is_neighbour] - step - 1], order[is_neighbour]


def _sketch_matrix(prompts: Prompts) -> Any:
    """Return a sparse 0-1 matrix, a row for each record and a column for each possible hash."""
    from scipy.sparse import csr_array

    ends = np.r_[0, np.cumsum(prompts.kept, dtype=np.int64)]
    ends = ends.astype(np.int32) if ends[-1] < 2**31 else ends  # else scipy copies the hashes as 64-bit numbers
    ones = np.ones(len(prompts.sketches), dtype=np.int8)
    whole = csr_array((ones, prompts.sketches, ends), shape=(len(prompts.kept), 2**31 - 1))
    whole.has_canonical_format = True
    return whole


def jaccard(sketch: Any, sizes: Rows, left: Rows, right: Rows) -> NDArray[np.float64]:
    """Return the Jaccard similarity of pairs of prompts: exact where no sketch was cut short, else an estimate.

        p = min(1, K / |A|, K / |B|),   I = |sketch(A) ∩ sketch(B)| / p,   J = I / (|A| + |B| - I)

    A sketch holds the K smallest hashes, which is each hash with chance K / |A|; only those below both cuts can be shared.
    """
    shared = np.diff(sketch[left].multiply(sketch[right]).tocsr().indptr)
    one, other = sizes[left], sizes[right]
    both = shared * np.maximum(1.0, np.maximum(one, other) / LONGEST_SKETCH)
    return np.asarray(both / np.maximum(one + other - both, 1.0), dtype=np.float64)
