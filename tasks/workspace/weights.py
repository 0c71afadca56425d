"""Weights as folders: how a stage leaves them, and how the next one finds them."""

import json
from pathlib import Path
from typing import Any

from models.endings import ending_alike
from models.processes import is_first


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model as one directory that plain transformers loads: safetensors, config, tokenizer, and where responses end.

    Of several processes that hold the same model the first one writes it.
    """
    if not is_first():
        return
    if model.generation_config is not None:
        model.generation_config = ending_alike(model.generation_config, tokenizer)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def source_of(artifact: Path) -> tuple[str, str | None]:
    """Return what a base or training artifact's weights are loaded from: directory or hub id, and revision."""
    if (artifact / "model").is_dir():
        return str(artifact / "model"), None
    told = json.loads((artifact / "source.json").read_text(encoding="utf-8"))
    return told["base"], told["revision"]
