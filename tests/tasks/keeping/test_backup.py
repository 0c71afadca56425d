"""There and back: what a backup holds, what it tells of, and what cannot be restored leaves everything as it was."""

import json
import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from posttrain.errors import DataError, RequestError, StorageError
from posttrain.keeping.manifest import FILES, MANIFEST, Manifest, read_manifest
from tasks.keeping import restore as restoring
from tasks.keeping.backup import make_backup
from tasks.keeping.databases import KILLED
from tasks.keeping.exchange import LOCK
from tasks.keeping.packing import Source
from tasks.keeping.restore import restore_backup
from tasks.services.webhook_key import webhook_key
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths
from tasks.workspace.presence import present
from tests.tasks.keeping.houses import KEY, MOVE, OTHER_RUN, RUN, TRAINED, new_house, rows, tree, wanted, write

FORMS = ("backup", "backup.tar.zst")
KEY_OF_WEBHOOKS = ".posttrain/services/webhook.key"
TAKEN = [
    ".posttrain/dvc.json",
    ".posttrain/judge/judge.sqlite",
    ".posttrain/prefect/prefect.db",
    ".posttrain/schedules/nightly.json",
    ".posttrain/services/webhook.key",
    f".posttrain/stages/evaluate-dpo/{KEY}/problems.jsonl",
    f".posttrain/stages/evaluate-dpo/{KEY}/stage.json",
    "data/mine/dvc.yaml",
    "data/mine/records.jsonl",
    *(f"mlflow/store/artifacts/{run}/artifacts/move.json" for run in (RUN, MOVE)),
    *(
        f"mlflow/store/artifacts/models/m-{number}/artifacts/{name}"
        for number in (1, 2, 3)
        for name in ("config.json", "model.safetensors")
    ),
    "mlflow/store/mlflow.db",
    "params.yaml",
    "people.jsonl",
    "people.jsonl.annotators.json",
    "reports/20261128-174225-dpo-3cb9.json",
    "reports/20261128-174225-dpo-3cb9.md",
    "reports/compare/c1/comparison.json",
]


@pytest.fixture
def house(tmp_path: Path) -> Paths:
    return new_house(tmp_path / "house")


def save(house: Paths, target: Path, **how: object) -> tuple[Manifest, list[str]]:
    said: list[str] = []
    return make_backup(house, target, wanted(house, **how), say=said.append), said


def put_back(root: Path, source: Path, *, is_forced: bool = False) -> list[str]:
    said: list[str] = []
    root.mkdir(exist_ok=True)
    restore_backup(Paths(root), source, wanted(Paths(root)), is_forced=is_forced, say=said.append)
    return said


@pytest.mark.parametrize("form", FORMS)
def test_there_and_back(house: Paths, tmp_path: Path, form: str) -> None:
    before = tree(house.root)
    manifest, said = save(house, tmp_path / form)
    assert tree(house.root) == before, "a backup changes nothing"
    assert sorted(manifest.files) == sorted(TAKEN) and manifest.links == {"reports/compare/latest.json": "c1/comparison.json"}
    assert said == ["not in it: models:/posttrain-world/4: no alias and no report names it (ALL=1 takes it)"]
    assert manifest.contents == {
        **{"runs": 3, "versions": 3, "reports": 2, "stages": 1, "datasets": 1, "labels": 1, "schedules": 1}
    }
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "nothing is left beside it"

    said = put_back(tmp_path / "fresh", tmp_path / form)
    fresh = tree(tmp_path / "fresh")
    databases = {"mlflow/store/mlflow.db", ".posttrain/prefect/prefect.db", ".posttrain/judge/judge.sqlite"}
    expected = {path: before[path] for path in TAKEN if path not in {"params.yaml", *databases}}
    assert {path: digest for path, digest in fresh.items() if path not in databases} == {
        **expected,
        "reports/compare/latest.json": "-> c1/comparison.json",
    }
    assert databases <= fresh.keys()
    assert said == [
        "not in it: models:/posttrain-world/4: no alias and no report names it (ALL=1 takes it)",
        "note: params.yaml here differs from that of the backup, and is not touched; the backup holds its own",
    ]


