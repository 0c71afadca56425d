"""What is looked at: a real ledger with a real registry, made once and copied for each test."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from posttrain.settings.config import Config
from tasks.tracking.ledger import Ledger
from tasks.upkeep.findings import Stores
from tasks.workspace.presence import Process
from tests.tasks.promotion.conftest import _quiet, ledger

__all__ = ["_quiet", "ledger"]


@pytest.fixture
def looked_at(ledger: Ledger) -> Stores:
    """The stores of a ledger that is open."""
    return Stores(ledger.paths, Config(), _ledger=ledger)


@pytest.fixture
def dead() -> Process:
    """A process of this start of this machine that has ended."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return replace(Process.current(), pid=gone.pid)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder for models that are registered."""
    return tmp_path / "models"
