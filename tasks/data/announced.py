"""Which versions of the datasets others were told of: each is announced once, by the first command that has somebody to tell."""

import json
from collections.abc import Mapping
from pathlib import Path

from tasks.data.dvc_memory import Memory
from tasks.workspace.disk import cannot_write, write_whole
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths


def unannounced(paths: Paths) -> dict[str, str]:
    """Return the md5 of each dataset whose last found version nobody was told of, by name; one look at two small files."""
    told = _told(paths)
    return {name: md5 for name, md5 in Memory.load(paths).versions.items() if told.get(name) != md5}


def mark_announced(paths: Paths, versions: Mapping[str, str]) -> None:
    """Remember that others were told of these versions, md5s by name.

    Raises:
        StorageError: the disk refused.
    """
    file = _file(paths)
    with exclusive(paths, "announced"):
        try:
            write_whole(file, json.dumps(_told(paths) | dict(versions)).encode())
        except OSError as error:
            raise cannot_write(error, file) from None


def _told(paths: Paths) -> dict[str, str]:
    try:
        told = json.loads(_file(paths).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(md5) for name, md5 in told.items()} if isinstance(told, dict) else {}


def _file(paths: Paths) -> Path:
    return paths.store / "announced.json"
