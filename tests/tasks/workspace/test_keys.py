"""Keys follow all that decides a result: settings, inputs, the source of a stage's own code, the versions of what trains."""

import sys

import pytest

from tasks.workspace import keys as subject
from tasks.workspace.keys import Inputs, digest_of, source_digest, stage_key


def key(stage="sft", settings=None, inputs=None, compute="tasks.training.sft:train"):
    given = Inputs(settings=settings or {"a": 1, "b": 2}, digests=inputs or {"data": "d", "base": "e"})
    return stage_key(stage, given, compute=compute)


def test_a_key_follows_everything_that_decides_a_result():
    keys = [
        key(),
        key(stage="dpo"),
        key(settings={"a": 1, "b": 3}),
        key(settings={"a": 1, "c": 2}),
        key(settings={"a": 1}),
        key(settings={"a": "1", "b": 2}),
        key(inputs={"data": "d", "base": "f"}),
        key(inputs={"data": "e", "base": "d"}),
        key(compute="tasks.training.dpo:train"),
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(one) == 64 and set(one) <= set("0123456789abcdef") for one in keys)


def test_a_key_does_not_follow_the_order_of_names():
    assert key() == key(settings={"b": 2, "a": 1}, inputs={"base": "e", "data": "d"})


@pytest.fixture
def versions(monkeypatch):
    """Set the version of every package, as `versions(name)` returns it."""

    def installed(told):
        monkeypatch.setattr(subject, "version", told)
        subject.installed_versions.cache_clear()

    yield installed
    subject.installed_versions.cache_clear()


def test_a_key_follows_the_versions_of_what_trains(versions):
    before = key()
    for name in ("torch", "transformers", "trl"):
        versions(lambda asked, changed=name: "0.0" if asked == changed else "1.0")
        assert key() != before
        before = key()


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A package of its own, as ROOMS has them: start imports near (three ways) and far; apart is imported by nobody."""
    name = f"room_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / name
    folder.mkdir()
    files = {
        "__init__": "",
        "start": f"import json\nimport {name}.near\nfrom {name} import also\nfrom {name}.third import thing\n",
        "near": f"def late():\n    from {name}.far import x\n",
        "also": "",
        "third": "thing = 1\n",
        "far": f"from {name} import start\nx = 1\n",
        "declared": "y = 1\n",
        "apart": "",
    }
    for module, text in files.items():
        (folder / f"{module}.py").write_text(text)
    (folder / "start.py").write_text(files["start"] + f"from {name}.declared import y\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(subject, "ROOMS", (name,))
    monkeypatch.setattr(subject, "DECLARATIONS", (f"{name}.declared",))
    yield folder
    for module in [one for one in sys.modules if one.split(".")[0] == name]:
        del sys.modules[module]


@pytest.mark.parametrize("module", ["__init__", "start", "near", "also", "third", "far"])
def test_a_changed_byte_in_what_is_imported_changes_the_digest(room, module):
    before = source_digest(f"{room.name}.start")
    with (room / f"{module}.py").open("a") as file:
        file.write("#")
    assert source_digest(f"{room.name}.start") != before


@pytest.mark.parametrize("module", ["apart", "declared"])
def test_a_change_elsewhere_does_not(room, module):
    before = source_digest(f"{room.name}.start")
    with (room / f"{module}.py").open("a") as file:
        file.write("#")
    assert source_digest(f"{room.name}.start") == before


def test_text_that_moves_from_one_module_to_the_next_is_a_change(room):
    (room / "also.py").write_text("# one\n")
    before = source_digest(f"{room.name}.start")
    (room / "also.py").write_text("")
    (room / "far.py").write_text("# one\n" + (room / "far.py").read_text())
    assert source_digest(f"{room.name}.start") != before


def test_a_folder_of_declarations_is_left_out_as_a_whole(room, monkeypatch):
    monkeypatch.setattr(subject, "DECLARATIONS", (f"{room.name}.far", f"{room.name}.th"))
    assert {name.rpartition(".")[2] for name in subject.closure(f"{room.name}.start")} >= {"near", "third", "declared"}
    assert f"{room.name}.far" not in subject.closure(f"{room.name}.start")


def test_a_digest_of_parts_does_not_follow_their_order():
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 2, "b": 1})
