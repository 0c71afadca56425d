"""Whenever a restore dies, the next command brings one whole state: the earlier one, byte for byte, or the restored one."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from posttrain.errors import RequestError, StorageError
from tasks.keeping.backup import make_backup
from tasks.keeping.exchange import DRAFT, LOCK, PLAN, Exchange, notes_folder, place_of, settle
from tasks.keeping.restore import restore_backup
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths
from tests.tasks.keeping.houses import new_house, tree, wanted, write

STEPS = ((Path, "replace"), (Path, "rename"), (Path, "unlink"), (Path, "symlink_to"), (shutil, "rmtree"))
"""What changes names on the disk: before each call of one of these a process may die."""


class Dying:
    """Count the steps that change names on the disk, and do something else before one of them."""

    def __init__(self, at: int, instead: Callable[[], None]) -> None:
        self.at, self.instead, self.count = at, instead, 0

    def __enter__(self) -> "Dying":
        self.patch = pytest.MonkeyPatch()
        for owner, name in STEPS:
            self.patch.setattr(owner, name, self._wrapped(getattr(owner, name)))
        return self

    def __exit__(self, *_: object) -> None:
        self.patch.undo()

    def _wrapped(self, function: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            self.count += 1
            if self.count == self.at:
                self.instead()
            return function(*arguments, **options)

        return step


def killed_at(step: int, run: Callable[[], object]) -> bool:
    """Run something in a process that is killed before one step; returns whether it came so far."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException), Dying(step, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            run()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    house = new_house(tmp_path / "house")
    make_backup(house, tmp_path / "b", wanted(house, is_all=True))
    return tmp_path / "b"


def put_back(house: Paths, source: Path) -> None:
    restore_backup(house, source, wanted(house), is_forced=True, say=lambda line: None)


def state(house: Paths) -> dict[str, str]:
    """Return what lies in a house; a ledger's own moment of closing a run differs from restore to restore."""
    return {path: digest for path, digest in tree(house.root).items() if not path.endswith("mlflow.db")} | {
        "the ledger is": "here" if (house.ledger / "mlflow.db").exists() else "away"
    }


def test_a_kill_before_each_step(backup: Path, tmp_path: Path) -> None:
    other = new_house(tmp_path / "other", word="second")
    write(other.reports / "more.json", "{}")
    write(other.ledger / "mlflow.db-journal", "")
    kept = tmp_path / "kept"
    shutil.copytree(other.root, kept, symlinks=True)
    earlier = state(other)
    put_back(other, backup)
    restored = state(other)
    assert earlier != restored and (notes_folder(other)).is_dir()

    undone, completed, step = 0, 0, 0
    while True:
        step += 1
        shutil.rmtree(other.root)
        shutil.copytree(kept, other.root, symlinks=True)
        is_killed = killed_at(step, lambda: put_back(other, backup))
        said: list[str] = []
        settle(other, said.append)
        now = state(other)
        left = [path for path in other.root.rglob("*") if ".restore-" in path.name or path.name == "scratch"]
        assert not left, f"step {step}: {left}"
        if not is_killed:
            assert now == restored
            break
        if now == earlier:
            assert not completed, f"step {step}: once it is decided it is completed"
            assert said in ([], ["a restore was stopped before its end; everything is as it was before"])
            undone += 1
        else:
            assert now == restored, f"step {step}: {sorted(set(now.items()) ^ set(restored.items()))[:6]}"
            assert said in ([], ["a restore was stopped while its files were put in place; now they all are"])
            completed += 1
    assert undone > 5 and completed > 20, (undone, completed)


