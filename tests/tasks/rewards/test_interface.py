"""What a source of rewards brings into the key of the stage that it rewards."""

from pathlib import Path

import pytest

from tasks.rewards.sources.grader import GraderReward
from tasks.rewards.sources.judge import JudgeReward
from tasks.rewards.sources.model import ModelReward
from tasks.rewards.sources.python import PythonReward
from tasks.rewards.sources.table import KINDS
from tasks.workspace.keys import source_digest
from tests.tasks.edited_code import edit
from tests.tasks.judge_sources import judge_of


@pytest.fixture
def digests(tmp_path, tiny_world):
    """Return a function that makes a source of each kind anew, and tells its digest."""

    def told():
        judge = judge_of(tiny_world, tmp_path / "cache")
        made = [
            GraderReward(name="answer", spec={"type": "answer", "name": "answer", "partial_credit": 0.0}),
            ModelReward(name="model:m", path=Path("m"), weights="w"),
            JudgeReward.of(judge),
            PythonReward(name="python:mine:score", module="mine", function="score", text="t"),
        ]
        return {one.kind: one.digest for one in made}

    assert set(told()) == set(KINDS)
    return told


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        ("tasks.rewards.sources.grader", {"grader"}),
        ("posttrain.graders.answer", {"grader"}),
        ("tasks.rewards.sources.model", {"model"}),
        ("tasks.rewards.sources.judge", {"judge"}),
        ("tasks.judges.summary", {"judge"}),
        ("tasks.judges.local", {"judge"}),
        ("tasks.rewards.sources.python", {"python"}),
        ("tasks.rewards.interface", {"grader", "model", "judge", "python"}),
        ("tasks.rewards.sources.table", set()),
        ("tasks.judges.wire", set()),
        ("tasks.judges.remote", set()),
    ],
)
def test_an_edit_changes_the_digests_of_those_kinds_that_it_is_part_of(monkeypatch, digests, module, changed):
    before = digests()
    edit(monkeypatch, module)
    assert {kind for kind, digest in digests().items() if digest != before[kind]} == changed


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_ppo_imports_is_none_of_the_kinds(monkeypatch, kind):
    before = source_digest("tasks.training.ppo")
    edit(monkeypatch, f"tasks.rewards.sources.{kind}")
    assert source_digest("tasks.training.ppo") == before


def test_a_digest_is_told_once():
    made = GraderReward(name="answer", spec={"type": "answer"})
    assert made.digest is made.digest
    assert GraderReward(name="answer", spec={"type": "answer", "partial_credit": 0.1}).digest != made.digest
