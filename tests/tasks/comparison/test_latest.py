"""Where comparisons lie: whole before they have their names, and the links name the last whole one."""

import json

import pytest

from posttrain.errors import StorageError
from tasks.comparison.latest import LATEST, folder_of, sweep_comparisons, write_comparison
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process


def writing(text):
    def write(folder):
        for name in LATEST.values():
            (folder / name).write_text(text)
        return {"page": folder / "index.html", "json": folder / "comparison.json"}

    return write


def test_the_links_name_the_last_one(tmp_path):
    paths = Paths(tmp_path)
    for name in ("first", "second"):
        files = write_comparison(paths, name, writing(json.dumps(name)))
        assert files["page"] == tmp_path / "reports" / "compare" / name / "index.html" and files["page"].is_file()
        for link in LATEST:
            assert json.loads((folder_of(paths) / link).read_text()) == name
    assert sorted(file.name for file in folder_of(paths).iterdir()) == ["first", *sorted(LATEST), "second"]


def test_one_that_cannot_be_written_leaves_the_one_before(tmp_path):
    paths = Paths(tmp_path)
    write_comparison(paths, "first", writing("first"))

    def fails(folder):
        writing("half")(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"compare cannot be written: No space left on device\. Free the disk"):
        write_comparison(paths, "second", fails)
    assert (folder_of(paths) / "latest.html").read_text() == "first"
    assert not (folder_of(paths) / "second").exists() and not list(folder_of(paths).glob(".*"))


def test_what_a_killed_process_left_is_swept(tmp_path):
    paths, ours = Paths(tmp_path), Process.current().name
    folder = folder_of(paths)
    for name in (f".one.{ours}.new", ".two.123-4-abc.new"):
        (folder / name).mkdir(parents=True)
        (folder / name / "index.html").write_text("half")
    (folder / ".latest.html.123-4-abc.new").symlink_to("nowhere/index.html")
    sweep_comparisons(paths, processes=["123-4-abc"])
    assert [file.name for file in folder.iterdir()] == [f".one.{ours}.new"]
