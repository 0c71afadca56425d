"""Records of retrainings: a JSON file each in `reports/retrain/`, and the newest as `latest.json`."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.workspace.disk import storage_errors, write_whole
from tasks.workspace.paths import Paths

SCHEMA = "posttrain.retraining/1"
LATEST = "latest.json"
MOST_RECORDS = 500
"""Records that are looked through, the newest first: more than a year of nights."""


def folder_of(paths: Paths) -> Path:
    """Return where the records lie."""
    return paths.reports / "retrain"


def write_record(paths: Paths, record: Mapping[str, Any], *, has_own_file: bool = True) -> Path:
    """Write a record as `<id>.json` and as `latest.json`, and return the file.

    Args:
        paths: of the repository.
        record: of schema posttrain.retraining/1.
        has_own_file: else only `latest.json` is written, as for a schedule that finds each minute that nothing has changed.

    Raises:
        StorageError: the disk refused.
        ValueError: the record holds a number that JSON has not, such as nan.
    """
    folder = folder_of(paths)
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    names = [f"{record['id']}.json", LATEST] if has_own_file else [LATEST]
    with storage_errors("the record of the retraining", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            write_whole(folder / name, text.encode("utf-8", "backslashreplace"))
    return folder / names[0]


def record_of(paths: Paths, *, dataset: str, fingerprint: str) -> dict[str, Any] | None:
    """Return the newest record of a dataset that was made of exactly this; None where there is none.

    A fingerprint holds all that decides how a retraining ends (`posttrain.retraining.changes.fingerprint`), the champion
    included. So it does not matter what came after that record.
    """
    if not fingerprint:
        return None
    for file in sorted(folder_of(paths).glob("2*.json"), reverse=True)[:MOST_RECORDS]:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            record = json.loads(file.read_text(encoding="utf-8"))
            is_of_it = record["schema"] == SCHEMA and record["dataset"]["name"] == dataset
            if is_of_it and record["fingerprint"] == fingerprint:
                return dict(record)
    return None
