"""A ledger on a real store, copied for each test from one that is made once."""

import shutil
from pathlib import Path

import pytest

from posttrain.settings.evaluation import TrackingSettings
from tasks.tracking.ledger import Ledger
from tasks.workspace.paths import Paths


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def ledger(empty_store: Path, tmp_path: Path) -> Ledger:
    shutil.copytree(empty_store, tmp_path / "repo")
    return Ledger.open(Paths(tmp_path / "repo"), TrackingSettings())
