"""Reports are whole or not there."""

import pytest

from tasks.report import latest as subject
from tasks.report.latest import sweep, write_files
from tasks.workspace.presence import Process


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_disk_that_fills_half_way_leaves_what_was_there(tmp_path, monkeypatch):
    old, last = tmp_path / "latest.json", tmp_path / "p1.json"
    old.write_bytes(b"old")
    written = []
    whole = subject.write_whole

    def filling(path, content):
        if path == last:
            raise OSError(28, "No space left on device")
        written.append(path.name)
        whole(path, content)

    monkeypatch.setattr(subject, "write_whole", filling)
    with pytest.raises(OSError, match="No space left"):
        write_files({tmp_path / "p1.png": b"x", tmp_path / "p1.md": b"y", last: b"z", old: b"new"})
    assert written == ["p1.png", "p1.md"]
    assert names(tmp_path) == ["latest.json"] and old.read_bytes() == b"old"


def test_what_killed_processes_left_goes_and_all_else_stays(tmp_path):
    kept = ["latest.json", "p0.json", "p0.md", "p0.png", "p2.md", ".latest.json.2-2-aaaaaaaa.new", "mine.md"]
    left = ["p1.png", "p1.md", "p1-audit.png", ".p1.json.1-1-aaaaaaaa.new", ".latest.json.1-1-aaaaaaaa.new"]
    for name in (*kept, *left):
        (tmp_path / name).touch()
    sweep(tmp_path, processes={"1-1-aaaaaaaa"}, pipelines={"p0", "p1", ""})
    assert names(tmp_path) == sorted(kept)
    sweep(tmp_path / "nowhere", processes={"1-1-aaaaaaaa"}, pipelines={"p0"})


def test_a_file_is_written_under_the_name_of_its_process(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("tasks.workspace.disk.os.fsync", lambda _: seen.extend(names(tmp_path)))
    subject.write_whole(tmp_path / "p1.json", b"x")
    assert seen == [f".p1.json.{Process.current().name}.new"]
    assert names(tmp_path) == ["p1.json"]
