"""Moves of the aliases `champion`, `challenger` and `previous`: what each sets, and what completes or undoes a half-done one.

The registry moves one alias a call. So a move writes down first what it is going to do (its intent), then sets the aliases one by
one, then writes the outcome. A process that dies in between leaves an intent without an outcome, and whoever comes next settles
it: docs/decisions/0023-alias-moves.md.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from posttrain.errors import RequestError

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
ORDER = (PREVIOUS, CHAMPION, CHALLENGER)
"""In which the aliases of a move are set: the old champion has its second name before it loses the first."""
UNDONE_IN = (CHAMPION, PREVIOUS, CHALLENGER)
"""In which they are set back: what serves comes first."""

Aliases = Mapping[str, str | None]
"""The version of each of the three aliases, None where an alias is not set."""
Step = tuple[str, str | None]
"""An alias and the version that it gets; None takes the alias away."""


class Kind(StrEnum):
    """What a move is for."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"


class Outcome(StrEnum):
    """How a move ended, as its run in the ledger says."""

    DONE = "done"
    COMPLETED = "completed"
    """Its process died half-way, and the next one set the rest."""
    UNDONE = "undone"
    """Its process died half-way, and the next one set back what it had set."""
    OVERTAKEN = "overtaken"
    """Somebody else set `champion` meanwhile, which stays."""
    REFUSED = "refused"
    """By the gate, or since another move was under way: no alias was set."""


