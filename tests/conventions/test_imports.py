"""Which room may import which, what posttrain/ may import at all, and what a DVC stage must name among its deps."""

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tasks.data.dataset_code import ENTRY, code_of
from tasks.data.stages import make_world

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("posttrain", "models", "tasks", "flows")
"""From the innermost to the outermost: a room imports itself and those before it."""

PURE = {
    *(
        "abc",
        "bisect",
        "collections",
        "contextlib",
        "contextvars",  # what was found of a device's memory (posttrain/ops/device_rows.py)
        "dataclasses",
        "difflib",
        "enum",
        "fractions",
        "functools",
        "gc",
        "hashlib",
        "heapq",
    ),
    *("itertools", "math", "operator", "random", "re", "string", "types", "typing", "unicodedata", "zlib"),
    *("ast", "decimal", "json", "rapidfuzz", "regex", "shlex"),
    *("cronsim", "datetime"),  # times that it is given; the clock itself is read by tasks and flows
    *("accelerate", "datasketch", "numpy", "pydantic", "pydantic_core", "scipy", "sklearn", "torch"),
}
"""What touches no file, no network, no clock and no service."""

CAGES = {
    "posttrain/graders/sandbox.py": {"concurrent", "pydantic_monty", "weakref"},
    "posttrain/graders/latex.py": {"selectors", "subprocess", "sys", "threading", "weakref"},
    "posttrain/graders/latex_worker.py": {"logging", "math_verify", "resource", "sys"},
}
"""What runs hostile input out of harm's way, in processes with limits: text in, value out, nothing else touched."""


def sources(*rooms):
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def imports(nodes):
    """Yield (line, dotted name) of everything that some code imports; `from a import b` is both a and a.b."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: relative imports hide the room; write it out"
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def looks_back(text, *, room):
    """Return the imports in `text`, a module of `room`, that point to a room further out."""
    outer = ROOMS[ROOMS.index(room) + 1 :]
    return [f"line {line}: {name}" for line, name in imports(ast.walk(ast.parse(text))) if name.split(".")[0] in outer]


def impure(text, *, also=()):
    """Return the imports and calls in `text` that an idea has no need of."""
    tree = ast.parse(text)
    allowed = {*PURE, *also, "posttrain"}
    found = [f"line {line}: {name}" for line, name in imports(ast.walk(tree)) if name.split(".")[0] not in allowed]
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
    return found + [f"line {node.lineno}: {node.func.id}()" for node in calls if node.func.id in ("open", "input", "__import__")]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_never_look_back(room):
    wrong = [f"{path.relative_to(ROOT)} {found}" for path in sources(room) for found in looks_back(path.read_text(), room=room)]
    assert not wrong, "imports point flows → tasks → models → posttrain, never back:\n" + "\n".join(wrong)


def test_a_fabricated_look_back_is_found():
    assert looks_back("def late():\n    from tasks import dvc\n", room="posttrain") == ["line 2: tasks", "line 2: tasks.dvc"]
    assert looks_back("import flows.stages", room="models") == ["line 1: flows.stages"]
    assert looks_back("from posttrain.settings.config import Config", room="tasks") == []


def test_posttrain_knows_ideas_only():
    names = {str(path.relative_to(ROOT)): path.read_text() for path in sources("posttrain")}
    wrong = [f"{name} {found}" for name, text in names.items() for found in impure(text, also=CAGES.get(name, ()))]
    assert not wrong, (
        "posttrain/ touches no file, network, clock or service; move this to models/, tasks/ or flows/ "
        "(or, if it is as pure as those, add it to PURE):\n" + "\n".join(wrong)
    )


@pytest.mark.parametrize("text", ["import os", "from pathlib import Path", "import mlflow", "import time", "open('x')"])
def test_a_fabricated_impurity_is_found(text):
    assert impure(text)


def test_dvc_knows_the_code_of_the_world():
    (stage,) = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    assert stage["cmd"] == f"python -m {ENTRY} world"
    missing = set(code_of(ROOT, make_world)) ^ {dep for dep in stage["deps"] if dep.endswith(".py")}
    assert not missing, f"the deps of dvc.yaml must be what its command imports; they differ in {sorted(missing)}"


def test_mlflow_is_the_package_and_not_our_folder():
    spec = find_spec("mlflow")
    assert spec.origin, "import mlflow gives our folder: the package is not installed, run make setup"
    assert ROOT / "mlflow" not in Path(spec.origin).parents, f"import mlflow gives {spec.origin}, which is our folder"
