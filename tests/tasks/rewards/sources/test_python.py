"""A Python function as a reward: found, imported, and keyed by its module's text."""

import sys

import pytest

from posttrain.errors import RequestError
from tests.tasks.rewards.named_sources import RECORD, source


def test_functions_that_cannot_be_used_are_refused(tmp_path, monkeypatch):
    (tmp_path / "rewards_of_mine.py").write_text("score = 3\nraise_on_import = None\n")
    (tmp_path / "broken_rewards.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RequestError, match="score is int, not a function"):
        source("python:rewards_of_mine:score")
    with pytest.raises(RequestError, match="cannot be imported: AttributeError"):
        source("python:rewards_of_mine:scoer")
    with pytest.raises(RequestError, match="cannot be imported: ModuleNotFoundError: No module named 'no_such_library'"):
        source("python:broken_rewards:score")
    for name in ("rewards_of_mine", "broken_rewards"):
        sys.modules.pop(name, None)


def test_a_function_is_given_the_batch_and_keyed_by_its_modules_text(tmp_path, monkeypatch):
    file = tmp_path / "rewards_of_ours.py"
    file.write_text("def score(prompts, completions, records):\n    return [1.0] * len(records)\n\n\nother = score\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    told = source("python:rewards_of_ours:score")
    assert told.load()([""], ["a"], [RECORD]) == [1.0]
    assert told.digest == source("python:rewards_of_ours:score").digest != source("python:rewards_of_ours:other").digest
    assert not (told.is_checkable_by_program or told.is_reward_model or told.has_own_limits)
    file.write_text(file.read_text() + "# edited\n")
    assert source("python:rewards_of_ours:score").digest != told.digest
    sys.modules.pop("rewards_of_ours")
