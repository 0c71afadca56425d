"""Which world and seeds settings are chosen on, and which are reported from: written down here and nowhere else.

Whoever chooses a setting looks at `DEVELOPMENT` only, and whoever states a figure of a method runs `REPORTED` once.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """A world of the offline default, by `world.seed`, and the seeds that pipelines run with on it."""

    seed: int
    seeds: tuple[int, ...]


DEVELOPMENT = World(seed=1, seeds=(0, 1, 2))
"""The world of params.yaml, on which `make pipeline` runs unless told otherwise."""
REPORTED = World(seed=2, seeds=(10, 11, 12, 13, 14))