@pytest.mark.parametrize("form", FORMS)
def test_the_key_of_the_webhooks_secrets_is_its_owners_alone_everywhere(house: Paths, tmp_path: Path, form: str) -> None:
    before = os.umask(0o022)
    try:
        save(house, tmp_path / form)
        put_back(tmp_path / "fresh", tmp_path / form)
    finally:
        os.umask(before)
    held = tmp_path / form if form.endswith("zst") else tmp_path / form / FILES / KEY_OF_WEBHOOKS
    for file in (held, tmp_path / "fresh" / KEY_OF_WEBHOOKS):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert webhook_key(Paths(tmp_path / "fresh")) == "key of the first"
    others = tmp_path / "fresh" / ".posttrain" / "schedules" / "nightly.json"
    assert stat.S_IMODE(others.stat().st_mode) == 0o644


def test_a_backup_without_a_secret_is_for_whoever_may_read_the_folder(house: Paths, tmp_path: Path) -> None:
    (house.root / KEY_OF_WEBHOOKS).unlink()
    manifest, _ = save(house, tmp_path / "b.tar.zst")
    assert KEY_OF_WEBHOOKS not in manifest.files and stat.S_IMODE((tmp_path / "b.tar.zst").stat().st_mode) & 0o044


def test_a_key_is_replaced_with_the_ledger_and_the_notes_of_services_stay(house: Paths, tmp_path: Path) -> None:
    save(house, tmp_path / "b")
    fresh = tmp_path / "fresh" / ".posttrain" / "services"
    write(fresh / "webhook.key", "made since")  # by make up in a fresh checkout: nothing is lost with it
    write(fresh / "mlflow.json", "a note")
    put_back(tmp_path / "fresh", tmp_path / "b")
    assert (fresh / "webhook.key").read_text() == "key of the first\n" and (fresh / "mlflow.json").read_text() == "a note"


def test_what_was_running_is_closed_and_schedules_start_where_the_repository_is_now(house: Paths, tmp_path: Path) -> None:
    save(house, tmp_path / "b")
    fresh = tmp_path / "fresh"
    put_back(fresh, tmp_path / "b")
    ledger = fresh / "mlflow" / "store" / "mlflow.db"
    # the half-done move stays open: by that it is found and settled
    found = dict(rows(ledger, "SELECT run_uuid, status FROM runs"))
    assert found == {RUN: "FINISHED", OTHER_RUN: "KILLED", MOVE: "RUNNING"}
    assert rows(ledger, "SELECT value, run_uuid FROM tags WHERE key = 'posttrain.error'") == [(KILLED, OTHER_RUN)]
    path, steps = rows(fresh / ".posttrain/prefect/prefect.db", "SELECT path, pull_steps FROM deployment")[0]
    assert path == str(fresh) and json.loads(str(steps)) == [{"set_working_directory": {"directory": str(fresh)}}]


def test_all_takes_every_version_every_stage_and_every_version_of_the_data(house: Paths, tmp_path: Path) -> None:
    write(house.root / ".dvc" / "cache" / "files" / "md5" / "ab" / "cd", "an older version")
    write(house.stages / "dpo" / f"{KEY}.part-77" / "stage.json", "{}")
    manifest, said = save(house, tmp_path / "b", is_all=True)
    more = sorted(set(manifest.files) - set(TAKEN))
    assert more == [
        ".dvc/cache/files/md5/ab/cd",
        f".posttrain/stages/dpo/{TRAINED}/model/model.safetensors",
        f".posttrain/stages/dpo/{TRAINED}/stage.json",
        "mlflow/store/artifacts/models/m-4/artifacts/config.json",
        "mlflow/store/artifacts/models/m-4/artifacts/model.safetensors",
    ]
    assert said == []
    put_back(tmp_path / "fresh", tmp_path / "b")
    assert (tmp_path / "fresh/.dvc/cache/files/md5/ab/cd").read_text() == "an older version"


