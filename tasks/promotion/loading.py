"""Whether a version would load: its files are those that were registered, and their heads can be read."""

import json
from collections.abc import Callable
from pathlib import Path

from posttrain.errors import StorageError
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import local_path

INDEX = "model.safetensors.index.json"
"""Of weights in several files: which tensor lies in which."""


def check_loads(ledger: Ledger, name: str, version: str, *, say: Callable[[str], None] = lambda line: None) -> Path:
    """Return the folder of a version that would load. It reads the files once for their digest, and no weight into memory.

    Args:
        ledger: of the registry.
        name: of the registered model.
        version: its number.
        say: is told one line where the files were repaired, or are fetched again.

    Raises:
        StorageError: files are gone, damaged, or no model.
    """
    folder = local_path(ledger, f"models:/{name}/{version}", say=say)
    if trouble := trouble_of_heads(folder):
        raise StorageError(
            f"models:/{name}/{version} does not load: {trouble}. Restore that folder from a backup, or make the model again; "
            "other versions are not touched"
        )
    return folder


def trouble_of_heads(folder: Path) -> str:
    """Return why a folder's configuration or weights cannot be read, "" where they can."""
    from safetensors import SafetensorError, safe_open
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{folder / 'config.json'} is no configuration that transformers reads: {_first_line(error)}"
    tensors: set[str] = set()
    for file in sorted(folder.glob("*.safetensors")):
        try:
            # it compares the header with the length of the file, so a file that was cut off is found
            with safe_open(str(file), framework="numpy") as opened:
                tensors |= set(opened.keys())
        except (SafetensorError, OSError) as error:
            return f"{file} is damaged: {_first_line(error)}"
    if not tensors:
        return f"{folder} holds no weights"
    if (folder / INDEX).is_file():
        try:
            missing = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]) - tensors)
        except (ValueError, KeyError, TypeError) as error:
            return f"{folder / INDEX} cannot be read: {_first_line(error)}"
        if missing:
            return f"{len(missing)} of the weights that {folder / INDEX} lists are in no file, such as {missing[0]}"
    return ""


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
