"""What identifies a base: the content of its files, read once a process and not again until they change."""

import os

import pytest

from posttrain.settings.model import ModelSettings
from tasks.base_model import identity as subject
from tasks.base_model.identity import base_digest, files_of


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    (made / "cache").mkdir()
    return made


def test_files_are_read_once(folder, monkeypatch):
    read = []
    digest = subject.file_digest
    monkeypatch.setattr(subject, "file_digest", lambda path: read.append(path.name) or digest(path))
    first = base_digest(ModelSettings(base=str(folder)))
    assert base_digest(ModelSettings(base=str(folder))) == first and read == ["config.json", "model.safetensors"]
    monkeypatch.chdir(folder.parent)
    assert base_digest(ModelSettings(base="model")) == first and len(read) == 2


@pytest.mark.parametrize("content", [b"WEIGHTS", b"longer weights"], ids=["same size", "another size"])
def test_files_that_have_changed_are_read_again(folder, content):
    first = base_digest(ModelSettings(base=str(folder)))
    file = folder / "model.safetensors"
    before = file.stat()
    file.write_bytes(content)
    if len(content) == before.st_size:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert base_digest(ModelSettings(base=str(folder))) != first


def test_another_name_of_a_file_is_another_base(folder):
    first = base_digest(ModelSettings(base=str(folder)))
    (folder / "config.json").rename(folder / "other.json")
    assert base_digest(ModelSettings(base=str(folder))) != first


def test_what_tells_files_apart(folder, tmp_path):
    assert [(name, size) for name, _, size in files_of(folder)] == [("config.json", 2), ("model.safetensors", 7)]
    assert files_of(tmp_path / "nowhere") == ()
