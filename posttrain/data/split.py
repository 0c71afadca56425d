"""Which records are held out, so that nothing held out was seen in training, not even in other words.

Records whose prompts are nearly the same make a family, and a family is never torn apart. Nearly the same: Jaccard
similarity of word 3-grams of at least `split.near_duplicate`. Candidates come from MinHash (Broder 1997) and banding
(Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, section 3.4); each pair is then compared exactly, since templated
prompts share most of their words and would otherwise all fall into one family.

Only numbers are kept, never text: a million records take less than a gigabyte.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from re import compile as pattern
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from posttrain.data.shared_text import LEVELS, SharedText, crowds, leave_out_shared
from posttrain.errors import DataError
from posttrain.prompts import plain
from posttrain.records import Demonstration, Question, Record, Text
from posttrain.settings.data import SplitSettings

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
class Split:
    """One entry a record, in the order in which they were given.

    Attributes:
        family: number of the family. (records,), int32.
        is_held_out: the record is for evaluation. (records,), bool.
        is_asked: the record's question is the one to keep among those with the same prompt. (records,), bool.
    """

    family: NDArray[np.int32]
    is_held_out: NDArray[np.bool_]
    is_asked: NDArray[np.bool_]


@dataclass(frozen=True)
class _Prompts:
    """What is remembered of each record: hashes of its prompt as it is, normalised, and of its family's name (0: none)."""

    exact: NDArray[np.uint64]
    normal: NDArray[np.uint64]
    named: NDArray[np.uint64]
    is_text: NDArray[np.bool_]
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
    "has_answer": np.bool_,
    "sizes": np.int32,
    "kept": np.int32,
    "bands": np.uint32,
    "sketches": np.int32,
}


def split(records: Iterable[Record], *, settings: SplitSettings) -> Split:
    """Return which records are held out, with whole families and the same result on every machine.

    A family is what shares a `family`, a prompt (but for case, punctuation and spaces) or a nearly equal prompt, directly
    or through others; two records that both name a family are not brought together by nearly equal prompts. Families are
    taken in an order that the seed draws, as long as they fit into `settings.held_out` of the records. Texts take part,
    so that none of a held-out family stays in the corpus, but are never what is held out for.

    Where a text that all rows share (a system prompt, a template) makes them nearly equal, what differs is compared instead
    (`posttrain/data/shared_text.py`).

    Args:
        records: a collection, or what gives the same records whenever it is iterated over: they are read once, and two times
            more for each round in which shared text is left out. (records,).
        settings: shares, threshold and seed.

    Returns:
        The split; nothing is held out where there are only texts.

    Raises:
        DataError: there are other records than texts, but all in one family, or every family is too large.
    """
    prompts, family = _found(records, settings)
    is_held_out = _choose(family, prompts, settings) if not prompts.is_text.all() else np.zeros(len(family), dtype=np.bool_)
    order = np.lexsort((np.arange(len(family)), ~prompts.has_answer, prompts.is_text, prompts.exact))
    is_asked = np.zeros(len(family), dtype=np.bool_)
    is_asked[order] = np.r_[True, np.diff(prompts.exact[order]) != 0]
    return Split(family=family, is_held_out=is_held_out, is_asked=is_asked & ~prompts.is_text)


