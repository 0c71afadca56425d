"""What `flows/__main__.py` lends to the verbs that read settings and prepare the environment by themselves."""

from collections.abc import Callable
from dataclasses import dataclass

from posttrain.settings.config import Config

Say = Callable[[str], None]


@dataclass(frozen=True)
class Start:
    """What is lent to a verb.

    Attributes:
        configuration: settings from words; tells old names where the second argument is not false.
        prepare: environment, disk and left-overs, before libraries are imported.
        say: prints a line on standard error.
    """

    configuration: Callable[..., Config]
    prepare: Callable[[Config], None]
    say: Say
