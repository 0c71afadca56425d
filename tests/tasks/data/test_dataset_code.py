"""The modules that a data stage names are read from the code: no list of them is kept by hand."""

import pytest

from posttrain.errors import RequestError
from tasks.data.dataset_code import ENTRY, code_of, packages_of


def split_dataset():
    """Stand in for the function of that name in the code below, which is never run."""


split_dataset.__module__ = ENTRY
COMMAND = ENTRY.replace(".", "/")
LOADS = """
import json, torch
import tasks.places_of as paths
from posttrain.shape.split import Split
if True:
    from tasks import conditional
class Table:
    from tasks import in_a_class
def split_dataset():
    from posttrain.ideas.families import families
def make_world():
    from posttrain.made_up import generate
"""
CODE = {
    "tasks/__init__.py": '"""Bare."""',
    "tasks/places_of.py": "def late(): import tasks.never",
    "tasks/conditional.py": f"import {ENTRY}",
    "tasks/in_a_class.py": "from numpy import array\nimport mlflow",
    "tasks/never.py": "",
    "posttrain/__init__.py": "",
    "posttrain/made_up.py": "",
    "posttrain/ideas/__init__.py": '"""Says more."""\nfrom posttrain.ideas.rows import Row',
    "posttrain/ideas/rows.py": "class Row: pass",
    "posttrain/ideas/families.py": "",
    "posttrain/shape/split.py": "Split = 1",
    "mlflow/__init__.py": "",
}
NAMED = {
    *("posttrain/ideas/__init__.py", "posttrain/ideas/families.py", "posttrain/ideas/rows.py", "posttrain/shape/split.py"),
    *("tasks/conditional.py", "tasks/in_a_class.py", "tasks/places_of.py"),
}


def written(root, **more):
    for name, text in (CODE | more).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_what_is_loaded_and_what_the_stage_imports_late(tmp_path):
    root = written(tmp_path, **{f"{COMMAND}.py": LOADS})
    assert code_of(root, split_dataset) == tuple(sorted({*NAMED, f"{COMMAND}.py"}))


def test_a_command_that_is_a_package(tmp_path):
    package = {f"{COMMAND}/__init__.py": LOADS, f"{COMMAND}/__main__.py": "from tasks.starting import main"}
    root = written(tmp_path, **package, **{"tasks/starting.py": ""})
    assert code_of(root, split_dataset) == tuple(sorted({*NAMED, *package, "tasks/starting.py"}))


def test_every_folder_above_a_module_is_a_package():
    assert packages_of(("posttrain/ideas/rows.py", "tasks/never.py")) == (
        "posttrain/__init__.py",
        "posttrain/ideas/__init__.py",
        "tasks/__init__.py",
    )


def test_where_no_code_lies_is_told(tmp_path):
    with pytest.raises(RequestError) as caught:
        code_of(tmp_path, split_dataset)
    assert str(caught.value) == f"the code that makes data ({COMMAND}) is not in {tmp_path}: start from the repository's root"