def test_edited_data_of_the_world_are_taken_since_nothing_makes_them_again(house: Paths, tmp_path: Path) -> None:
    write(house.store / "dvc.json", json.dumps({"accepted": {"data/world/questions.jsonl": "m"}}))
    assert "data/world/questions.jsonl" in save(house, tmp_path / "b")[0].files


def test_damaged_and_lost_versions_are_told_and_not_taken(house: Paths, tmp_path: Path) -> None:
    models = house.ledger / "artifacts" / "models"
    write(models / "m-1" / "artifacts" / "model.safetensors", "noise")
    (models / "m-2" / "artifacts").rename(models / "gone")
    write(house.stages / "evaluate-dpo" / KEY / "problems.jsonl", "noise")
    manifest, _ = save(house, tmp_path / "b")
    assert manifest.left_out[:2] == (
        "models:/posttrain-world/1: its files are not those that were registered: they are damaged (make doctor says what can be "
        "done)",
        "models:/posttrain-world/2: its files are gone",
    )
    assert manifest.left_out[-1] == f"evaluate-dpo: problems.jsonl of the cached result {KEY[:12]} is damaged"
    assert not [path for path in manifest.files if "m-1/" in path or "evaluate-dpo" in path]


def test_a_repository_that_was_moved_is_backed_up_all_the_same(house: Paths, tmp_path: Path) -> None:
    house.root.rename(tmp_path / "moved")
    assert save(Paths(tmp_path / "moved"), tmp_path / "b")[0].contents["versions"] == 3


def test_the_databases_are_of_one_moment_while_somebody_writes(house: Paths, tmp_path: Path) -> None:
    """Each transaction adds a run and its tag: a copy that has one without the other was torn."""
    stop, ledger = threading.Event(), house.ledger / "mlflow.db"

    def keep_writing() -> None:
        with closing(sqlite3.connect(ledger, timeout=30)) as base:
            for number in range(100_000):
                if stop.is_set():
                    return
                with base:
                    base.execute("INSERT INTO runs VALUES (?, 'FINISHED', NULL, '')", (f"run {number}",))
                    base.execute("INSERT INTO tags VALUES ('of', ?, ?)", ("x" * 2_000, f"run {number}"))

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        for number in range(3):
            save(house, tmp_path / f"b{number}")
    finally:
        stop.set()
        writer.join()
    for number in range(3):
        copy = tmp_path / f"b{number}" / FILES / "mlflow/store/mlflow.db"
        assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
        torn = "SELECT count(*) FROM runs WHERE run_uuid LIKE 'run %' AND run_uuid NOT IN (SELECT run_uuid FROM tags)"
        assert rows(copy, torn) == [(0,)]


def test_places_that_are_refused(house: Paths, tmp_path: Path) -> None:
    write(tmp_path / "full" / "x", "x")
    write(tmp_path / "there.tar.zst", "x")
    for target, told in (
        (
            tmp_path / "full",
            f"TO must name a place where nothing lies yet, but {tmp_path / 'full'} is there. Give another name, or",
        ),
        (tmp_path / "there.tar.zst", "TO must name a place where nothing lies yet"),
        (tmp_path / "b.zip", f"TO must be a folder, or a file that ends in .tar.zst, got {tmp_path / 'b.zip'}"),
        (house.reports / "b", f"TO must lie outside {house.reports}, which the backup copies, got {house.reports / 'b'}"),
    ):
        with pytest.raises(RequestError) as error:
            save(house, target)
        assert str(error.value).startswith(told)
    (tmp_path / "empty").mkdir()
    assert save(house, tmp_path / "empty")[0].files
    (tmp_path / "nothing here").mkdir()
    with pytest.raises(RequestError, match="there is nothing to back up"):
        save(Paths(tmp_path / "nothing here"), tmp_path / "b")


