"""A method is a row: nothing outside posttrain/methods.py compares its name, or asks which trainer it has."""

import ast
from pathlib import Path

import pytest

from posttrain.methods import METHODS, TRAINERS
from posttrain.settings.config import Config, merge

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("posttrain", "models", "tasks", "flows")
STARTS = {"base", "sft"}
"""Models that methods start from, which have rows of their own only by chance."""
NAMES = ({*METHODS, *TRAINERS}) - STARTS
ROWS = ("posttrain/methods.py", "posttrain/settings/renamed.py")
"""Where a method's name may stand: the table, and what the old name of one was."""


def comparisons(text):
    """Return the lines that compare something with a method's name, or `.method` with anything."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare):
            parts = [part for side in (node.left, *node.comparators) for part in ast.walk(side)]
            has_name = any(isinstance(part, ast.Constant) and part.value in NAMES for part in parts)
            asks = any(isinstance(part, ast.Attribute) and part.attr == "method" for part in (node.left, *node.comparators))
            found += [node.lineno] if has_name or asks else []
        if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant) and node.value.value in NAMES:
            found.append(node.value.lineno)
    return found


def test_no_method_is_named_outside_its_row():
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in paths
        if str(path.relative_to(ROOT)) not in ROWS
        for line in comparisons(path.read_text())
    ]
    assert not wrong, f"ask the method's row (posttrain/methods.py), not its name: {wrong}"


@pytest.mark.parametrize(
    "text", ["config.method == kind", "'ppo' in stages", "method in ('rlhf', 'rlaif')", "match x:\n    case 'dpo':\n        pass"]
)
def test_a_fabricated_comparison_is_found(text):
    assert comparisons(text) and not comparisons("method.starts_from == 'sft'")


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_a_row_names_what_is_there(method):
    """A trainer is a file of that name with a function `train`, and a section of settings; so is its loop."""
    assert method.name == METHODS[method.name].name and merge({}, [f"method={method.name.upper()}"]).row is method
    if method.trainer:
        tree = ast.parse((ROOT / "tasks" / "training" / f"{method.trainer}.py").read_text())
        assert "train" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for section in filter(None, (method.trainer, method.loop, method.adjusts)):
        assert section in Config.model_fields, f"{method.name} wants the section {section}"
    assert method.models[-1] == method.name and method.starts_from in STARTS
