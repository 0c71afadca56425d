"""Whether a version that was just made becomes `challenger`: not where a better one is there."""

from dataclasses import dataclass
from typing import Any

from posttrain.promotion.moves import CHALLENGER, CHAMPION, Aliases
from posttrain.statistics.intervals import Interval


@dataclass(frozen=True)
class Gain:
    """What a new version does better than the one that holds the name, on the same held-out questions; above 0: it is better.

    Attributes:
        interval: of the paired difference.
        is_share: of accuracy, a share; else of the loss a token, in nats, turned so that more is better.
    """

    interval: Interval
    is_share: bool

    @property
    def says(self) -> str:
        """The figures, as "+1.3 points [-0.4, 3.0]"."""
        scale, digits, unit = (100, 1, "points") if self.is_share else (1, 3, "nats a token of held-out loss")
        estimate, low, high = (
            round(scale * value, digits) + 0.0 for value in (self.interval.estimate, self.interval.low, self.interval.high)
        )
        return f"{estimate:+.{digits}f} {unit} [{low:.{digits}f}, {high:.{digits}f}]"


@dataclass(frozen=True)
class Standing:
    """What a version is among the others.

    Attributes:
        is_challenger: it has, or gets, the alias `challenger`.
        why: in a phrase that goes on from "version 7".
    """

    is_challenger: bool
    why: str

    def as_record(self, version: str) -> dict[str, Any]:
        """Return what a pipeline's report says of champion and challenger."""
        return {"decision": "none", "is_challenger": self.is_challenger, "why": f"version {version} {self.why}"}


def holder(now: Aliases, version: str) -> tuple[str, str] | None:
    """Return the alias and the version that a new one is measured against: the challenger, else the champion.

    None where there is neither, or the version is one of them itself.
    """
    if version in (now[CHALLENGER], now[CHAMPION]):
        return None
    return next(((alias, held) for alias in (CHALLENGER, CHAMPION) if (held := now[alias]) is not None), None)


def standing(now: Aliases, version: str, *, gain: Gain | None, unmeasured: str = "", is_rolled_back: bool = False) -> Standing:
    """Return whether a version becomes challenger: where its paired gain over the holder is not negative, or nothing compares.

    The estimate decides, not the interval: a challenger is a candidate, and whether it may serve is the gate's to say. An
    interval would leave the name to an old version that is as likely the worse one.

    Args:
        now: the aliases.
        version: that was just made, or arrived at again.
        gain: over `holder(now, version)`; None where nothing compares.
        unmeasured: why it does not, in a phrase that goes on from "version 3".
        is_rolled_back: it was champion, and was taken back; then a person must name it again.
    """
    if version == now[CHAMPION]:
        return Standing(False, "is the champion")
    if version == now[CHALLENGER]:
        return Standing(True, "is the challenger already")
    promote = f"promotion is a separate step: make promote VERSION={version} WHY=…"
    if is_rolled_back:
        return Standing(False, f"was champion and was rolled back, so it does not become challenger by itself; {promote}")
    against = holder(now, version)
    if against is None:
        return Standing(True, f"is registered as challenger; {promote}")
    alias, held = against
    if gain is None:
        told = unmeasured or "was not measured on the same held-out questions"
        return Standing(
            True, f"is registered as challenger without a comparison: version {held}, {alias} until now, {told}; {promote}"
        )
    if gain.interval.estimate < 0:
        return Standing(False, f"is not challenger: {gain.says} against version {held}, the {alias}, which keeps its name")
    return Standing(True, f"is registered as challenger: {gain.says} over version {held}, {alias} until now; {promote}")
