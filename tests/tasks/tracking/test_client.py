"""Two processes write the same row of MLflow's store at the same moment: each write is there afterwards."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INVALID_PARAMETER_VALUE
from sqlalchemy import event
from sqlalchemy.orm import Session

from posttrain.settings.evaluation import TrackingSettings
from tasks.tracking.client import TRIES, SharedClient
from tasks.tracking.ledger import Ledger
from tasks.workspace.paths import Paths

Write = Callable[[MlflowClient, str], object]
SOURCE = Dataset(name="world", digest="d" * 32, source_type="local", source='{"uri": "data/world"}')
WRITES: dict[str, Write] = {
    "dataset": lambda client, run: client.log_inputs(run, [DatasetInput(SOURCE, [InputTag("dvc.md5", "d" * 32)])]),
    "tag": lambda client, run: client.set_tag(run, "shared", "one"),
    "experiment": lambda client, run: client.set_experiment_tag(client.get_run(run).info.experiment_id, "view", "one"),
    "model": lambda client, run: client.set_registered_model_tag("posttrain", "comparison", "one"),
    "alias": lambda client, run: client.set_registered_model_alias("posttrain", "challenger", "1"),
    "version": lambda client, run: client.set_model_version_tag("posttrain", "1", "promoted", "one"),
}


@pytest.fixture
def ledger(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    shutil.copytree(empty_store, tmp_path / "copy")
    ledger = Ledger.open(Paths(tmp_path / "copy"), TrackingSettings())
    ledger.client.create_registered_model("posttrain")
    ledger.client.create_model_version("posttrain", str(tmp_path))
    return ledger


@contextmanager
def between_look_and_write(write: Callable[[], object], times: int = 1) -> Iterator[list[int]]:
    """Let `write` happen when a session has looked and is about to write; so many times. Yields one item for each time."""
    done: list[int] = []
    inside: list[int] = []

    def other(*_: object) -> None:
        if len(done) < times and not inside:
            done.append(1)
            inside.append(1)
            write()
            inside.clear()

    event.listen(Session, "before_flush", other)
    try:
        yield done
    finally:
        event.remove(Session, "before_flush", other)


@pytest.mark.parametrize("what", WRITES)
def test_a_row_that_another_process_writes_first_is_written_over(ledger, what):
    """MLflow's own client is told that the row is there, and gives up."""
    write = WRITES[what]
    mine, others = (ledger.client.create_run(ledger.experiment_id).info.run_id for _ in range(2))
    theirs = MlflowClient(tracking_uri=ledger.uri, registry_uri=ledger.uri)
    other = mine if what == "tag" else others
    with between_look_and_write(lambda: write(theirs, other)) as count:
        write(ledger.client, mine)
    assert count == [1], "the other process wrote in between"
    if what == "dataset":
        inputs = [ledger.client.get_run(run).inputs.dataset_inputs for run in (mine, others)]
        assert [[found.dataset.digest for found in of] for of in inputs] == [["d" * 32]] * 2


def test_plain_mlflow_gives_up_where_another_process_was_first(ledger):
    """When this fails, MLflow has mended it and tasks/tracking/client.py can go."""
    mine, others = (ledger.client.create_run(ledger.experiment_id).info.run_id for _ in range(2))
    plain = MlflowClient(tracking_uri=ledger.uri, registry_uri=ledger.uri)
    with between_look_and_write(lambda: WRITES["dataset"](plain, others)), pytest.raises(MlflowException, match="UNIQUE"):
        WRITES["dataset"](plain, mine)


@pytest.mark.parametrize(
    ("code", "words", "calls"),
    [
        (BAD_REQUEST, '(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint "dataset_pk"', TRIES),
        (BAD_REQUEST, "(pymysql.err.IntegrityError) (1062, \"Duplicate entry 'world' for key 'dataset_pk'\")", TRIES),
        (BAD_REQUEST, "(psycopg2.errors.NotNullViolation) null value in column", 1),
        (INVALID_PARAMETER_VALUE, "UNIQUE constraint failed", 1),
    ],
)
def test_only_a_row_that_is_taken_is_tried_again_and_not_for_ever(monkeypatch, code, words, calls):
    seen = []

    def refuses(self, *_: object) -> None:
        seen.append(1)
        raise MlflowException(words, code)

    monkeypatch.setattr("mlflow.tracking._tracking_service.client.TrackingServiceClient.log_inputs", refuses)
    with pytest.raises(MlflowException, match=re.escape(words)):
        SharedClient(tracking_uri="sqlite://").log_inputs("run", [])
    assert len(seen) == calls
