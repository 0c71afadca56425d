"""Fixtures of the tests of training."""

import sys

import pytest


@pytest.fixture
def rewards(tmp_path, monkeypatch):
    """Return what writes a module of rewards, and names one of its functions."""

    def write(body):
        (tmp_path / "some_rewards.py").write_text(body)
        monkeypatch.syspath_prepend(str(tmp_path))
        sys.modules.pop("some_rewards", None)
        return "python:some_rewards:score"

    yield write
    sys.modules.pop("some_rewards", None)
