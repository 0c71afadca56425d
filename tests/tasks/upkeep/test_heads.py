"""Weights and JSON at sight: a file that was cut off, or is something else, is found without reading it."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tasks.upkeep.heads import size_of, trouble_of_head


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    save_file({"a": np.zeros(3, dtype=np.float32), "b": np.ones((2, 2), dtype=np.float32)}, str(file), {"format": "pt"})
    return file


def test_whole_weights(weights: Path) -> None:
    assert trouble_of_head(weights) == ""


def test_weights_without_a_tensor(tmp_path: Path) -> None:
    save_file({}, str(tmp_path / "none.safetensors"))
    assert trouble_of_head(tmp_path / "none.safetensors") == ""


@pytest.mark.parametrize("change", [-1, 1, -28])
def test_weights_of_another_length_than_their_header_says(weights: Path, change: int) -> None:
    whole = weights.stat().st_size
    content = weights.read_bytes()
    weights.write_bytes(content[:change] if change < 0 else content + b"x")
    assert trouble_of_head(weights) == f"is {whole + change:,} bytes long, and its header says {whole:,}"


@pytest.mark.parametrize("content", [b"", b"1234567", b"x" * 100, struct.pack("<Q", 93) + b"{}"])
def test_what_is_no_safetensors(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    assert trouble_of_head(file) == f"is cut off or no safetensors: {len(content):,} bytes are there"


@pytest.mark.parametrize("head", [b"{", b"[]", b'{"a": 1}', b'{"a": {}}', b'{"a": {"data_offsets": []}}'])
def test_a_header_that_is_none(tmp_path: Path, head: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(head)) + head)
    assert trouble_of_head(file) == "has no readable header"


def test_json(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"a": 1}))
    assert trouble_of_head(file) == ""
    file.write_text('{"a": ')
    assert trouble_of_head(file) == "is no JSON"


def test_what_is_gone(tmp_path: Path) -> None:
    assert trouble_of_head(tmp_path / "a.txt") == "is not there"
    assert trouble_of_head(tmp_path / "a.json") == "cannot be read: No such file or directory"
    (tmp_path / "b.txt").touch()
    assert trouble_of_head(tmp_path / "b.txt") == ""


def test_sizes_add_up_and_what_is_gone_has_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b").write_bytes(b"12")
    assert size_of([tmp_path / "a", tmp_path / "gone", tmp_path / "b"]) == 5
