"""The words of backup, restore and clean: what is refused before anything runs, and what is settled before any command."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import keep_backup
from flows.__main__ import main
from flows.keep_backup import elsewhere, wanted
from posttrain.keeping.manifest import DUMPS
from posttrain.settings.config import Config
from tasks.keeping.exchange import DRAFT, PLAN, notes_folder
from tasks.keeping.postgres import require_pg
from tasks.services.postgres import Address
from tasks.workspace.paths import Paths
from tests.tasks.keeping.houses import new_house, write

POSTGRES = {
    "mlflow_database": "postgresql+psycopg2://ann@db.example/mlflow",
    "prefect_database": "postgresql+asyncpg://ann@db/prefect",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository's root with nothing but an empty params.yaml; whatever the verbs set in the environment is undone."""
    (tmp_path / "repo").mkdir()
    monkeypatch.chdir(tmp_path / "repo")
    (tmp_path / "repo" / "params.yaml").write_text("# nothing differs from the defaults\n")
    before = dict(os.environ)
    yield tmp_path / "repo"
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["backup"], "request: backup needs TO: make backup TO=../backups/monday.tar.zst\n"),
        (["backup", "TO= "], "request: backup needs TO: make backup TO=../backups/monday.tar.zst\n"),
        (["backup", "TO=b", "ALL=yes"], "request: ALL must be 1 (take also what can be made again) or 0, got yes\n"),
        (["backup", "TO=b.zip"], "request: TO must be a folder, or a file that ends in .tar.zst, got b.zip\n"),
        (["restore"], "request: restore needs FROM: make restore FROM=../backups/monday.tar.zst\n"),
        (["restore", "FROM=b", "FORCE=2"], "request: FORCE must be 1 (put it in the place of what lies here) or 0, got 2\n"),
        (
            ["restore", "FROM=nowhere"],
            "request: FROM must name a backup, a folder or a file that ends in .tar.zst, but there is no nowhere\n",
        ),
        (
            ["clean"],
            "request: KEEP must be how many of the newest pipelines stay, or for how many days one does, at least 1 (KEEP=10, "
            "KEEP=30d), got nothing\n",
        ),
        (["clean", "KEEP=3", "APPLY=all"], "request: APPLY must be 1 (remove what is listed) or 0, got all\n"),
        (["clean", "keep=3", "seed=x"], "request: seed must be a whole number, got x"),
    ],
)
def test_what_is_refused(root: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(told.rstrip("\n")), said.err
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.name.endswith(".lock")) in (
        ["params.yaml"],
        [".posttrain", "params.yaml"],
    )


def test_a_restore_that_was_stopped_is_settled_by_any_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = Paths(root)
    write(paths.reports / ".restore-1-2-3" / "new" / "a.json", "{}")
    write(notes_folder(paths) / DRAFT, "{}")
    assert main(["status"]) == 0
    assert "a restore was stopped before its end; everything is as it was before\n" in capsys.readouterr().err
    assert not list(root.rglob(".restore-*"))

    write(paths.reports / "a.json", "the old one")
    write(paths.reports / ".restore-1-2-3" / "new" / "a.json", "the new one")
    unit = {"folder": "reports", "aside": ["a.json"], "put": ["a.json"], "add": []}
    write(notes_folder(paths) / PLAN, json.dumps({"staging": ".restore-1-2-3", "units": [unit]}))
    assert main(["status"]) == 0
    assert "a restore was stopped while its files were put in place; now they all are\n" in capsys.readouterr().err
    assert (paths.reports / "a.json").read_text() == "the new one" and not list(root.rglob(".restore-*"))
    assert main(["status"]) == 0
    assert capsys.readouterr().err == ""


def test_through_the_verbs_there_and_back(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    house = new_house(tmp_path / "house")
    # the tables of the house are made by hand, and have no version of MLflow's or Prefect's
    for name in ("ledger_database", "prefect_database"):
        real = getattr(keep_backup, name)
        plain = lambda file, real=real: type(real(file))(real(file).file, real(file).what, "it", "the rest")  # noqa: E731
        monkeypatch.setattr(keep_backup, name, plain)
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    monkeypatch.chdir(house.root)
    assert main(["backup", "TO=../b.tar.zst"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(
        "3 runs, 3 versions with their files, 2 reports, 1 finished stage, 1 dataset, 1 store of labels, 1 schedule: 0.1 MB of "
        "files in ../b.tar.zst\nto put it back, here or in a fresh checkout: make restore FROM=../b.tar.zst\n"
    )
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    monkeypatch.chdir(root)
    assert main(["restore", "FROM=../b.tar.zst"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("restored, as of 20") and said.out.endswith(
        "champion of world: version 1\nschedules run again once the services do: make up\n"
    )
    assert (root / "people.jsonl").read_text() == (house.root / "people.jsonl").read_text()


# --- what others keep -------------------------------------------------------------------------------------------------


def test_stores_of_others_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    paths = Paths(tmp_path)
    assert elsewhere(paths, Config()) == []
    assert elsewhere(paths, Config(tracking={"uri": "http://127.0.0.1:5000"})) == []  # type: ignore[arg-type]
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example/api")
    config = Config(tracking={"uri": "http://mlflow.example"}, servers={"artifacts": "s3://b"})  # type: ignore[arg-type]
    assert elsewhere(paths, config) == [
        "runs, versions and history of tracking.uri (http://mlflow.example): whoever keeps that server backs them up",
        "files of runs and versions in servers.artifacts (s3://b): that store has its own copies",
        "schedules of PREFECT_API_URL (http://prefect.example/api): whoever keeps that server backs them up",
    ]


def test_a_postgresql_without_its_programs_is_refused_with_the_store_that_would_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.keeping import postgres

    monkeypatch.setattr(postgres.shutil, "which", lambda tool: None)
    address = Address.read(POSTGRES["prefect_database"], setting="servers.prefect_database", driver="postgresql+asyncpg")
    with pytest.raises(Exception, match="pg_dump is not here") as error:
        require_pg("pg_dump", address)
    assert str(error.value) == (
        "servers.prefect_database is postgresql+asyncpg://ann@db/prefect, and pg_dump is not here, so prefect's store cannot be "
        "part of this. Install PostgreSQL's client programs (package postgresql-client), or leave that store to those who keep "
        'it: SET="servers.prefect_database="'
    )


def test_both_postgresqls_have_a_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import service_plans

    monkeypatch.setattr(service_plans, "require_driver", lambda *_, **__: None)
    found = wanted(Paths(tmp_path), Config(servers=POSTGRES), is_all=True)  # type: ignore[arg-type]
    assert tuple(found.postgres) == DUMPS and found.is_all
    assert [address.database for address, _ in found.postgres.values()] == ["mlflow", "prefect"]
