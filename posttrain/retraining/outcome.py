"""How a retraining ends, in a sentence each: it is printed, kept in the record, and the message of the run in Prefect."""

from collections.abc import Mapping
from typing import Any, Literal

from posttrain.retraining.changes import Changes

Outcome = Literal["promoted", "kept", "unchanged"]
LONGEST_WHY = 1_000
"""Characters of a reason in the history of champions."""


def unchanged(version: str, made_on: str) -> str:
    """Return what is said where the champion is what would be made again."""
    return f"unchanged: nothing that matters has changed since version {version} of {made_on}, the champion; nothing was trained"


def unchanged_since(record: Mapping[str, Any]) -> str:
    """Return what is said where a retraining that kept the champion would only be repeated."""
    day, said = str(record["created"])[:10], str(record["says"]).removeprefix("kept: ")
    return f"unchanged: nothing that matters has changed since the retraining of {day}, after which {said}"


def arrived(version: str, changed: str) -> str:
    """Return what is said where a pipeline ran and its model is the champion itself."""
    return f"unchanged: the pipeline arrived at version {version}, the champion itself; it ran since {changed}"


def promoted(decision: str, changed: str) -> str:
    """Return what is said of a new champion.

    Args:
        decision: the gate's sentence, with its figures.
        changed: what called for the retraining.
    """
    return f"promoted: {decision}; retrained since {changed}"


def kept(decision: str, champion: str | None) -> str:
    """Return what is said where the gate refused the challenger; None: there is no champion yet."""
    serves = f"version {champion} still serves" if champion else "no version serves yet"
    return f"kept: {decision}; {serves}"


def kept_rolled_back(version: str, told: str, champion: str | None) -> str:
    """Return what is said of a version that a person took back: no schedule makes it champion again.

    Args:
        version: that the pipeline arrived at.
        told: when, by whom and why it was taken back.
        champion: that serves.
    """
    return kept(
        f"version {version} was taken back ({told}), so it is not promoted by itself; to promote it: "
        f"make promote VERSION={version} WHY=…",
        champion,
    )


def failed_before(record: Mapping[str, Any]) -> str:
    """Return what is said where the same data, settings and code broke a contract before, and would again."""
    said = str(record["error"]["says"]).rstrip(".")
    return (
        f"{said}. That was on {str(record['created'])[:10]}; data, settings and code are the same, so it was not tried again. "
        "To try all the same: FORCE=1"
    )


def why_retrained(changed: Changes, *, champion: str | None, made_on: str, is_forced: bool = False) -> str:
    """Return what calls for a retraining, as a clause behind "since"."""
    if champion is None:
        return "there is no champion yet"
    if changed.kinds:
        return f"{changed.says} changed after version {champion} of {made_on}, the champion"
    if is_forced and not changed:
        return f"it was asked for (FORCE=1), although nothing that matters has changed since version {champion} of {made_on}"
    return f"results of stages are gone by which to tell whether anything has changed since version {champion} of {made_on}"


def history_reason(cause: str, changed: str) -> str:
    """Return the reason of a promotion for the history, at most `LONGEST_WHY` characters."""
    text = f"retraining ({cause}): {changed}"
    return text if len(text) <= LONGEST_WHY else f"{text[: LONGEST_WHY - 1]}…"