@dataclass(frozen=True)
class Move:
    """The three aliases before and after.

    Attributes:
        kind: what it is for.
        before: as they were when it was decided.
        after: as they are to be.
    """

    kind: Kind
    before: Aliases
    after: Aliases

    @property
    def version(self) -> str:
        """The version that becomes champion."""
        return str(self.after[CHAMPION])

    @property
    def leaves(self) -> str | None:
        """The version that was champion; None for the first one."""
        return self.before[CHAMPION]

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is set, in order."""
        return tuple((alias, self.after[alias]) for alias in ORDER if self.before[alias] != self.after[alias])

    def as_record(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {"kind": str(self.kind), "before": dict(self.before), "after": dict(self.after)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Move":
        """Return the move that `as_record` wrote.

        Raises:
            KeyError, ValueError, TypeError: it is no such record.
        """
        before, after = ({alias: record[side][alias] for alias in ORDER} for side in ("before", "after"))
        return cls(Kind(record["kind"]), before, after)


@dataclass(frozen=True)
class Settlement:
    """What is to be done about a half-done move.

    Attributes:
        outcome: COMPLETED, UNDONE or OVERTAKEN.
        steps: what is set, in order; empty where nothing is left to do.
        why: one sentence for the history.
    """

    outcome: Outcome
    steps: tuple[Step, ...]
    why: str


def aliases_of(found: Mapping[str, str]) -> dict[str, str | None]:
    """Return the three aliases among all of a registered model."""
    return {alias: found.get(alias) for alias in ORDER}


def promotion(now: Aliases, version: str) -> Move:
    """Return the move that makes a version champion.

    The champion becomes `previous`. The version is no candidate any more, so `challenger` goes where it was this one.

    Raises:
        RequestError: it is the champion.
    """
    if now[CHAMPION] == version:
        raise RequestError(f"version {version} is the champion already: there is nothing to promote")
    kept = None if now[PREVIOUS] == version else now[PREVIOUS]  # of a champion that was deleted, who was before it is known still
    after = {
        PREVIOUS: kept if now[CHAMPION] is None else now[CHAMPION],
        CHAMPION: version,
        CHALLENGER: None if now[CHALLENGER] == version else now[CHALLENGER],
    }
    return Move(Kind.PROMOTE, dict(now), after)


def rollback(now: Aliases) -> Move:
    """Return the move that makes the previous champion champion again, and the champion the previous one.

    Raises:
        RequestError: there is no previous champion.
    """
    version = now[PREVIOUS]
    if version is None:
        told = f"version {now[CHAMPION]} is the only champion so far" if now[CHAMPION] else "no version was ever promoted"
        raise RequestError(
            f"there is no previous champion to go back to: {told}. Promote another version: make promote VERSION=… WHY=…"
        )
    if version == now[CHAMPION]:
        raise RequestError(
            f"champion and previous are both version {version}, so there is nothing to go back to: an alias was set by hand. "
            "Promote another version: make promote VERSION=… WHY=…"
        )
    after = {
        PREVIOUS: now[CHAMPION],
        CHAMPION: version,
        CHALLENGER: None if now[CHALLENGER] in (version, now[CHAMPION]) else now[CHALLENGER],
    }
    return Move(Kind.ROLLBACK, dict(now), after)


def settlement(move: Move, now: Aliases, *, known: Collection[str], loads: bool, is_written: bool) -> Settlement:
    """Return how a half-done move is settled; the same answer wherever its process died.

    - Its intent was not written whole: no alias has been set, so it is withdrawn.
    - `champion` is neither as before nor as after: somebody set it by hand, and that stays.
    - The version that becomes champion is there and loads: what is not set yet is set.
    - It is gone, or does not load: what was set is set back.

    An alias that somebody else has set meanwhile is left alone in each case; a version that is not in the registry any more gets
    no alias.

    Args:
        move: as its intent has it.
        now: the aliases at present. MLflow takes the aliases of a version away together with the version.
        known: versions that are in the registry.
        loads: whether the files of the version that becomes champion are there and whole.
        is_written: whether the whole intent was written, so that an alias may have been set.
    """
    places = {alias: _place(move, now, alias, known) for alias in ORDER}
    if not is_written:
        return Settlement(Outcome.UNDONE, (), "its process ended before it set any alias")
    if places[CHAMPION] == "elsewhere":
        told = f"version {now[CHAMPION]}" if now[CHAMPION] else "no version"
        return Settlement(Outcome.OVERTAKEN, (), f"its process ended half-way, and champion is {told} by now, which stays")
    if move.version in known and loads:
        steps = _towards(move.after, now, places, known, of="before", order=ORDER)
        return Settlement(Outcome.COMPLETED, steps, _told("set by the next command", steps))
    reason = "does not load" if move.version in known else "is not in the registry any more"
    steps = _towards(move.before, now, places, known, of="after", order=UNDONE_IN)
    return Settlement(Outcome.UNDONE, steps, f"version {move.version} {reason}; {_told('set back by the next command', steps)}")


def after_steps(now: Aliases, steps: Collection[Step]) -> dict[str, str | None]:
    """Return the aliases once steps are done."""
    return {**now, **dict(steps)}


def _place(move: Move, now: Aliases, alias: str, known: Collection[str]) -> str:
    """Return where an alias stands: "before", "after", or "elsewhere", where somebody else has set it."""
    before, after, at = move.before[alias], move.after[alias], now[alias]
    # the alias of a version that was deleted went with it
    if at == after or (at is None and after is not None and after not in known):
        return "after"
    if at == before or (at is None and before is not None and before not in known):
        return "before"
    return "elsewhere"


def _towards(
    wanted: Aliases, now: Aliases, places: Mapping[str, str], known: Collection[str], *, of: str, order: tuple[str, ...]
) -> tuple[Step, ...]:
    """Return the steps that bring the aliases which stand at `of` to what is wanted of them."""
    steps = []
    for alias in order:
        version = wanted[alias] if wanted[alias] in known else None
        if places[alias] == of and now[alias] != version:
            steps.append((alias, version))
    return tuple(steps)


def _told(what: str, steps: tuple[Step, ...]) -> str:
    if not steps:
        return "its process ended before it could write the outcome; every alias stood as it had to"
    return f"its process ended half-way; {what}: " + ", ".join(
        f"{alias} = version {version}" if version else f"no {alias}" for alias, version in steps
    )
