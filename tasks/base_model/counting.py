"""How many weights a base has, from the headers of its files: none is loaded, and neither torch nor transformers is imported."""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from posttrain.errors import RequestError
from tasks.base_model.packaged import PACKAGES, SUFFIX

INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"
OUTPUTS = ("lm_head.weight", "embed_out.weight")
"""Output layers, as architectures of transformers call them. A file may hold one that the configuration ties to the embedding."""
LONGEST_HEADER = 100_000_000
"""Bytes of a safetensors header, at most: the format's own limit."""
GGUF_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Of a value in a GGUF file's metadata, by the number of its type; 8 is a text, 9 a list."""
GGUF_TEXT, GGUF_LIST = 8, 9
Shapes = Mapping[str, Sequence[int]]


def count_weights(base: str, *, revision: str | None = None) -> int:
    """Return how many weights a base has; an embedding that is the output layer too is counted once.

    Args:
        base: as `model.base` has it, but not `tiny`.
        revision: at the hub.

    Raises:
        RequestError: its files are not there, are damaged, or the hub does not tell.
    """
    if package := PACKAGES.get(base):
        return package.weights
    try:
        if base.endswith(SUFFIX):
            with Path(base).expanduser().open("rb") as file:
                return _total(_gguf_shapes(file))
        if Path(base).is_dir():
            return _in_folder(Path(base))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError, struct.error) as error:
        told = str(error).strip().partition("\n")[0] or type(error).__name__
        raise RequestError(f"model.base={base}: its weights cannot be counted: {told}") from None
    weights, trouble = _at_hub(base, revision)
    if trouble:
        raise RequestError(f"model.base={base} is no directory here, and its weights cannot be counted at the hub: {trouble}")
    return weights


def _in_folder(folder: Path) -> int:
    shapes: dict[str, Sequence[int]] = {}
    for file in _weight_files(folder):
        with file.open("rb") as opened:
            shapes |= _safetensors_shapes(opened, file.name)
    if not shapes:
        raise ValueError("there are no *.safetensors with weights")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return _total(shapes, is_tied=config.get("tie_word_embeddings") is True)


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers reads: some folders hold the same weights a second time under other names."""
    if (folder / INDEX).is_file():
        named = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        return [folder / name for name in sorted(set(named))]
    return [folder / WHOLE] if (folder / WHOLE).is_file() else sorted(folder.glob("*.safetensors"))


def _safetensors_shapes(file: BinaryIO, name: str) -> Shapes:
    """Return the shapes of a safetensors file: eight bytes with the header's length, then the header as JSON."""
    (length,) = struct.unpack("<Q", file.read(8))
    if length > LONGEST_HEADER:
        raise ValueError(f"{name} is no safetensors file")
    header: dict[str, Any] = json.loads(file.read(length))
    return {tensor: facts["shape"] for tensor, facts in header.items() if tensor != "__metadata__"}


def _total(shapes: Shapes, *, is_tied: bool = False) -> int:
    """Return the number of weights, less an output layer that only repeats the embedding."""
    twice = next((name for name in OUTPUTS if name in shapes), "") if is_tied else ""
    has_embedding = (
        any(name != twice and list(shape) == list(shapes[twice]) for name, shape in shapes.items()) if twice else False
    )
    return sum(math.prod(shape) for name, shape in shapes.items() if not (has_embedding and name == twice))


def _gguf_shapes(file: BinaryIO) -> Shapes:
    """Return the shapes of a GGUF file, version 2 or 3: metadata are stepped over, and the list of tensors is read."""
    magic, version, tensors, values = struct.unpack("<4sIQQ", file.read(24))
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError("it is no GGUF file of version 2 or 3")
    for _ in range(values):
        _text(file)
        _step_over(file, _number(file, "<I"))
    shapes: dict[str, Sequence[int]] = {}
    for _ in range(tensors):
        name, dimensions = _text(file), _number(file, "<I")
        shapes[name] = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
        file.seek(12, 1)  # its type and where it lies
    return shapes


def _step_over(file: BinaryIO, kind: int) -> None:
    if kind == GGUF_TEXT:
        file.seek(_number(file, "<Q"), 1)
    elif kind == GGUF_LIST:
        inner, length = _number(file, "<I"), _number(file, "<Q")
        if inner in GGUF_BYTES:
            file.seek(GGUF_BYTES[inner] * length, 1)
        else:
            for _ in range(length):
                _step_over(file, inner)
    else:
        file.seek(GGUF_BYTES[kind], 1)


def _number(file: BinaryIO, form: str) -> int:
    (value,) = struct.unpack(form, file.read(struct.calcsize(form)))
    return int(value)


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "<Q")).decode("utf-8", errors="replace")


@cache
def _at_hub(base: str, revision: str | None) -> tuple[int, str]:
    """Return the weights of a hub id and "", or 0 and why they cannot be counted; the hub is asked once a process.

    What the hub's cache holds on this machine is counted there, without the network.
    """
    import huggingface_hub as hub

    try:
        known = hub.try_to_load_from_cache(base, "config.json", revision=revision)
        if isinstance(known, str) and list(Path(known).parent.glob("*.safetensors")):
            return _in_folder(Path(known).parent), ""
        return sum(hub.get_safetensors_metadata(base, revision=revision).parameter_count.values()), ""
    except Exception as error:  # the network, the hub, a repository without safetensors: each has errors of its own
        return 0, str(error).strip().partition("\n")[0] or type(error).__name__
