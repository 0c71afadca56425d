"""What a look at the stores finds. A check is a row of a table, and none can take the others down."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from posttrain.errors import PosttrainError
from posttrain.settings.config import Config
from tasks.workspace.paths import Paths

if TYPE_CHECKING:
    from tasks.tracking.ledger import Ledger

Say = Callable[[str], None]
READ_WHOLE = 256 * 2**20
"""Bytes that a check reads where it is not to be deep: a second. Of the other files it looks at names, sizes and heads."""
MOST_NAMED = 3
"""Of several things in one sentence, those that are named."""


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Nothing is broken by it; somebody should know."""
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        severity: how bad it is.
        says: what, where, and what to do.
        fix: mends it and returns a sentence on what was done; None where nothing safe would. It loses nothing that cannot be made
            again by itself, and may be called where another process has mended the same meanwhile.
        check: the name of the check.
    """

    severity: Severity
    says: str
    fix: Callable[[], str] | None = None
    check: str = ""


def well(says: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(Severity.OK, says)


def note(says: str, fix: Callable[[], str] | None = None) -> Finding:
    """Return a finding that breaks nothing."""
    return Finding(Severity.NOTE, says, fix)


def wrong(says: str, fix: Callable[[], str] | None = None) -> Finding:
    """Return a finding of something broken."""
    return Finding(Severity.WRONG, says, fix)


class NotLookedError(Exception):
    """A check cannot look, and another one tells why."""


class Budget:
    """How many bytes may still be read whole; none are counted where a check is to be deep."""

    def __init__(self, *, is_deep: bool, most: int = READ_WHOLE) -> None:
        self._is_deep = is_deep
        self._left = most

    def takes(self, size: int) -> bool:
        """Return whether so many bytes may be read whole, and count them."""
        if not self._is_deep and size > self._left:
            return False
        self._left -= size
        return True


@dataclass
class Stores:
    """What is looked at, and how.

    Attributes:
        paths: of the repository.
        config: its settings.
        is_deep: read every byte.
        settle: marks what killed processes left, as every other command does when it begins (flows/aftermath.py); says a line
            for each.
        unusable: why the ledger is not to be opened; "" where it may be. A check that finds its database damaged says so here,
            since to open it would wait, and fail in worse words.
    """

    paths: Paths
    config: Config
    is_deep: bool = False
    settle: Callable[[Say], None] = lambda say: None
    unusable: str = ""
    _ledger: "Ledger | None" = field(default=None, repr=False)

    @property
    def has_ledger(self) -> bool:
        """There is a ledger: a server that the settings name, or the local store."""
        return bool(self.config.tracking.uri) or (self.paths.ledger / "mlflow.db").exists()

    def budget(self) -> Budget:
        """Return the bytes that one check may read whole."""
        return Budget(is_deep=self.is_deep)

    def open_ledger(self) -> "Ledger":
        """Open the ledger, once for all checks.

        Raises:
            PosttrainError: it cannot be opened; from then on `ledger` says that nothing was looked at.
        """
        if self._ledger is None:
            if self.unusable:
                raise NotLookedError(self.unusable)
            from tasks.tracking.ledger import Ledger

            self.unusable = "MLflow's ledger cannot be opened"  # until it is
            self._ledger = Ledger.open(self.paths, self.config.tracking)
            self.unusable = ""
        return self._ledger

    def ledger(self) -> "Ledger":
        """Return the ledger that the check of it opened.

        Raises:
            NotLookedError: there is none, or it cannot be opened.
        """
        if not self.has_ledger:
            raise NotLookedError("there is no ledger yet: no pipeline has run here")
        if self._ledger is None:
            raise NotLookedError(self.unusable or "MLflow's ledger was not opened")
        return self._ledger


@dataclass(frozen=True)
class Check:
    """A row of the table.

    Attributes:
        name: in one or two words.
        what: what it looks at, for the page.
        look: returns what it found; at least one finding.
    """

    name: str
    what: str
    look: Callable[[Stores], list[Finding]]


@dataclass(frozen=True)
class Looked:
    """What came of one check.

    Attributes:
        check: which.
        findings: as things are now, after whatever was mended.
        mended: a sentence for each thing that was.
    """

    check: Check
    findings: tuple[Finding, ...]
    mended: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        """How bad the worst of its findings is."""
        found = {one.severity for one in self.findings}
        return next((one for one in (Severity.WRONG, Severity.NOTE) if one in found), Severity.OK)


def examine(check: Check, stores: Stores, *, mends: bool) -> Looked:
    """Look, mend what is safe where that is wanted, and look again; whatever goes wrong in it is a finding."""
    found = _look(check, stores)
    fixes = [one.fix for one in found if one.fix] if mends else []
    if not fixes:
        return Looked(check, tuple(found))
    mended, failed = [], []
    for fix in fixes:
        try:
            if told := fix():
                mended.append(told)
        except Exception as error:
            failed.append(replace(wrong(f"it could not be mended: {_told(error)}"), check=check.name))
    return Looked(check, (*_look(check, stores), *failed), tuple(mended))


def _look(check: Check, stores: Stores) -> list[Finding]:
    try:
        found = check.look(stores)
    except NotLookedError as reason:
        found = [note(f"not looked at: {reason}")] if stores.has_ledger else [well(f"nothing to look at: {reason}")]
    except PosttrainError as error:
        found = [wrong(str(error))]
    except Exception as error:  # of whatever kind: at 3 a.m. the other checks must still be told
        found = [wrong(f"the check itself failed, and the others go on: {_told(error)}")]
    return [replace(one, check=check.name) for one in found]


def _told(error: Exception) -> str:
    if isinstance(error, PosttrainError):
        return str(error)
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def named(names: list[str]) -> str:
    """Return several names in a sentence, the first of many: "a, b and c", "a, b, c and 9 more"."""
    shown, more = names[:MOST_NAMED], len(names) - MOST_NAMED
    if more > 0:
        return f"{', '.join(shown)} and {more:,} more"
    return " and ".join(part for part in (", ".join(shown[:-1]), shown[-1]) if part)


def megabytes(size: int) -> str:
    """Return bytes as MB, "under 1 MB" for less."""
    return f"{size // 2**20:,} MB" if size >= 2**20 else "under 1 MB"
