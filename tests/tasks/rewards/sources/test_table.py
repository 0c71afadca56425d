"""What `ppo.reward` may name, told before anything is trained and without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from posttrain.errors import RequestError
from tasks.rewards.sources.table import BY_PREFIX, KINDS
from tests.tasks.rewards.named_sources import source

ROOT = Path(__file__).resolve().parents[4]


def test_a_kinds_name_is_its_files_name():
    files = {path.stem for path in (ROOT / "tasks" / "rewards" / "sources").glob("*.py")} - {"__init__", "table"}
    assert set(KINDS) == files and set(BY_PREFIX) < files
    assert all(row.__module__ == f"tasks.rewards.sources.{kind}" for kind, row in KINDS.items())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("anser", "ppo.reward=anser: there is no such reward. It is answer, program, a grader's JSON file, model:"),
        ("python:nowhere", "a function is written python:<module>:<function>"),
        ("python:no_such_module_here:score", "there is no module no_such_module_here. Put no_such_module_here.py into"),
        ("model:/no/such/folder", "/no/such/folder is no model directory with config.json and *.safetensors"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_runs(name, said):
    with pytest.raises(RequestError) as error:
        source(name)
    assert said in str(error.value)
    assert str(error.value).startswith(f"ppo.reward={name}")


def test_sources_are_built_and_keyed_without_torch(tmp_path):
    """A cached run waits for neither torch nor transformers."""
    (tmp_path / "config.json").write_text('{"id2label": {"0": "LABEL_0"}}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    script = (
        "import sys; from pathlib import Path; from tasks.rewards.sources.judge import JudgeReward\n"
        "from tests.tasks.judge_sources import server_of; from tests.tasks.rewards.named_sources import source\n"
        f"told = [source(name) for name in ('answer', 'program', 'python:json:dumps', {f'model:{tmp_path}'!r})]\n"
        "told.append(JudgeReward.of(server_of(Path('nowhere'), 'http://127.0.0.1:1/v1')))\n"
        "print(len({one.digest for one in told}), sorted({'torch', 'transformers', 'trl'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "5 []"
