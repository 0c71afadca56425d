"""Two checkouts and one pair of servers, and a backup of them: on SQLite, and on a PostgreSQL. Many minutes."""

import json
import subprocess
import sys
from contextlib import closing

import pytest

from flows.prefect_client import client_of
from tasks.services.notes import NAMES, running
from tasks.workspace.paths import Paths
from tests.flows.houses import SMALL, environment, new_house, verb
from tests.flows.postgres import postgres_or_skip, servers_on
from tests.ports import free_port

pytestmark = pytest.mark.slow


class Checkout:
    """A repository that is used by its verbs as a user does."""

    def __init__(self, folder, *, servers=None, named=None):
        self.root = new_house(folder)
        self.paths = Paths(self.root)
        self.named = named or {}
        ports = {f"{name}_port": free_port() for name in NAMES}
        # a PostgreSQL is its server's alone, so pipelines write through that
        uri = f"http://127.0.0.1:{ports['mlflow_port']}" if servers else ""
        told = f"servers: {json.dumps({**ports, **(servers or {})})}\ntracking: {{uri: '{uri}'}}"
        (self.root / "params.yaml").write_text(f"{SMALL}\n{told}\n")

    def start(self, *words):
        command = [sys.executable, "-m", "flows", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.root, env=environment() | self.named, stdout=pipe, stderr=pipe, text=True)

    def verb(self, *words, code=0):
        return verb(self.root, *words, code=code, told=self.named)

    @property
    def site(self):
        return {name: running(self.paths, name).site for name in ("prefect", "mlflow")}


def finish(process):
    out, err = process.communicate(timeout=1_800)
    assert process.returncode == 0 and "Traceback" not in err, out + err


def versions_of(site):
    """Return each version's seed by its number, as the registry behind MLflow's server has it."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=site)
    runs = {one.version: client.get_run(one.run_id) for one in client.search_model_versions("name = 'posttrain-world'")}
    return {int(number): run.data.params["seed"] for number, run in runs.items()}


def runs_of(api):
    with client_of(api) as client:
        return sorted((run.state_name or "") for run in client.read_flow_runs())


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_two_checkouts_share_servers_and_a_backup_brings_them_back(tmp_path, store):
    if store == "sqlite":
        _share(tmp_path, None)
        return
    with postgres_or_skip(tmp_path / "postgres") as database:
        _share(tmp_path, database)


def _share(tmp_path, database):
    ours = Checkout(tmp_path / "ours", servers=servers_on(database) if database else None)
    try:
        ours.verb("up")
        theirs = Checkout(tmp_path / "theirs", named={"PREFECT_API_URL": f"{ours.site['prefect']}/api"})

        # both at once: one ledger, one registry, and nothing of one is lost or counted to the other
        words = ["pipeline", "method=sft", f"tracking.uri={ours.site['mlflow']}"]
        pipelines = [ours.start("pipeline", "method=sft"), theirs.start(*words, "seed=1")]
        for pipeline in pipelines:
            finish(pipeline)
        assert sorted(versions_of(ours.site["mlflow"])) == [1, 2]
        assert sorted(versions_of(ours.site["mlflow"]).values()) == ["0", "1"]
        assert runs_of(f"{ours.site['prefect']}/api") == ["Completed", "Completed"]

        # each checkout sees what the other has made, and its files come through the server
        first = next(number for number, seed in versions_of(ours.site["mlflow"]).items() if seed == "0")
        theirs.verb("promote", f"VERSION={first}", "WHY=theirs", "FORCE=1", f"SET=tracking.uri={ours.site['mlflow']}")
        assert "by hand" in ours.verb("history") and "theirs" in ours.verb("history")

        ours.verb("schedule", "METHOD=sft", "CRON=0 3 * * *", "NAME=nightly")
        _restore_what_is_lost(ours, database, first, tmp_path / "backup")
    finally:
        ours.verb("down")


def _restore_what_is_lost(ours, database, champion, backup):
    # ALL: the pipelines end in any order, and the version of the first one has an alias only where it is the champion
    said = ours.verb("backup", f"TO={backup}", "ALL=1")
    assert "2 versions with their files" in said and "1 schedule" in said, said
    ours.verb("schedule", "DELETE=nightly")
    ours.verb("down")

    # over what stands here only by force, and the refusal names the databases
    refused = ours.verb("restore", f"FROM={backup}", code=2)
    assert "restore would replace what lies here" in refused and "Nothing was touched" in refused
    assert ("postgresql" in refused) is bool(database)
    restored = ours.verb("restore", f"FROM={backup}", "FORCE=1")
    assert f"champion of world: version {champion}" in restored

    # the servers have it all again, the champion loads, the schedule has its next run, and the loop goes on
    ours.verb("up")
    assert "nightly: make retrain METHOD=sft DATA=world" in ours.verb("schedule")
    assert "0 wrong" in ours.verb("doctor", "FIX=1")
    again = ours.verb("retrain", "METHOD=sft")
    assert "unchanged" in again or "nothing" in again, again


def test_a_backup_on_postgresql_that_is_put_into_another_folder(tmp_path):
    with postgres_or_skip(tmp_path / "postgres") as database:
        before = Checkout(tmp_path / "before", servers=servers_on(database))
        try:
            before.verb("up")
            before.verb("pipeline", "method=sft")
            before.verb("promote", "VERSION=1", "WHY=first", "FORCE=1")
            before.verb("schedule", "METHOD=sft", "CRON=0 3 * * *", "NAME=nightly")
            said = before.verb("backup", f"TO={tmp_path / 'b.tar.zst'}")
            assert "1 version with its files" in said
        finally:
            before.verb("down")
        _empty(database)
        now = Checkout(tmp_path / "now", servers=servers_on(database))
        try:
            assert "champion of world: version 1" in now.verb("restore", f"FROM={tmp_path / 'b.tar.zst'}")
            now.verb("up")
            listed = now.verb("schedule")
            assert "nightly: make retrain METHOD=sft DATA=world" in listed and "  ! " not in listed
            assert "0 wrong" in now.verb("doctor", "FIX=1")
        finally:
            now.verb("down")


def _empty(database):
    """Take everything out of both databases, as a machine that was lost would."""
    import psycopg2

    port, secret = database
    for name in ("prefect", "mlflow"):
        where = {"host": "127.0.0.1", "port": port, "user": "ann", "password": secret.read_text(), "dbname": name}
        with closing(psycopg2.connect(**where)) as opened, opened, opened.cursor() as cursor:
            cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
