"""Labels go into a store of MLflow's and come back out of it, by the lines that docs/labelling-exchange.md shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.labelling.exchange.table import FORMS
from tests.tasks.labelling.test_exchange_forms import LABELS, read

PAGE = Path(__file__).parents[3] / "docs" / "labelling-exchange.md"
ANSWERS = """
mlflow.log_feedback(trace_id=span.trace_id, name="preference", value="equal",
                    source=mlflow.entities.AssessmentSource(source_type="HUMAN", source_id="eve@example.org"))
"""
PAIR = ("question", "prompt", "first", "second")


@pytest.mark.slow
def test_labels_go_through_a_store_of_mlflow(tmp_path):
    """In a process of its own: MLflow makes its spans without effect where a warning of a library is an error."""
    (tmp_path / "labels.json").write_text(FORMS["mlflow"].write(LABELS), encoding="utf-8")
    there, back = re.findall(r"```python\n(# (?:into|out of) MLflow\n.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    start = f'import mlflow\nmlflow.set_tracking_uri("sqlite:///{tmp_path}/mlflow.db")\n'
    code = start + there + ANSWERS + back
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    got = read("mlflow", (tmp_path / "labelled.json").read_text(encoding="utf-8"), there=LABELS[:1])
    new = {one.id: one for one in got.new}
    assert [new.pop(one.id) for one in LABELS[1:]] == LABELS[1:] and got.known == 1
    (eve,) = new.values()  # who answered there
    assert (eve.annotator, eve.preference, eve.source) == ("eve@example.org", 0.5, "person")
    assert [getattr(eve, name) for name in PAIR] == [getattr(LABELS[-1], name) for name in PAIR]
