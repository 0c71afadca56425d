"""Records on the disk: the newest, and the one that was made of exactly this."""

import json

import pytest

from tasks.retraining.records import LATEST, folder_of, record_of, write_record
from tasks.workspace.paths import Paths


def record(name, fingerprint, *, dataset="mine", **other):
    return {"schema": "posttrain.retraining/1", "id": name, "dataset": {"name": dataset}, "fingerprint": fingerprint, **other}


def test_a_record_is_found_by_what_it_was_made_of(tmp_path):
    paths = Paths(tmp_path)
    assert record_of(paths, dataset="mine", fingerprint="f1") is None
    for name, fingerprint in (("20261127-1", "f1"), ("20261128-1", "f1"), ("20261129-1", "f2")):
        file = write_record(paths, record(name, fingerprint))
        assert file.name == f"{name}.json" and json.loads((folder_of(paths) / LATEST).read_text())["id"] == name
    write_record(paths, record("20261130-1", "f1", dataset="other"))
    # the newest of equals; another dataset's, and one that cannot be read, are none
    (folder_of(paths) / "20261201-1.json").write_text("{")
    assert record_of(paths, dataset="mine", fingerprint="f1")["id"] == "20261128-1"
    assert record_of(paths, dataset="mine", fingerprint="f3") is None


def test_what_is_not_known_is_equal_to_nothing(tmp_path):
    write_record(Paths(tmp_path), record("20261127-1", ""))
    assert record_of(Paths(tmp_path), dataset="mine", fingerprint="") is None


def test_one_without_a_file_of_its_own_is_only_the_latest(tmp_path):
    file = write_record(Paths(tmp_path), record("20261127-1", "f1"), has_own_file=False)
    assert [one.name for one in folder_of(Paths(tmp_path)).iterdir()] == [LATEST] and file.name == LATEST


def test_a_number_that_json_has_not_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(Paths(tmp_path), record("20261127-1", "f1", seconds=float("nan")))
    assert not folder_of(Paths(tmp_path)).exists()
