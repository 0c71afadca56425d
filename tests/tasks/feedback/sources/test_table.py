"""Who may label: a row for each, whose stage takes what the row says."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args

from posttrain.report.audit import WHO
from posttrain.settings.feedback import LabelSettings
from tasks.feedback.sources.table import GIVEN, SOURCES

ROOT = Path(__file__).resolve().parents[4]


def test_a_sources_name_is_its_files_name_and_a_value_of_the_setting():
    files = {path.stem for path in (ROOT / "tasks" / "feedback" / "sources").glob("*.py")} - {"__init__", "table"}
    values = set(get_args(LabelSettings.model_fields["source"].annotation)) - {"auto"}
    assert set(SOURCES) == files == values == set(WHO)


def test_a_row_names_its_stage_and_what_that_takes():
    for row in (*SOURCES.values(), GIVEN):
        module, _, function = row.compute.partition(":")
        stage = getattr(import_module(module), function)
        parameters = list(inspect.signature(stage).parameters)
        assert parameters[:2] == ["out", "log"] and set(parameters[2:]) == set(row.takes), row.name
        assert row.is_sampled is ("samples" in row.takes) and row.is_ai is ("judge" in row.takes)
        assert row.who and row.doing


def test_the_rows_are_told_without_their_code():
    script = (
        "import sys, tasks.feedback.sources.table\n"
        "print([name for name in sys.modules if name.startswith('tasks.judges') or name == 'torch'])"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
