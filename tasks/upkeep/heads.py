"""Files that hold a result, without reading them: are they there, is their head whole, is their length what the head says."""

import json
from collections.abc import Iterable
from pathlib import Path

LONGEST_HEAD = 100 * 2**20
"""Bytes: what safetensors allows a header to have."""


def trouble_of_head(file: Path) -> str:
    """Return what is wrong with a file of weights or of JSON, "" where nothing is seen; other files only have to be there.

    A file of safetensors begins with the length of its header (8 bytes, little-endian), and the header says where the last
    tensor ends: so a file that was cut off is found by its length.
    """
    try:
        if file.suffix == ".safetensors":
            return _trouble_of_weights(file)
        if file.suffix == ".json" and file.stat().st_size < LONGEST_HEAD:
            json.loads(file.read_bytes())
        elif not file.is_file():
            return "is not there"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except ValueError:
        return "is no JSON"
    return ""


def _trouble_of_weights(file: Path) -> str:
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEAD):
            return f"is cut off or no safetensors: {size:,} bytes are there"
        head = opened.read(length)
    try:
        ends = [int(told["data_offsets"][1]) for name, told in json.loads(head).items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "has no readable header"
    whole = 8 + length + max(ends, default=0)
    return "" if size == whole else f"is {size:,} bytes long, and its header says {whole:,}"


def size_of(files: Iterable[Path]) -> int:
    """Return the bytes of files, those that are gone not counted."""
    total = 0
    for file in files:
        try:
            total += file.stat().st_size
        except OSError:
            continue
    return total
