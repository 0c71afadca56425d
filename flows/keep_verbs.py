"""The words of `make backup`, `make restore` and `make clean KEEP=…`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from posttrain.errors import RequestError
from posttrain.settings.config import Config
from tasks.workspace.paths import Paths


@dataclass(frozen=True)
class Start:
    """What a verb does first.

    Attributes:
        configuration: of settings on the command line.
        prepare: of libraries and of what dead imports left.
        say: prints a note.
    """

    configuration: Callable[[Sequence[str]], Config]
    prepare: Callable[[Config], None]
    say: Callable[[str], None]


def run_backup(paths: Paths, given: Mapping[str, str], config: Config, start: Start) -> None:
    """Write a backup: TO, and ALL."""
    to = _needed(given, "to", "backup", "make backup TO=../backups/monday.tar.zst")
    is_all = _yes(given, "all", "take also what can be made again")
    start.prepare(config)
    from flows.keep_backup import backup

    backup(paths, config, start.say, to=to, is_all=is_all)


def run_restore(paths: Paths, given: Mapping[str, str], config: Config, start: Start) -> None:
    """Put a backup back: FROM, and FORCE."""
    source = _needed(given, "from", "restore", "make restore FROM=../backups/monday.tar.zst")
    is_forced = _yes(given, "force", "put it in the place of what lies here")
    start.prepare(config)
    from flows.keep_backup import restore

    restore(paths, config, start.say, source=source, is_forced=is_forced)


def run_clean(paths: Paths, given: Mapping[str, str], config: Config, start: Start) -> None:
    """Say what is old, or remove it: KEEP, and APPLY."""
    from posttrain.keeping.retention import Keep

    keep = Keep.read(given.get("keep", ""))
    is_applied = _yes(given, "apply", "remove what is listed")
    start.prepare(config)
    from flows.keep_clean import clean

    clean(paths, config, start.say, keep=keep, is_applied=is_applied)


WORDS = {"backup": ("to", "all"), "restore": ("from", "force"), "clean": ("keep", "apply")}
"""Each verb's own words; what else it is given are settings."""
RUN = {"backup": run_backup, "restore": run_restore, "clean": run_clean}


def run_keeping(verb: str, paths: Paths, words: Sequence[str], start: Start) -> None:
    """Run one of the three verbs.

    Raises:
        RequestError: a word is missing or wrong; nothing has run.
    """
    own = {name: value for name, _, value in (word.partition("=") for word in words) if name in WORDS[verb]}
    config = start.configuration([word for word in words if word.partition("=")[0] not in WORDS[verb]])
    RUN[verb](paths, own, config, start)


def _needed(given: Mapping[str, str], name: str, verb: str, example: str) -> str:
    if not given.get(name, "").strip():
        raise RequestError(f"{verb} needs {name.upper()}: {example}")
    return given[name]


def _yes(given: Mapping[str, str], name: str, says: str) -> bool:
    if given.get(name, "") not in ("", "0", "1"):
        raise RequestError(f"{name.upper()} must be 1 ({says}) or 0, got {given[name]}")
    return given.get(name) == "1"
