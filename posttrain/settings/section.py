"""Every setting of every section, once: its name, default, range and where the default comes from."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class NotInKey:
    """Marks a setting that decides nothing about its section's results, only how soon they are there, or what follows them."""


BatchSize = Annotated[int, Field(ge=1), NotInKey()]


class Section(BaseModel):
    """A branch of the tree: frozen, no unknown names, every value checked on the way in."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
