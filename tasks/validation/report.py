"""What the data gate found: the report, its sentences for people, and its form for machines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posttrain.data.lengths import Lengths
from posttrain.errors import did_you_mean
from posttrain.records import KIND_OF_ROLE
from tasks.validation.suite import Outcome, percent

QUARANTINE = "quarantine.jsonl"

_FILES = [f"{role}.jsonl" for role in KIND_OF_ROLE]


@dataclass(frozen=True)
class RoleReport:
    """What the gate found in one file.

    `context_needed` is the `model.context` that holds enough of its rows, or 0. `lengths` are those of the rows that passed: how
    many have how many tokens, by `completions` and `prompts`.
    """

    role: str
    rows: int
    quarantined: int
    max_critical_share: float
    outcomes: tuple[Outcome, ...]
    context_needed: int = 0
    lengths: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.role}.jsonl"

    @property
    def critical_share(self) -> float:
        """Share of the rows with a critical finding; 0 for an empty file."""
        return self.quarantined / self.rows if self.rows else 0.0

    @property
    def is_open(self) -> bool:
        """Whether these rows may be used: few enough are critical, and so is nothing about the file as a whole."""
        is_whole = all(outcome.unexpected for outcome in self.outcomes if outcome.is_critical)
        return is_whole and self.critical_share <= self.max_critical_share


@dataclass(frozen=True)
class ValidationReport:
    """What the gate found in a dataset; `folder` and `out` as they were given to `validate`."""

    dataset: str
    folder: Path
    out: Path
    context: int
    roles: tuple[RoleReport, ...]
    stray_files: tuple[str, ...] = ()

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each role's file."""
        return {role.role: role.rows for role in self.roles}

    @property
    def quarantined(self) -> dict[str, int]:
        """Rows of each role that were put aside."""
        return {role.role: role.quarantined for role in self.roles}

    @property
    def critical_share(self) -> dict[str, float]:
        """Share of each role's rows with a critical finding."""
        return {role.role: role.critical_share for role in self.roles}

    @property
    def lengths(self) -> Lengths:
        """How long completions and prompts are in the rows that passed."""
        return Lengths.of_roles({role.role: role.lengths for role in self.roles if role.lengths})

    @property
    def passed(self) -> bool:
        """Whether training may begin."""
        return all(role.is_open for role in self.roles)

    @property
    def warnings(self) -> list[str]:
        """One sentence for each thing to know although the gate may be open: warnings, and why rows were put aside."""
        sentences = [f"{self.folder / name} is not read{did_you_mean(name, _FILES)}" for name in self.stray_files]
        for role in self.roles:
            path = self.folder / role.file
            sentences += [f"{path} is empty"] if not role.rows else []
            sentences += [_warning(path, role, outcome) for outcome in role.outcomes if not outcome.holds]
        return sentences


def _warning(path: Path, role: RoleReport, outcome: Outcome) -> str:
    says = outcome.expectation.says
    if not outcome.unexpected:
        return f"{path}: {says} (observed {outcome.observed})"
    aside = "; quarantined" if outcome.is_critical else ""
    share = percent(outcome.unexpected / role.rows)
    return f"{path}: {outcome.unexpected:,} of {role.rows:,} rows ({share}): {says} ({first_lines(outcome)}){aside}"


def first_lines(outcome: Outcome) -> str:
    """Return where to look first: "first: line 3, line 4, …"."""
    lines = [f"line {example.line}" for example in outcome.examples[:3]]
    return ("first: " if outcome.unexpected > 1 else "") + ", ".join(lines + ["…"] * (outcome.unexpected > len(lines)))


def refusal(report: ValidationReport, *, quarantine: Path | None = None) -> str:
    """Return why the gate is closed, for a `DataError`: file, value, rule, what was found, remedy.

    Args:
        report: one whose `passed` is False.
        quarantine: where the quarantine file will lie, if the folder is renamed before the message is read.
    """
    lines = []
    for role in (role for role in report.roles if not role.is_open):
        path, critical = report.folder / role.file, [outcome for outcome in role.outcomes if outcome.is_critical]
        if role.critical_share > role.max_critical_share:
            lines.append(
                f"{path}: {role.quarantined:,} of {role.rows:,} rows ({percent(role.critical_share)}) are critical,"
                f" at most {percent(role.max_critical_share)} may be (validation.max_critical_share):"
            )
            rows = sorted((outcome for outcome in critical if outcome.unexpected), key=lambda outcome: -outcome.unexpected)
            lines += [f"  {outcome.unexpected:,} × {outcome.expectation.says} ({first_lines(outcome)})" for outcome in rows]
        lines += [
            f"{path}: {outcome.expectation.says} (observed {outcome.observed}; {outcome.expectation.place})"
            for outcome in critical
            if not outcome.unexpected
        ]
    needed = max((role.context_needed for role in report.roles if not role.is_open), default=0)
    if needed > report.context:
        lines.append(f'SET="model.context={needed}" would hold enough rows of each file, if the base takes so many tokens')
    if any(role.quarantined for role in report.roles):
        lines.append(f"The rows lie in {quarantine or report.out / QUARANTINE}. Mend or drop them, then run again")
    else:
        lines.append("Mend the data or the expectation, then run again")
    return "\n".join(lines)


def summary_lines(report: ValidationReport) -> list[str]:
    """Return a line a role for the terminal."""
    width = max(len(role.role) for role in report.roles)
    lines = []
    for role in report.roles:
        warnings = sum(not outcome.holds and outcome.expectation.severity == "warning" for outcome in role.outcomes)
        told = f"{warnings} warning{'s' * (warnings != 1)}"
        closed = "" if role.is_open else "   gate closed"
        lines.append(f"{role.role:<{width}} {role.rows:>11,} rows {role.quarantined:>9,} quarantined   {told}{closed}")
    return lines


def as_json(report: ValidationReport) -> dict[str, Any]:
    """Return the report for machines: no path and no time in it, so that equal data give equal bytes."""
    return {
        "dataset": report.dataset,
        "gate": "open" if report.passed else "closed",
        "summary": summary_lines(report),
        "context": report.context,
        "lengths": report.lengths.figures(),
        "stray_files": list(report.stray_files),
        "roles": {role.role: _role_as_json(role) for role in report.roles},
    }


def _role_as_json(role: RoleReport) -> dict[str, Any]:
    return {
        "file": role.file,
        "rows": role.rows,
        "quarantined": role.quarantined,
        "critical_share": role.critical_share,
        "max_critical_share": role.max_critical_share,
        "gate": "open" if role.is_open else "closed",
        "expectations": [_outcome_as_json(outcome) for outcome in role.outcomes],
    }


def _outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    examples = [{"line": example.line, "id": example.id, "detail": example.detail} for example in outcome.examples]
    return {
        "type": outcome.expectation.type,
        "kwargs": dict(outcome.expectation.kwargs),
        "severity": outcome.expectation.severity,
        "says": outcome.expectation.says,
        "holds": outcome.holds,
        "unexpected": outcome.unexpected,
        "observed": outcome.observed,
        "examples": examples,
    }
