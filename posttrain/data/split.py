"""Which records are held out, so that nothing held out was seen in training, not even in other words.

Records whose prompts are nearly the same make a family (posttrain/data/near_duplicates.py), and a family is never torn apart.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posttrain.data.near_duplicates import (
    Hashes,
    Prompts,
    families,
    normalised,
    prompt_text,
    remember,
    rows_a_band,
    shingle_hashes,
)
from posttrain.data.shared_text import LEVELS, SharedText, crowds, leave_out_shared
from posttrain.digests import text_number
from posttrain.errors import DataError
from posttrain.records import Record
from posttrain.settings.data import SplitSettings


@dataclass(frozen=True)
class Split:
    """One entry a record, in the order in which they were given.

    Attributes:
        family: number of the family. (records,), int32.
        is_held_out: the record is for evaluation. (records,), bool.
        is_left_out: the record is for nothing: it would train on the prompt, or nearly, of one that its publisher held out.
            (records,), bool.
        is_asked: the record's question is the one to keep among those with the same prompt. (records,), bool.
    """

    family: NDArray[np.int32]
    is_held_out: NDArray[np.bool_]
    is_left_out: NDArray[np.bool_]
    is_asked: NDArray[np.bool_]


def split(records: Iterable[Record], *, settings: SplitSettings) -> Split:
    """Return which records are held out, with whole families and the same result on every machine.

    A family is what shares a `family`, a prompt (but for case, punctuation and spaces) or a nearly equal prompt, directly
    or through others; two records that both name a family are not brought together by nearly equal prompts. Families are
    taken in an order that the seed draws, as long as they fit into `settings.held_out` of the records. Texts take part,
    so that none of a held-out family stays in the corpus, but are never what is held out for.

    Where records say themselves that they are held out, those are, and no others; what else is in their families is left out.

    Where a text that all rows share (a system prompt, a template) makes them nearly equal, what differs is compared instead
    (`posttrain/data/shared_text.py`).

    Args:
        records: a collection, or what gives the same records whenever it is iterated over: they are read once, and two times
            more for each round in which shared text is left out. (records,).
        settings: shares, threshold and seed.

    Returns:
        The split; nothing is held out where there are only texts.

    Raises:
        DataError: there are other records than texts, but all in one family, or every family is too large; or every record
            is held out by its publisher, or nearly equal to one that is.
    """
    prompts, family = _found(records, settings)
    is_held_out = prompts.is_held_out & ~prompts.is_text
    is_left_out = np.isin(family, family[prompts.is_held_out]) & ~is_held_out
    if is_held_out.any():
        _check_trained_on(prompts, is_held_out | is_left_out, settings)
    elif not prompts.is_text.all():
        is_held_out = _choose(family, prompts, settings)
        is_left_out &= ~is_held_out
    order = np.lexsort((np.arange(len(family)), ~prompts.has_answer, is_left_out, prompts.is_text, prompts.exact))
    is_asked = np.zeros(len(family), dtype=np.bool_)
    is_asked[order] = np.r_[True, np.diff(prompts.exact[order]) != 0]
    is_asked &= ~prompts.is_text
    return Split(family=family, is_held_out=is_held_out, is_left_out=is_left_out, is_asked=is_asked)


def _check_trained_on(prompts: Prompts, is_gone: NDArray[np.bool_], settings: SplitSettings) -> None:
    """Refuse a dataset of which nothing is left to train on."""
    if (is_gone | prompts.is_text).all():
        raise DataError(
            f"nothing is left to train on: each of the dataset's {int((~prompts.is_text).sum())} records with a prompt is held "
            "out by its publisher, or nearly equal to one that is. Import training records with other prompts as well, or raise "
            f"split.near_duplicate ({settings.near_duplicate:g}) in params.yaml"
        )


def _found(records: Iterable[Record], settings: SplitSettings) -> tuple[Prompts, NDArray[np.int32]]:
    """Return what is remembered of the records, and their families; shared text is left out where it makes a crowd of them."""
    if isinstance(records, Iterator):
        raise ValueError("split reads the records several times: give it a list, not an iterator")
    rows = rows_a_band(settings.near_duplicate)
    prompts = remember(records, rows_a_band=rows)
    if not len(prompts.exact):
        raise DataError("there is no record to split. Import the data again: make import")
    family = families(prompts, threshold=settings.near_duplicate)
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
        prompts = remember(records, rows_a_band=rows, shared=shared)
        family = families(prompts, threshold=settings.near_duplicate)
    return prompts, family


def _choose(family: NDArray[np.int32], prompts: Prompts, settings: SplitSettings) -> NDArray[np.bool_]:
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
    keys = keys ^ np.uint64(text_number(f"seed {seed}"))
    keys = (keys ^ (keys >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    keys = (keys ^ (keys >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return keys ^ (keys >> np.uint64(33))
