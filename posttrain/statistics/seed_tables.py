"""Values of several methods by seed and question, as they are given to a comparison, and whether they can be compared at all."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from posttrain.statistics.clusters import Array, check_spread
from posttrain.statistics.crossed import pooled_seed_variance

Values = Mapping[str, ArrayLike | Mapping[int, ArrayLike]]
"""By method: (seeds, questions), or by seed (questions,), where a run of some method may be missing."""


@dataclass(frozen=True)
class SeedTable:
    """What is compared, checked.

    Attributes:
        cells: by method and seed, one value a question. (questions,) each, equally many, all finite.
        is_share: whether all lie in [0, 1] and are shares, so that a single question's variance is bounded.
    """

    cells: Mapping[str, Mapping[int, Array]]
    is_share: bool

    @classmethod
    def of(cls, values: Values, *, is_share: bool | None) -> "SeedTable":
        """Return the table of `values`; raises a ValueError where they are not as `compare_with` wants them."""
        if len(values) < 2:
            raise ValueError(f"a comparison needs at least two methods, got {len(values)}")
        cells = {name: _by_seed(name, given) for name, given in values.items()}
        lengths = {name: len(next(iter(rows.values()))) for name, rows in cells.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"methods must hold the same questions, got {lengths}")
        check_spread(next(iter(lengths.values())), name="values")
        if any(not isinstance(given, Mapping) for given in values.values()) and len({tuple(rows) for rows in cells.values()}) > 1:
            counts = {name: len(rows) for name, rows in cells.items()}
            raise ValueError(f"methods must hold the same seeds, got {counts}: name the seeds of each where a run is missing")
        inside = all(row.min() >= 0 and row.max() <= 1 for rows in cells.values() for row in rows.values())
        if is_share and not inside:
            raise ValueError("shares must lie between 0 and 1")
        return cls(cells, inside if is_share is None else is_share)

    def pooled(self) -> tuple[float, float] | None:
        """Return the variance between seeds of a difference that all methods give together, and its degrees."""
        return pooled_seed_variance(
            {name: {seed: float(row.mean()) for seed, row in rows.items()} for name, rows in self.cells.items()}
        )


def _by_seed(name: str, given: ArrayLike | Mapping[int, ArrayLike]) -> dict[int, Array]:
    if isinstance(given, Mapping):
        rows = {seed: np.asarray(given[seed], dtype=np.float64) for seed in sorted(given)}
    else:
        table = np.asarray(given, dtype=np.float64)
        if table.ndim != 2:
            raise ValueError(f"values of {name} must have the axes (seeds, questions), got shape {table.shape}")
        rows = dict(enumerate(table))
    if not rows:
        raise ValueError(f"values of {name} must hold at least one seed, got none")
    shapes = {row.shape for row in rows.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise ValueError(f"each seed of {name} must hold one value a question, got shapes {sorted(shapes)}")
    wrong = sum(int((~np.isfinite(row)).sum()) for row in rows.values())
    if wrong:
        raise ValueError(f"values of {name} must be finite, got {wrong} that are not")
    return rows
