"""Which pipelines are old enough to go, and which stay whatever their age: rules on facts that others collect.

A pipeline stays with all that it consists of: its runs, its report, its stages, its versions. Stages and versions are shared, so
one goes only where no pipeline that stays has it.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from posttrain.errors import RequestError

DAY = 86_400.0
"""Seconds."""
Version = tuple[str, str]
"""A registered model's name, and the number of its version."""
Stage = tuple[str, str]
"""A stage's name and key."""


@dataclass(frozen=True)
class Keep:
    """What is asked for: so many of the newest pipelines, or all of the last days; one of the two.

    Attributes:
        count: of the newest pipelines; None where an age is asked for.
        days: for which each pipeline stays; None where a count is asked for.
    """

    count: int | None = None
    days: int | None = None

    @classmethod
    def read(cls, text: str) -> "Keep":
        """Return what KEEP says.

        Raises:
            RequestError: it is neither a count nor a number of days.
        """
        found = re.fullmatch(r"(\d{1,5})(d?)", text.strip())
        if found is None or int(found[1]) < 1:
            raise RequestError(
                f"KEEP must be how many of the newest pipelines stay, or for how many days one does, at least 1 (KEEP=10, "
                f"KEEP=30d), got {text or 'nothing'}"
            )
        number = int(found[1])
        return cls(days=number) if found[2] else cls(count=number)

    def __str__(self) -> str:
        """Return it as one types it."""
        return f"{self.days}d" if self.days else str(self.count)


@dataclass(frozen=True)
class Pipeline:
    """What is known of a pipeline.

    Attributes:
        run_id: of its parent run.
        pipeline_id: names its report.
        started: when, in seconds since 1970 UTC.
        is_running: nobody has closed it.
        stages: that it went through, shared ones too.
        versions: that it made or arrived at.
        names: versions that its settings name, such as a reward model's.
        comparison: that it belongs to; "" for none.
    """

    run_id: str
    pipeline_id: str
    started: float
    is_running: bool = False
    stages: frozenset[Stage] = frozenset()
    versions: frozenset[Version] = frozenset()
    names: frozenset[Version] = frozenset()
    comparison: str = ""


@dataclass(frozen=True)
class Holders:
    """What keeps a pipeline or a version, whatever its age.

    Attributes:
        aliased: versions that an alias names: all that measured them stay as well, since the gate reads that.
        named: versions that a setting, a schedule or a report that stays names.
        pipelines: ids that pages of others name, each with what names it ("a comparison", "a report").
        comparisons: ids of those whose page is there.
        makers: run of the pipeline that made each version.
    """

    aliased: Collection[Version] = ()
    named: Collection[Version] = ()
    pipelines: Mapping[str, str] = field(default_factory=dict)
    comparisons: Collection[str] = ()
    makers: Mapping[Version, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Retention:
    """What goes and what stays.

    Attributes:
        goes: pipelines, the oldest first.
        stays: why each pipeline stays, by its run.
        stages: that pipelines which stay need.
        versions: likewise.
        horizon: what nobody names stays if it is younger, in seconds since 1970 UTC; None where no pipeline stays for its age.
    """

    goes: tuple[Pipeline, ...]
    stays: Mapping[str, str]
    stages: frozenset[Stage]
    versions: frozenset[Version]
    horizon: float | None


def retain(pipelines: Sequence[Pipeline], holders: Holders, keep: Keep, *, now: float) -> Retention:
    """Return what goes.

    Args:
        pipelines: all of the ledger, in any order.
        holders: what keeps one beyond its age.
        keep: what was asked for.
        now: the time, in seconds since 1970 UTC.
    """
    newest = sorted(pipelines, key=lambda one: (one.started, one.run_id), reverse=True)
    young = [one for one in newest if now - one.started <= keep.days * DAY] if keep.days is not None else newest[: keep.count]
    stays = {one.run_id: "new" for one in young}
    by_run = {one.run_id: one for one in pipelines}
    for one in pipelines:
        reason = _reason(one, holders)
        if reason:
            stays.setdefault(one.run_id, reason)

    # what stays names versions, whose makers stay, which may name others: until nothing is added
    versions: set[Version] = {*holders.aliased, *holders.named}
    while True:
        kept = [by_run[run_id] for run_id in stays]
        found = versions | {version for one in kept for version in one.versions | one.names}
        makers = [maker for version in found if (maker := holders.makers.get(version, "")) in by_run]
        if found == versions and set(makers) <= stays.keys():
            break
        versions = found
        for maker in makers:
            stays.setdefault(maker, "made a version that is needed")

    goes = sorted((one for one in pipelines if one.run_id not in stays), key=lambda one: (one.started, one.run_id))
    stages = frozenset(stage for run_id in stays for stage in by_run[run_id].stages)
    horizon = now - keep.days * DAY if keep.days is not None else min((one.started for one in young), default=None)
    return Retention(tuple(goes), stays, stages, frozenset(versions), horizon)


def _reason(one: Pipeline, holders: Holders) -> str:
    """Return what keeps a pipeline beside its age, "" where nothing does."""
    if one.is_running:
        return "runs"
    if not one.versions.isdisjoint(holders.aliased):
        return "an alias names its version"
    if one.comparison and one.comparison in holders.comparisons:
        return "a comparison"
    return holders.pipelines.get(one.pipeline_id, "")