def test_a_settlement_that_is_killed_as_well(backup: Path, tmp_path: Path) -> None:
    """A kill in the middle of the exchange, then one before each step of its completion."""
    other = new_house(tmp_path / "other", word="second")
    kept = tmp_path / "kept"
    for middle in range(1, 400):
        if not killed_at(middle, lambda: put_back(other, backup)):
            pytest.fail("no step lay between the decision and the end")
        if (notes_folder(other) / PLAN).exists():
            break
        settle(other, print)
    killed_at(1, lambda: None)
    shutil.copytree(other.root, kept, symlinks=True)
    settle(other, print)
    restored, step = state(other), 0
    while True:
        step += 1
        shutil.rmtree(other.root)
        shutil.copytree(kept, other.root, symlinks=True)
        is_killed = killed_at(step, lambda: settle(other, lambda line: None))
        settle(other, lambda line: None)
        assert state(other) == restored, f"step {step}"
        if not is_killed:
            break
    assert step > 20


def test_an_error_half_way_is_completed_by_the_next_command(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = new_house(tmp_path / "other", word="second")
    real = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "people.jsonl" and ".restore-" in str(self):
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, target)

    with monkeypatch.context() as patched, pytest.raises(StorageError) as error:
        patched.setattr(Path, "rename", refuse)
        put_back(other, backup)
    assert "the restored files are whole, but cannot be put in place" in str(error.value)
    assert str(error.value).endswith("Correct the permissions; the next command of any kind completes it")
    said: list[str] = []
    settle(other, said.append)
    assert said == ["a restore was stopped while its files were put in place; now they all are"]
    assert "first" in (other.root / "people.jsonl").read_text()
    settle(other, said.append)
    assert len(said) == 1


def test_what_is_at_work_is_not_settled(tmp_path: Path) -> None:
    paths = new_house(tmp_path / "house")
    settle(paths, print)
    with exclusive(paths, LOCK):
        exchange = Exchange(paths)
        write(exchange.stage("reports/x.json"), "{}")
        with pytest.raises(RequestError, match="a restore is under way in another process"):
            settle(paths, print)
        assert (notes_folder(paths) / DRAFT).exists()
        exchange.give_up()
    assert not list(paths.root.rglob(".restore-*")) and not (notes_folder(paths) / DRAFT).exists()


def test_a_damaged_plan_is_told_and_nothing_is_removed(tmp_path: Path) -> None:
    paths = new_house(tmp_path / "house")
    write(notes_folder(paths) / PLAN, json.dumps({"units": [{"folder": "reports", "what": 1}]}))
    write(paths.reports / ".restore-x" / "old" / "a.json", "{}")
    with pytest.raises(StorageError, match=r"is damaged .*, so a restore that was stopped cannot be completed"):
        settle(paths, print)
    assert (paths.reports / ".restore-x" / "old" / "a.json").exists()


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("mlflow/store/mlflow.db", ("mlflow/store", "mlflow.db", False)),
        ("mlflow/store/artifacts/a/b", ("mlflow/store", "artifacts", False)),
        ("reports/compare/c1/index.html", ("reports", "compare", False)),
        ("data/mine/records.jsonl", ("data", "mine", False)),
        (".posttrain/prefect/prefect.db", (".posttrain", "prefect/prefect.db", False)),
        (".posttrain/schedules/a.json", (".posttrain", "schedules", False)),
        (".posttrain/stages/dpo/k/model/x", (".posttrain", "stages/dpo/k", True)),
        (".dvc/cache/files/md5/ab/cd", (".dvc/cache", "files/md5/ab/cd", True)),
        ("labels/people.jsonl", ("", "labels/people.jsonl", False)),
    ],
)
def test_which_name_a_file_changes(path: str, place: tuple[str, str, bool]) -> None:
    assert place_of(path) == place


def test_a_place_on_another_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = new_house(tmp_path / "house")
    real, away = Path.stat, paths.store / "stages"

    def stat(self: Path, **how: bool) -> os.stat_result:
        found = real(self, **how)
        return os.stat_result([*found[:2], 77, *found[3:10]]) if self == away else found

    exchange = Exchange(paths)
    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(RequestError, match="lies on another disk than"):
        exchange.stage(".posttrain/stages/dpo/k/x")
    monkeypatch.undo()
    exchange.give_up()
