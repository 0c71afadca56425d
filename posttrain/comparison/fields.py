"""What every part of a comparison's record is made of: numbers that are numbers, estimates with their intervals."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """A part of the record: no unknown field, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Bounds(Part):
    """An estimate with its interval, in the unit of what it estimates."""

    estimate: Number
    """The estimate itself."""
    low: Number
    """Lower bound of the interval."""
    high: Number
    """Upper bound of the interval."""


class SeedBounds(Bounds):
    """An estimate on one seed; its interval covers the choice of held-out questions only."""

    seed: int
    """Of training and sampling."""
