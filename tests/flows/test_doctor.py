"""`make doctor` as a user gives it: a line a check whatever is broken, the exit code, and what FIX=1 does."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import doctor as subject
from flows.__main__ import main
from flows.doctor import CHECKS, lines_of, summary, verdict
from posttrain.settings.config import Config
from tasks.upkeep import machine
from tasks.upkeep.findings import Check, Looked, Stores, examine, note, well, wrong
from tasks.upkeep.machine import Room
from tasks.workspace.paths import Paths

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["settings", *(check.name for check in CHECKS)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository's root with nothing but settings, on a disk with room; what the verb sets in the environment is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "room_of", lambda folder: Room(50_000, None))
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def checked(out: str) -> list[tuple[str, str]]:
    """Return mark and name of each check that was printed."""
    return re.findall(r"^(ok|note|WRONG|mended) +(\w+(?: \w+)?)  ", out, flags=re.MULTILINE)


def test_a_line_a_check_and_nothing_is_touched(root: Path, capsys: Any) -> None:
    before = contents(root)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert [name for _, name in checked(out)] == NAMES
    assert {mark for mark, name in checked(out) if name != "tools"} == {"ok"}
    assert out.splitlines()[-1] == f"{len(NAMES)} checks: {len(NAMES) - 1} well, 1 with a note, 0 wrong"
    assert contents(root) == before


def test_settings_that_cannot_be_read_are_told_and_the_rest_is_looked_at(root: Path, capsys: Any) -> None:
    (root / "params.yaml").write_text("dpo: [1, 2\n")
    assert main(["doctor"]) == 3
    said = capsys.readouterr()
    assert checked(said.out)[0] == ("WRONG", "settings") and [name for _, name in checked(said.out)] == NAMES
    assert "params.yaml cannot be read: " in said.out and "git checkout params.yaml. Until then the checks take" in said.out
    assert said.err == "contract: wrong: settings. The lines above say what to do\n"
    (root / "params.yaml").write_text("seed: 1\n")
    assert main(["doctor"]) == 0


def test_a_password_that_is_not_there_is_told_and_the_rest_is_looked_at(root: Path, capsys: Any) -> None:
    (root / "params.yaml").write_text("servers: {password: env:NOT_SET_HERE}\n")
    assert main(["doctor"]) == 3
    out = capsys.readouterr().out
    assert "servers.password is env:NOT_SET_HERE, but the environment's variable NOT_SET_HERE is not set" in out
    assert [name for _, name in checked(out)] == NAMES


def test_what_is_safe_is_mended_only_where_it_is_wanted(root: Path, capsys: Any) -> None:
    left = root / "data" / "mine" / ".incoming"
    left.mkdir(parents=True)
    assert main(["doctor"]) == 3
    assert capsys.readouterr().err == "contract: wrong: data. make doctor FIX=1 mends what is safe (data)\n"
    assert left.is_dir(), "another verb would have settled it by itself; this one tells first"
    assert main(["doctor", "FIX=1"]) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"^mended  data       an import of mine was stopped before its end; .*\nok                 ", out, re.MULTILINE
    )
    assert out.endswith("; 1 thing mended\n") and not left.exists()
    assert main(["doctor"]) == 0


def test_a_damaged_ledger_is_one_alarm_and_the_rest_is_looked_at(root: Path, capsys: Any) -> None:
    store = root / "mlflow" / "store"
    store.mkdir(parents=True)
    (store / "mlflow.db").write_bytes(b"noise" * 100)
    assert main(["doctor", "FIX=1"]) == 3
    said = capsys.readouterr()
    marks = {name: mark for mark, name in checked(said.out)}
    assert [name for name, mark in marks.items() if mark == "WRONG"] == ["databases"]
    assert {name for name, mark in marks.items() if mark == "note"} >= {
        "ledger",
        "runs",
        "moves",
        "aliases",
        "versions",
        "orphans",
    }
    assert (
        said.err
        == "contract: still wrong: databases. FIX=1 mends only what is safe; the lines above say what to do about the rest\n"
    )
    assert (store / "mlflow.db").read_bytes() == b"noise" * 100, "a history that is gone is noticed, never moved by itself"
    (store / "mlflow.db").unlink()
    assert main(["doctor"]) == 0


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("FIX=yes", "FIX must be 1 (mend what is safe) or 0, got yes"),
        ("DEEP=2", "DEEP must be 1 (read every byte) or 0, got 2"),
        ("dpo.bta=1", "there is no setting dpo.bta; did you mean dpo.beta?"),
    ],
)
def test_a_wrong_word(root: Path, capsys: Any, word: str, says: str) -> None:
    assert main(["doctor", word]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"request: {says}\n")


def test_a_library_that_cannot_be_imported_takes_one_check(root: Path) -> None:
    stores = Stores(Paths(root), Config())
    looked = examine(Check("gone", "", subject._late("tasks.upkeep.no_such_module:look")), stores, mends=False)
    assert looked.findings[0].says == (
        "the check itself failed, and the others go on: ModuleNotFoundError: No module named 'tasks.upkeep.no_such_module'"
    )


# --- what is printed --------------------------------------------------------------------------------------------------


def looked(name: str, *findings: Any, mended: tuple[str, ...] = ()) -> Looked:
    return Looked(Check(name, "", lambda stores: []), findings, mended)


def test_lines() -> None:
    assert lines_of(looked("runs", wrong("a\nb"), note("c"), mended=("d",))) == [
        "mended  runs       d",
        "WRONG              a b",
        "note               c",
    ]
    assert lines_of(looked("flow runs", well("all"))) == ["ok      flow runs  all"]


def test_the_summary_counts_checks_and_not_findings() -> None:
    found = [looked("a", well("")), looked("b", wrong(""), wrong("")), looked("c", note(""), mended=("x", "y"))]
    assert summary(found) == "3 checks: 1 well, 1 with a note, 1 wrong; 2 things mended"
    assert summary(found[:1]) == "1 check: 1 well, 0 with a note, 0 wrong"


def test_the_verdict_promises_only_what_can_be_mended() -> None:
    can, cannot = looked("a", wrong("", lambda: "")), looked("b", wrong(""), note("", lambda: ""))
    assert verdict([can, cannot], mends=False) == "wrong: a, b. make doctor FIX=1 mends what is safe (a)"
    assert verdict([cannot], mends=False) == "wrong: b. The lines above say what to do"
    assert verdict([cannot], mends=True).startswith("still wrong: b. FIX=1 mends only what is safe; ")


def test_the_page_has_the_table_of_checks() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    rows = [f"| {check.name} | {check.what} |" for check in CHECKS]
    assert all(row in page for row in rows), "\n".join(row for row in rows if row not in page)
