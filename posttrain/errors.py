"""Everything that can go wrong on purpose.

    PosttrainError
    ├── RequestError    exit 2   a setting, a name, a method or a model that was asked for is wrong
    ├── DataError       exit 2   a file or its records are wrong
    ├── StorageError    exit 2   the disk is full, read-only or not there
    └── ContractError   exit 3   a stage ran and its result may not be used

The text of each gives the full name, the value, the rule and the remedy. Whoever raises one writes the whole sentence;
`flows/__main__.py` prints it on stderr and exits with `exit_code`.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class PosttrainError(Exception):
    """What a user can mend without reading our source."""

    exit_code = 2


class RequestError(PosttrainError):
    """What was asked for does not exist or is out of range; nothing has run."""


class DataError(PosttrainError):
    """A file, or the records in it, cannot be used as they are."""


class StorageError(PosttrainError):
    """The disk refused a write; what was there before is still there."""


class ContractError(PosttrainError):
    """A stage finished, but its result breaks the promise that the next stage relies on."""

    exit_code = 3


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the nearest known name, or "" where none is near."""
    nearest = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else ""
