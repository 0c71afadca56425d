"""Heads of configuration and weights: what would not load is told without loading it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.promotion.loading import INDEX, trouble_of_heads
from tests.tasks.promotion.versions import model_folder


def index(folder: Path, *names: str) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: None, ""),
        (lambda folder: index(folder, "weight"), ""),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is no configuration that transformers reads: "),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json is no configuration that transformers reads: "),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "no such"}'),
            "is no configuration that transformers",
        ),
        (lambda folder: os.truncate(folder / "model.safetensors", 60), "model.safetensors is damaged: "),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"noise"), "model.safetensors is damaged: "),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
        (
            lambda folder: index(folder, "weight", "bias"),
            f"1 of the weights that {{folder}}/{INDEX} lists are in no file, such as bias",
        ),
        (lambda folder: (folder / INDEX).write_text("{}"), f"{INDEX} cannot be read: "),
    ],
)
def test_what_would_not_load(tmp_path: Path, damage: Callable[[Path], object], told: str) -> None:
    folder = model_folder(tmp_path / "model", 1.0)
    damage(folder)
    found = trouble_of_heads(folder)
    assert told.format(folder=folder) in found and bool(found) == bool(told)
