"""What every member of a crowd of prompts says tells none of them apart: families are then found by what differs.

One system prompt, or one template, before every question makes all questions nearly equal. Where near-duplicate search has put
so many prompts into one family that it could never be held out, the word 3-grams that all of the family have are left out, and
the search is repeated with the others. Copies that differ at random places have few 3-grams that all of them have, so many
near-duplicates of one text stay a family.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint32]
Rows = NDArray[np.int64]

CROWD = 10
"""Different prompts that a family has at least before it counts as a crowd: what fewer share may be what makes them alike."""
SAMPLE = 1_000
"""Prompts of a crowd that are looked at, at most: a 3-gram that all of them have is missing in fewer than 0.3 % of the others
(the rule of three, at 95 %)."""
LEVELS = 5
"""Rounds, at most: a template within a template takes one more."""


@dataclass
class SharedText:
    """The 3-grams that are left out of each prompt.

    Attributes:
        group: which entry of `dropped` belongs to each record. (records,), int32.
        dropped: hashes that are left out, sorted; nothing in group 0.
    """

    group: NDArray[np.int32]
    dropped: list[Hashes] = field(default_factory=lambda: [np.empty(0, dtype=np.uint32)])

    def without(self, rows: slice, hashes: Hashes, counts: Rows) -> tuple[Hashes, Rows]:
        """Return the hashes of a batch of prompts without those that are left out; a prompt that has no other keeps its own.

        Args:
            rows: which records the batch holds.
            hashes: of each prompt, one prompt after the other.
            counts: how many each prompt has. (prompts,).
        """
        groups = np.repeat(self.group[rows], counts)
        owner = np.repeat(np.arange(len(counts)), counts)
        is_kept = np.ones(len(hashes), dtype=np.bool_)
        for group in np.unique(groups[groups > 0]):
            is_here = groups == group
            is_kept[is_here] = ~np.isin(hashes[is_here], self.dropped[group])
        left = np.bincount(owner[is_kept], minlength=len(counts))
        is_kept |= (left == 0)[owner]
        return hashes[is_kept], np.bincount(owner[is_kept], minlength=len(counts))

    def leave_out(self, members: Rows, common: Hashes) -> None:
        """Leave `common` out of the records `members` too, beside what was left out of them before."""
        for group in np.unique(self.group[members]):
            self.group[members[self.group[members] == group]] = len(self.dropped)
            self.dropped.append(np.union1d(self.dropped[group], common))


def crowds(family: NDArray[np.int32], normal: NDArray[np.uint64], is_counted: NDArray[np.bool_], *, room: int) -> Iterator[Rows]:
    """Yield the records of each family that is a crowd: too large to be held out, and of many different prompts.

    Args:
        family: of each record. (records,).
        normal: hash of each record's normalised prompt. (records,).
        is_counted: the record counts among those held out. (records,).
        room: records that are held out, at most.
    """
    size = np.bincount(family, weights=is_counted)
    distinct = np.bincount(family[np.unique(normal, return_index=True)[1]], minlength=len(size))
    for number in np.flatnonzero((size > room) & (distinct >= CROWD)):
        yield np.flatnonzero(family == number)


def sample_of(members: Rows, normal: NDArray[np.uint64]) -> Rows:
    """Return up to `SAMPLE` records of a crowd with different prompts; which ones does not depend on the order of the records."""
    return members[np.unique(normal[members], return_index=True)[1][:SAMPLE]]


def common_hashes(prompts: Iterable[Hashes]) -> Hashes:
    """Return the hashes, sorted, that all of the prompts have."""
    return reduce(np.intersect1d, prompts)


def leave_out_shared(
    shared: SharedText,
    found: Iterable[Rows],
    normal: NDArray[np.uint64],
    read: Callable[[set[int]], Iterator[tuple[int, Hashes]]],
) -> bool:
    """Leave out of each crowd what its prompts have in common; return whether there was anything.

    Args:
        shared: what is left out already; it grows.
        found: the crowds, as `crowds` gives them.
        normal: hash of each record's normalised prompt. (records,).
        read: gives the hashes of the records that it is asked for, without what is left out already.
    """
    samples = [(members, sample_of(members, normal)) for members in found]
    wanted = {int(row) for _, rows in samples for row in rows}
    hashes = dict(read(wanted)) if wanted else {}
    has_common = False
    for members, rows in samples:
        common = common_hashes(hashes[int(row)] for row in rows)
        if len(common):
            shared.leave_out(members, common)
            has_common = True
    return has_common
