"""A row of the table: what it says, what it mends, and that nothing in it takes the others down."""

from collections.abc import Callable
from pathlib import Path

import pytest

from posttrain.errors import DataError, StorageError
from posttrain.printable import counted
from posttrain.settings.config import Config
from tasks.upkeep.findings import (
    READ_WHOLE,
    Budget,
    Check,
    Finding,
    NotLookedError,
    Severity,
    Stores,
    examine,
    megabytes,
    named,
    note,
    well,
    wrong,
)
from tasks.workspace.paths import Paths


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(Paths(tmp_path), Config())


def row(look: Callable[[Stores], list[Finding]]) -> Check:
    return Check("subject", "what it looks at", look)


def raising(error: Exception) -> Check:
    def look(stores: Stores) -> list[Finding]:
        raise error

    return row(look)


def test_findings_have_the_name_of_their_check_and_the_worst_decides(stores: Stores) -> None:
    looked = examine(row(lambda _: [well("a"), wrong("b"), note("c")]), stores, mends=False)
    assert [(one.check, one.says) for one in looked.findings] == [("subject", "a"), ("subject", "b"), ("subject", "c")]
    assert looked.severity is Severity.WRONG
    assert examine(row(lambda _: [well("a"), note("c")]), stores, mends=False).severity is Severity.NOTE
    assert examine(row(lambda _: [well("a")]), stores, mends=False).severity is Severity.OK


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (DataError("row 3 is broken. Mend it"), "row 3 is broken. Mend it"),
        (ZeroDivisionError("by\nzero"), "the check itself failed, and the others go on: ZeroDivisionError: by"),
        (
            ModuleNotFoundError("No module named 'scipy'"),
            "the check itself failed, and the others go on: ModuleNotFound",
        ),
        (RuntimeError(), "the check itself failed, and the others go on: RuntimeError: "),
    ],
)
def test_a_check_that_breaks_is_a_finding(stores: Stores, error: Exception, says: str) -> None:
    (found,) = examine(raising(error), stores, mends=True).findings
    assert found.severity is Severity.WRONG and found.says.startswith(says) and found.fix is None


def test_what_cannot_be_looked_at_is_told_and_is_no_second_alarm(stores: Stores) -> None:
    looked = examine(raising(NotLookedError("there is no ledger yet")), stores, mends=False)
    assert [(one.severity, one.says) for one in looked.findings] == [(Severity.OK, "nothing to look at: there is no ledger yet")]
    (stores.paths.ledger).mkdir(parents=True)
    (stores.paths.ledger / "mlflow.db").touch()
    looked = examine(raising(NotLookedError("it is damaged")), stores, mends=False)
    assert [(one.severity, one.says) for one in looked.findings] == [(Severity.NOTE, "not looked at: it is damaged")]


class Broken:
    """Something that is broken until it is mended."""

    def __init__(self, trouble: str = "", is_mended: bool = True) -> None:
        self.is_broken = True
        self.trouble, self.is_mended = trouble, is_mended
        self.looks = 0

    def look(self, stores: Stores) -> list[Finding]:
        self.looks += 1
        return [wrong("it is broken", self.fix)] if self.is_broken else [well("it is whole")]

    def fix(self) -> str:
        if self.trouble:
            raise StorageError(self.trouble)
        self.is_broken = not self.is_mended
        return "it was mended"


def test_nothing_is_mended_unless_it_is_wanted(stores: Stores) -> None:
    broken = Broken()
    looked = examine(row(broken.look), stores, mends=False)
    assert (looked.severity, looked.mended, broken.looks, broken.is_broken) == (Severity.WRONG, (), 1, True)


def test_what_is_mended_is_looked_at_again(stores: Stores) -> None:
    broken = Broken()
    looked = examine(row(broken.look), stores, mends=True)
    assert (looked.severity, looked.mended, broken.looks) == (Severity.OK, ("it was mended",), 2)


def test_what_only_says_that_it_was_mended_is_still_wrong(stores: Stores) -> None:
    looked = examine(row(Broken(is_mended=False).look), stores, mends=True)
    assert looked.severity is Severity.WRONG and looked.mended == ("it was mended",)


def test_what_cannot_be_mended_says_why(stores: Stores) -> None:
    looked = examine(row(Broken(trouble="the disk is full. Make room").look), stores, mends=True)
    assert [one.says for one in looked.findings] == ["it is broken", "it could not be mended: the disk is full. Make room"]
    assert looked.mended == () and {one.check for one in looked.findings} == {"subject"}


def test_one_fix_that_fails_does_not_keep_the_next_from_its_turn(stores: Stores) -> None:
    first, second = Broken(trouble="no"), Broken()
    looked = examine(row(lambda stores: [*first.look(stores), *second.look(stores)]), stores, mends=True)
    assert looked.mended == ("it was mended",)
    assert [one.says for one in looked.findings] == ["it is broken", "it is whole", "it could not be mended: no"]


def test_a_ledger_is_asked_for_only_where_it_was_opened(stores: Stores) -> None:
    with pytest.raises(NotLookedError, match="no pipeline has run here"):
        stores.ledger()
    stores.paths.ledger.mkdir(parents=True)
    (stores.paths.ledger / "mlflow.db").touch()
    with pytest.raises(NotLookedError, match="was not opened"):
        stores.ledger()
    stores.unusable = "it is locked"
    for asked in (stores.ledger, stores.open_ledger):
        with pytest.raises(NotLookedError, match="it is locked"):
            asked()


def test_a_server_that_the_settings_name_is_a_ledger(tmp_path: Path) -> None:
    config = Config()
    config = config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": "http://127.0.0.1:9"})})
    assert Stores(Paths(tmp_path), config).has_ledger and not Stores(Paths(tmp_path), Config()).has_ledger


def test_bytes_are_read_whole_up_to_a_limit_unless_it_is_to_be_deep() -> None:
    budget = Budget(is_deep=False, most=10)
    # 6 of 10 are taken, so 5 do not fit, and 4 do; then nothing but what is empty
    assert [budget.takes(size) for size in (6, 5, 4, 1, 0)] == [True, False, True, False, True]
    assert all(Budget(is_deep=True, most=10).takes(size) for size in (6, 5, READ_WHOLE * 9))


def test_words() -> None:
    assert [named(names.split()) for names in ("a", "a b", "a b c", "a b c d", "a b c d e")] == [
        "a",
        "a and b",
        "a, b and c",
        "a, b, c and 1 more",
        "a, b, c and 2 more",
    ]
    assert [counted(count, "run") for count in (0, 1, 2, 1_000)] == ["0 runs", "1 run", "2 runs", "1,000 runs"]
    assert [counted(count, "process", "processes") for count in (1, 2)] == ["1 process", "2 processes"]
    assert [megabytes(size) for size in (0, 2**20 - 1, 2**20, 3 * 2**30)] == ["under 1 MB", "under 1 MB", "1 MB", "3,072 MB"]
