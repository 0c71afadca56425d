"""What every section of settings is made of: kinds of values, marks, and how a stage takes a part of a section."""

from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


def _limit(value: object) -> object:
    """Return `auto` in lower case, or a whole number from 1, whether it is given as text or not."""
    text = str(value).strip().lower()
    if text == "auto":
        return text
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"must be auto or a whole number of at least 1, got {value}")
    return int(text)


TokenLimit = Annotated[Literal["auto"] | Count, BeforeValidator(_limit)]
"""Tokens of a response, at most; `auto` until the data have said how long answers are (`posttrain/data/lengths.py`)."""


def tokens_of(limit: int | Literal["auto"]) -> int:
    """Return a limit of tokens that has been decided.

    Raises:
        ValueError: it is still `auto`.
    """
    if limit == "auto":
        raise ValueError("max_new_tokens=auto is decided after the data gate, and was not")
    return limit


class NotInKey:
    """Marks a setting that decides nothing about its section's results, only how soon they are there, or what follows them."""


BatchSize = Annotated[int, Field(ge=1), NotInKey()]


class Section(BaseModel):
    """A branch of the tree: frozen, no unknown names, every value checked on the way in."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def deciding(cls) -> list[str]:
        """Return the names of the settings that decide a result: all but those marked `NotInKey`."""
        return [
            name
            for name, field in cls.model_fields.items()
            if not any(mark is NotInKey or isinstance(mark, NotInKey) for mark in field.metadata)
        ]

    def only(self, *names: str) -> Self:
        """Return some of the settings, for a stage that no other of them decides: reading another is an error.

        What decides nothing (`NotInKey`) may be read all the same.
        """
        return cast(Self, Part(self, names))


class Part:
    """A section of which some settings can be read: those that a stage's key holds, and those that decide nothing.

    Attributes:
        section: the whole.
        names: of the settings in the key.
    """

    def __init__(self, section: Section, names: tuple[str, ...]) -> None:
        unknown = set(names) - set(type(section).deciding())
        if unknown:
            raise TypeError(f"{type(section).__name__} has no deciding setting {', '.join(sorted(unknown))}")
        self.section, self.names = section, names

    def __getattr__(self, name: str) -> Any:
        """Return a setting.

        Raises:
            AttributeError: it decides results, and is not among those that the key holds.
        """
        if name in type(self.section).deciding() and name not in self.names:
            raise AttributeError(
                f"{type(self.section).__name__}.{name} is not among the settings in this stage's key: {self.names}"
            )
        return getattr(self.section, name)