def test_one_at_a_time(house: Paths, tmp_path: Path) -> None:
    with exclusive(house, LOCK), pytest.raises(RequestError, match="another backup, restore or clean"):
        save(house, tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_leaves_nothing_of_a_backup(house: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    from tasks.keeping import packing

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing._Digesting, "read", full)
    with pytest.raises(StorageError, match="the backup: the disk is full"):
        save(house, tmp_path / "out" / form)
    assert list((tmp_path / "out").iterdir()) == []


# --- what is not restored ---------------------------------------------------------------------------------------------


def untouched(house: Paths, source: Path, kind: type[Exception], told: str, *, is_forced: bool = True) -> None:
    """See that a restore over a house is refused with a sentence, and that nothing in it has changed."""
    before = tree(house.root)
    with pytest.raises(kind) as error:
        put_back(house.root, source, is_forced=is_forced)
    assert told in str(error.value), str(error.value)
    assert tree(house.root) == before
    assert not list(house.root.rglob(".restore-*"))


def test_a_damaged_folder(house: Paths, tmp_path: Path) -> None:
    other = new_house(tmp_path / "other", word="second")
    file = "reports/20261128-174225-dpo-3cb9.md"

    def damaged(name: str) -> Path:
        save(house, tmp_path / name)
        return tmp_path / name

    backup = damaged("b1")
    (backup / FILES / file).write_text("fOrst")
    untouched(other, backup, DataError, f"1 of its {len(TAKEN)} files are not as they were written, the first is {file}")
    backup = damaged("b2")
    (backup / FILES / file).write_text("longer than it was")
    untouched(other, backup, DataError, f"{file} has 18 bytes, and 5 were written")
    backup = damaged("b3")
    (backup / FILES / file).unlink()
    untouched(other, backup, DataError, f"1 of its {len(TAKEN)} files are missing, the first is {file}")
    backup = damaged("b4")
    (backup / MANIFEST).unlink()
    untouched(other, backup, DataError, f"{backup} is cut off, or no backup: it has no manifest.json, which is written last")
    untouched(other, tmp_path / "nowhere", RequestError, "FROM must name a backup")


def test_a_cut_off_archive_at_many_lengths(house: Paths, tmp_path: Path) -> None:
    other = new_house(tmp_path / "other", word="second")
    save(house, tmp_path / "b.tar.zst")
    whole = (tmp_path / "b.tar.zst").read_bytes()
    for length in (0, 1, 20, len(whole) // 3, len(whole) // 2, len(whole) - 20, len(whole) - 1):
        cut = write(tmp_path / "cut.tar.zst", whole[:length])
        untouched(other, cut, DataError, f"{cut} is cut off")
    noise = write(tmp_path / "noise.tar.zst", whole[: len(whole) // 2] + b"\0noise" * 9 + whole[len(whole) // 2 :])
    untouched(other, noise, DataError, "Nothing was touched")
    untouched(other, write(tmp_path / "text.tar.zst", "no archive"), DataError, "is cut off, damaged, or no backup")


def test_a_newer_backup_and_a_newer_database(house: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = new_house(tmp_path / "other", word="second")
    save(house, tmp_path / "b")
    manifest = tmp_path / "b" / MANIFEST
    manifest.write_text(manifest.read_text().replace("posttrain.backup/1", "posttrain.backup/7"))
    untouched(other, tmp_path / "b", DataError, "was made by a newer posttrain")
    with closing(sqlite3.connect(house.store / "judge" / "judge.sqlite")) as base:
        base.execute("PRAGMA user_version = 9")
    save(house, tmp_path / "b2")
    told = wanted(other)
    judge = told.databases[".posttrain/judge/judge.sqlite"]
    monkeypatch.setitem(told.databases, ".posttrain/judge/judge.sqlite", type(judge)(judge.file, "j", "l", "k", version=1))  # type: ignore[arg-type]
    before = tree(other.root)
    with pytest.raises(StorageError, match=r"judge.sqlite in it was written by a newer version \(9\)"):
        restore_backup(other, tmp_path / "b2", told, is_forced=True, say=print)
    assert tree(other.root) == before


def test_what_lies_here_is_not_replaced_unless_it_is_said(house: Paths, tmp_path: Path) -> None:
    other = new_house(tmp_path / "other", word="second")
    save(house, tmp_path / "b")
    told = "mlflow/store/mlflow.db (4 runs and models), .posttrain/prefect/prefect.db (1 runs and schedules)"
    with pytest.raises(RequestError) as error:
        put_back(other.root, tmp_path / "b")
    for part in ("restore would replace what lies here: ", "data/mine", "reports/compare", "people.jsonl", *told.split(", ")):
        assert part in str(error.value)
    untouched(other, tmp_path / "b", RequestError, f"make restore FROM={tmp_path / 'b'} FORCE=1", is_forced=False)
    write(other.reports / "of-the-other.json", "{}")
    write(other.data / "kept" / "records.jsonl", "{}")
    put_back(other.root, tmp_path / "b", is_forced=True)
    found = tree(other.root)
    assert (other.root / "people.jsonl").read_text() == (house.root / "people.jsonl").read_text()
    assert "reports/of-the-other.json" not in found, "reports go with the ledger that they speak of"
    assert "data/kept/records.jsonl" in found, "a dataset that the backup does not know stays"
    assert "mlflow/store/artifacts/models/m-4/artifacts/config.json" not in found
    assert not list(other.root.rglob(".restore-*")) and not list((other.store / "keeping").iterdir())


def test_nothing_is_restored_while_somebody_works_here(house: Paths, tmp_path: Path) -> None:
    save(house, tmp_path / "b")
    with present(house, command="make pipeline"):
        untouched(house, tmp_path / "b", RequestError, "runs a pipeline here, or another command. Nothing was touched")
    for lock, told in ((LOCK, "another backup"), ("services", "make up or make down"), ("dvc", "DVC")):
        with exclusive(house, lock):
            untouched(house, tmp_path / "b", RequestError, f"{told}")


def test_no_room_is_told_before_anything_is_written(house: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(house, tmp_path / "b")
    monkeypatch.setattr(restoring, "free_bytes", lambda folder: 10 * 2**20)
    untouched(
        house, tmp_path / "b", StorageError, "10 MB are free, and 65 MB are needed: what lies here stays until all is restored"
    )


def test_a_full_disk_half_way_leaves_all_as_it_was(house: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(house, tmp_path / "b")
    real, count = restoring.copy_stream, iter(range(100))

    def full(*words: object) -> object:
        if next(count) == 9:
            raise OSError(28, "No space left on device")
        return real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(restoring, "copy_stream", full)
    untouched(house, tmp_path / "b", StorageError, "the restore: the disk is full")


def test_a_foreign_archive_writes_nothing_outside_the_stores(house: Paths, tmp_path: Path) -> None:
    import io
    import tarfile

    import pyarrow

    for name in (f"{FILES}/flows/verbs.py", f"{FILES}/../../x", "x", f"{FILES}/people.jsonl/../../x.jsonl"):
        file = tmp_path / "foreign.tar.zst"
        with pyarrow.output_stream(str(file), compression="zstd") as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
        untouched(house, file, DataError, "which no backup of ours does. Nothing was touched")
    assert Source(tmp_path / "foreign.tar.zst").manifest is None


def test_the_manifest_of_a_folder_is_what_was_returned(house: Paths, tmp_path: Path) -> None:
    manifest, _ = save(house, tmp_path / "b")
    assert read_manifest((tmp_path / "b" / MANIFEST).read_text(), shown="b") == manifest
