"""`make scale`: what a method takes of so many GPUs, on paper: memory, weight syncs, sampling against training."""

from collections.abc import Mapping, Sequence

from posttrain.errors import RequestError
from posttrain.printable import printable
from tasks.workspace.paths import Paths

OWN = ("model", "gpus", "gb")
"""Words that are no settings."""


def run_scale(paths: Paths, words: Sequence[str]) -> None:
    """Print what a base takes: MODEL, METHOD, GPUS and GB where they are given, and settings.

    With a method, part by part; else a table of all trainings.

    Raises:
        RequestError: MODEL is neither a number nor a base, or is the tiny one; a number is none; a setting is wrong.
    """
    given = {name: value for name, _, value in (word.partition("=") for word in words) if name in OWN}
    settings = [word for word in words if word.partition("=")[0] not in OWN]
    gpus, gigabytes = _whole(given, "gpus", 1), _whole(given, "gb", 80)
    from flows.paper import lines_of
    from posttrain.scale.rates import GB, Device

    for line in lines_of(paths, given.get("model", ""), settings, gpus=gpus, device=Device(memory=gigabytes * GB)):
        print(printable(line))


def _whole(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 100_000):
        raise RequestError(f"{name.upper()} must be a whole number from 1 to 100,000, got {text}")
    return int(text)
