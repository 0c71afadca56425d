"""Fixtures of the tests of importing and versioning."""

import shutil

import pytest

from tasks.data import dvc as versions
from tasks.workspace.paths import Paths
from tests.tasks.datasets import ROOT, WORLD


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """A project without git: the code a stage imports, settings, and a stub of the world."""
    for room in ("posttrain", "tasks"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "posttrain" / "data" / "world.py").write_text(WORLD)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text("world: {seed: 0, questions: 3}\nsplit: {seed: 0}\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(versions.CONFIG + "    no_scm = true\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Paths(tmp_path)


@pytest.fixture
def no_dvc(monkeypatch):
    """Leave DVC out where only the files matter."""
    monkeypatch.setattr(versions, "run_dvc", lambda *_: "")