def _found(records: Iterable[Record], settings: SplitSettings) -> tuple[_Prompts, NDArray[np.int32]]:
    """Return what is remembered of the records, and their families; shared text is left out where it makes a crowd of them."""
    if isinstance(records, Iterator):
        raise ValueError("split reads the records several times: give it a list, not an iterator")
    rows = rows_a_band(settings.near_duplicate)
    prompts = _remember(records, rows_a_band=rows)
    if not len(prompts.exact):
        raise DataError("there is no record to split. Import the data again: make import")
    family = _families(prompts, threshold=settings.near_duplicate)
    shared, is_counted = SharedText(np.zeros(len(family), dtype=np.int32)), ~prompts.is_text
    room = _room(int(is_counted.sum()), settings)

    def hashes_of(wanted: set[int]) -> Iterator[tuple[int, Hashes]]:
        for row, record in enumerate(records):
            if row in wanted:
                hashes, counts = shingle_hashes([normalised(prompt_text(record))])
                yield row, shared.without(slice(row, row + 1), hashes, counts)[0]

    for _ in range(LEVELS):
        found = crowds(family, prompts.normal, is_counted, room=room)
        if not leave_out_shared(shared, found, prompts.normal, hashes_of):
            break
        prompts = _remember(records, rows_a_band=rows, shared=shared)
        family = _families(prompts, threshold=settings.near_duplicate)
    return prompts, family


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


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


def _remember(records: Iterable[Record], *, rows_a_band: int, shared: SharedText | None = None) -> _Prompts:
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
            "exact": [_digest(text) for text in texts],
            "normal": [_digest(text) for text in normal],
            "named": [0 if record.family is None else _digest(record.family) | 1 for record in batch],
            "is_text": [isinstance(record, Text) for record in batch],
            "has_answer": [_has_answer(record) for record in batch],
            "sizes": sizes,
            "kept": kept,
            "bands": _bands(minhashes(hashes, counts), rows_a_band=rows_a_band),
            "sketches": sketches,
        }
        for name, values in numbers.items():
            buffers[name] += np.ascontiguousarray(values, dtype=_KEPT[name]).tobytes()
    arrays = {name: np.frombuffer(buffer, dtype=_KEPT[name]) for name, buffer in buffers.items()}
    return _Prompts(**{**arrays, "bands": arrays["bands"].reshape(-1, width)})


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


def _families(prompts: _Prompts, *, threshold: float) -> NDArray[np.int32]:
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


def _sketch_matrix(prompts: _Prompts) -> Any:
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


def _choose(family: NDArray[np.int32], prompts: _Prompts, settings: SplitSettings) -> NDArray[np.bool_]:
    """Return which records are held out: families in seeded order, each taken if it still fits, and never all of them."""
    size = np.bincount(family, weights=~prompts.is_text).astype(np.int64)
    known = np.flatnonzero(size)
    total = int(size.sum())
    if len(known) < 2:
        raise DataError(
            f"nothing can be held out: the dataset's {total} records with a prompt are one family (equal or nearly equal "
            "prompts, or one family name), also by what differs between them. Import records with other prompts as well, or, "
            "where they only look alike, give each a family of its own (FORMAT=records, field family)"
        )
    key = np.full(len(size), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(key, family, prompts.normal)
    known = known[np.argsort(_seeded(key[known], settings.seed), kind="stable")]
    target = _room(total, settings)
    taken: list[int] = []
    room = target
    for number in known.tolist():
        if size[number] <= room and len(taken) < len(known) - 1:
            taken.append(number)
            room -= int(size[number])
            if not room:
                break
    smallest = int(size[known].min())
    if not taken and smallest > settings.max_held_out:
        raise DataError(
            f"nothing can be held out: the smallest of the dataset's {len(known)} families has {smallest} records, more than "
            f"split.max_held_out ({settings.max_held_out}). Raise it in params.yaml, or give the records narrower families"
        )
    chosen = taken or [int(known[np.argmin(size[known])])]
    return np.isin(family, chosen)


def _room(total: int, settings: SplitSettings) -> int:
    """Return how many of `total` records are held out, if families fit."""
    return min(max(1, round(settings.held_out * total)), settings.max_held_out)


def _seeded(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Return a hash of each key that another seed makes another one (MurmurHash3's 64-bit finaliser)."""
    keys = keys ^ np.uint64(_digest(f"seed {seed}"))
    keys = (keys ^ (keys >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    keys = (keys ^ (keys >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return keys ^ (keys >> np.uint64(33))
