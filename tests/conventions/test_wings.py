"""Which wing (a room's folder) may import which: the drawn table, no circles, and a sentence on what each wing knows."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("posttrain", "models", "tasks")
ANYWHERE = {"posttrain": {"compute", "digests", "errors", "finite", "methods", "printable", "prompts", "records"}, "tasks": set()}
"""Files at a room's root, which any wing may import: what the whole room speaks of."""

WINGS = {
    "posttrain": {
        "statistics": set(),
        "ops": set(),
        "settings": set(),
        "graders": {"statistics"},
        "rl": {"ops", "settings", "statistics"},
        "feedback": {"statistics"},
        "data": {"graders", "settings"},
        "evaluation": {"feedback", "statistics"},
        "reward_model": {"feedback", "settings", "statistics"},
        "judges": {"data", "feedback", "statistics"},
        "report": {"evaluation", "feedback", "statistics"},
        "advice": {"graders", "settings", "statistics"},
        "scale": {"advice"},
        "drift": {"data", "settings", "statistics"},
        "comparison": {"evaluation", "feedback", "graders", "report", "settings", "statistics"},
        "promotion": {"comparison", "evaluation", "report", "settings", "statistics"},
        "retraining": set(),
        "schedules": set(),
        "keeping": set(),
        "labelling": {"feedback", "statistics"},
    },
    "tasks": {
        "workspace": set(),
        "services": {"workspace"},
        "tracking": {"services", "workspace"},
        "report": {"workspace"},
        "data": {"feedback", "workspace"},  # a dataset's labels of people are read as any other store of labels
        "validation": {"workspace"},
        "base_model": {"workspace"},
        "feedback": {"judges", "workspace"},
        "judges": {"base_model", "workspace"},
        "rewards": {"judges", "workspace"},
        "evaluation": {"feedback", "judges", "rewards", "workspace"},
        "training": {"evaluation", "feedback", "rewards", "workspace"},
        "advice": {"workspace"},
        "promotion": {"tracking", "workspace"},
        "pages": set(),
        "comparison": {"data", "evaluation", "pages", "report", "tracking", "workspace"},
        "monitoring": {"data", "pages", "tracking", "workspace"},
        "retraining": {"promotion", "tracking", "workspace"},
        "schedules": {"workspace"},
        "nodes": {"launch", "workspace"},  # which computes a stage on the processes of one machine
        "upkeep": {"data", "labelling", "promotion", "services", "tracking", "workspace"},
        "keeping": {"services", "tracking", "workspace"},
        "asking": {"workspace"},
        "labelling": {"data", "feedback", "pages", "services", "workspace"},
        "exporting": {"base_model", "evaluation", "promotion", "tracking", "workspace"},
    },
}
"""By room and wing: the wings of the same room that it may import, beside itself."""


def wing_of(name):
    """Return (room, wing or root file) of one of our modules, None for anything else and for a room itself."""
    room, _, rest = name.partition(".")
    return (room, rest.split(".")[0]) if room in ROOMS and rest else None


def crossings(text, *, room, wing):
    """Return (line, other wing) for each import in `text`, a module of `wing`, of another wing of the same room."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from tasks import data` names a wing as well
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == room else [node.module]
        for name in names:
            other = wing_of(name)
            if other and other[0] == room and other[1] != wing:
                found.add((node.lineno, other[1]))
    return sorted(found)


def forbidden(text, *, room, wing):
    allowed = WINGS[room][wing] | ANYWHERE[room]
    return [f"line {line}: {room}.{other}" for line, other in crossings(text, room=room, wing=wing) if other not in allowed]


def folders(room):
    return sorted(path.parent for path in (ROOT / room).glob("*/__init__.py"))


def circles(table):
    """Return the wings from which imports lead back to themselves."""
    reached = {wing: set(others) for wing, others in table.items()}
    for middle in reached:
        for others in reached.values():
            if middle in others:
                others |= reached[middle]
    return {wing for wing, others in reached.items() if wing in others}


@pytest.mark.parametrize("room", WINGS)
def test_each_wing_imports_only_what_the_table_allows(room):
    wrong = [
        f"{path.relative_to(ROOT)} {found}"
        for wing in WINGS[room]
        for path in sorted((ROOT / room / wing).rglob("*.py"))
        for found in forbidden(path.read_text(encoding="utf-8"), room=room, wing=wing)
    ]
    assert not wrong, "move what lies wrong, or change the table and say why:\n" + "\n".join(wrong)


@pytest.mark.parametrize("room", WINGS)
def test_the_table_names_every_wing_and_no_other(room):
    assert {folder.name for folder in folders(room)} == set(WINGS[room])
    roots = {path.stem for path in (ROOT / room).glob("*.py")} - {"__init__"}
    assert roots >= ANYWHERE[room], f"not there any more: {ANYWHERE[room] - roots}"


def test_a_file_at_the_root_of_a_room_imports_no_wing():
    for name in ANYWHERE["posttrain"]:
        text = (ROOT / "posttrain" / f"{name}.py").read_text(encoding="utf-8")
        found = {other for _, other in crossings(text, room="posttrain", wing=name)} - ANYWHERE["posttrain"]
        assert not found, f"posttrain/{name}.py, which every wing may import, imports {found}"


@pytest.mark.parametrize("room", WINGS)
def test_there_are_no_circles(room):
    assert not circles(WINGS[room])


@pytest.mark.parametrize(
    ("text", "room", "wing", "found"),
    [
        ("import math\nfrom posttrain.rl.ppo import PPO", "posttrain", "statistics", ["line 2: posttrain.rl"]),
        ("def late():\n    from tasks.data.dvc import run_dvc", "tasks", "workspace", ["line 2: tasks.data"]),
        ("import tasks.data.stages", "tasks", "tracking", ["line 1: tasks.data"]),
        ("from tasks import report", "tasks", "data", ["line 1: tasks.report"]),
        ("from posttrain.errors import DataError", "posttrain", "ops", []),
        ("from tasks.training.trl import watched", "tasks", "training", []),
    ],
)
def test_a_fabricated_violation_is_found(text, room, wing, found):
    assert forbidden(text, room=room, wing=wing) == found


def test_a_fabricated_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {"a", "b", "c"}
    assert circles({"a": {"b"}, "b": set()}) == set()


@pytest.mark.parametrize("room", ROOMS)
def test_every_folder_says_what_its_subject_is(room):
    for path in sorted((ROOT / room).rglob("__init__.py")):
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert said and len(said.split()) > 3, f"{path.relative_to(ROOT)} needs a sentence on its subject"
