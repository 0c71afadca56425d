"""An export is whole, or not there."""

import socket

import pytest

from posttrain.errors import RequestError, StorageError
from tasks.exporting.folder import RECORD, building, check_place
from tasks.workspace.presence import Process


def build(target, text="new", **how):
    with building(target, **how) as out:
        (out / RECORD).write_text(text)


def only(folder):
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize("is_empty_there", [True, False])
def test_an_export_has_its_name_once_it_is_whole(tmp_path, is_empty_there):
    target = tmp_path / "deep" / "out"
    if is_empty_there:
        target.mkdir(parents=True)
    with building(target) as out:
        (out / "x").write_text("x")
        assert not target.exists() or not only(target)
    assert only(target.parent) == ["out"] and only(target) == ["x"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x")])
def test_what_fails_leaves_nothing(tmp_path, error):
    build(tmp_path / "out", "old")
    with pytest.raises(type(error)), building(tmp_path / "out", is_forced=True) as out:
        (out / "x").write_text("x")
        raise error
    assert only(tmp_path) == ["out"] and (tmp_path / "out" / RECORD).read_text() == "old"


def test_a_full_disk_is_told(tmp_path):
    with pytest.raises(StorageError, match="the export: the disk is full"), building(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert only(tmp_path) == []


def test_only_an_export_is_replaced(tmp_path):
    build(tmp_path / "out", "old")
    with pytest.raises(RequestError, match=r"nothing lies yet, but .* is there\. FORCE=1 replaces it"):
        check_place(tmp_path / "out", is_forced=False)
    build(tmp_path / "out", "new", is_forced=True)
    assert (tmp_path / "out" / RECORD).read_text() == "new" and only(tmp_path) == ["out"]

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    for place in ("mine", "mine/thesis.txt"):
        with pytest.raises(RequestError, match="Give another name, or remove it"):
            build(tmp_path / place, is_forced=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_what_a_killed_export_left_is_cleared_away(tmp_path):
    dead = Process(pid=2**22 - 1, started=1, boot=Process.current().boot, host=socket.gethostname()).name
    build(tmp_path / "out", "old")
    (tmp_path / f".out.{dead}.new").mkdir()
    build(tmp_path / "out", "new", is_forced=True)
    assert only(tmp_path) == ["out"]

    # killed between its two renames: the old one comes back, and is asked about
    (tmp_path / "out").rename(tmp_path / f".out.{dead}.new.before.new")
    with pytest.raises(RequestError, match="FORCE=1 replaces it"):
        build(tmp_path / "out")
    assert (tmp_path / "out" / RECORD).read_text() == "new" and only(tmp_path) == ["out"]
