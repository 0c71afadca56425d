"""A model's files get their place whole or not at all, and take no room that is not there."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from posttrain.errors import StorageError
from tasks.tracking import model_files as subject
from tasks.tracking.model_files import put_files
from tasks.workspace.presence import Process


def model(folder, **files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    digests = {name: hashlib.sha256(content.encode()).hexdigest() for name, content in files.items()}
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


def contents(folder):
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.mark.parametrize("there", [{}, {"weights": "old", "more": "x"}])
def test_files_take_their_place_and_others_leave_it(tmp_path, there):
    wanted = model(tmp_path / "a", weights="new", config="{}")
    target = tmp_path / "b" / "artifacts"
    if there:
        model(target, **there)
    put_files(tmp_path / "a", target, wanted=wanted)
    assert contents(target) == {"weights": "new", "config": "{}"}
    assert [path.name for path in target.parent.iterdir()] == ["artifacts"]
    (tmp_path / "a" / "weights").write_text("changed")
    assert contents(target)["weights"] == "new"


@pytest.mark.parametrize("there", [{}, {"weights": "old"}])
def test_what_has_another_digest_is_refused_and_nothing_changes(tmp_path, there):
    model(tmp_path / "a", weights="new")
    target = tmp_path / "b" / "artifacts"
    if there:
        model(target, **there)
    with pytest.raises(StorageError, match="has not the files that its stage wrote"):
        put_files(tmp_path / "a", target, wanted="0" * 64)
    assert target.exists() == bool(there)
    assert not there or contents(target) == there
    assert [path.name for path in target.parent.iterdir()] == (["artifacts"] if there else [])


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY])
def test_a_disk_that_cannot_share_blocks_gets_a_copy(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subject.fcntl, "ioctl", refuse)
    wanted = model(tmp_path / "a", weights="new")
    put_files(tmp_path / "a", tmp_path / "b", wanted=wanted)
    assert contents(tmp_path / "b") == {"weights": "new"}


def test_a_disk_that_breaks_while_it_shares_is_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(subject.fcntl, "ioctl", refuse)
    wanted = model(tmp_path / "a", weights="new")
    with pytest.raises(OSError, match="Input/output"):
        put_files(tmp_path / "a", tmp_path / "b", wanted=wanted)
    assert not (tmp_path / "b").exists()


def test_room_is_asked_for_on_the_disk_of_the_models(tmp_path, monkeypatch):
    asked = []

    def usage(path):
        asked.append(path)
        return type("Usage", (), {"free": subject.SPARE + 2})

    monkeypatch.setattr(subject.fcntl, "ioctl", lambda *_: (_ for _ in ()).throw(OSError(errno.EOPNOTSUPP, "no")))
    monkeypatch.setattr(subject.shutil, "disk_usage", usage)
    wanted = model(tmp_path / "a", weights="123")
    with pytest.raises(StorageError, match=r"64 MB are free, 65 MB are needed for a registered model\. Make room"):
        put_files(tmp_path / "a", tmp_path / "b" / "c", wanted=wanted)
    assert asked[0].is_relative_to(tmp_path / "b")
    assert list((tmp_path / "b").iterdir()) == []


def test_what_a_killed_copy_left_is_swept_and_a_living_ones_is_not(tmp_path):
    wanted = model(tmp_path / "a", weights="new")
    dead = tmp_path / ".b.1-1-ffffffff.new"
    # process 1 lives, under another start; a living one is process 1 as it is
    living = tmp_path / f".b.{Process(1, subject_start(1), Process.current().boot, 'x').name}.new"
    for folder in (dead, living):
        folder.mkdir()
    put_files(tmp_path / "a", tmp_path / "b", wanted=wanted)
    assert not dead.exists() and living.exists()


def subject_start(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
