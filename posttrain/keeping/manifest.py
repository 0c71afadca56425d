"""The manifest of a backup: every file with its length and digest, written last, so that a backup which was cut off has none.

Schema `posttrain.backup/1`, documented in docs/keeping.md.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from posttrain.errors import DataError

SCHEMA = "posttrain.backup/1"
MANIFEST = "manifest.json"
"""The manifest's name in a backup."""
FILES = "files"
"""The folder of a backup that holds the files, each below its path from the repository's root."""
LEDGER, ARTIFACTS = "mlflow/store/mlflow.db", "mlflow/store/artifacts"
PREFECT, JUDGE = ".posttrain/prefect/prefect.db", ".posttrain/judge/judge.sqlite"
DATABASES = (LEDGER, PREFECT, JUDGE)
"""SQLite files, which are copied by SQLite itself."""
MLFLOW_DUMP, PREFECT_DUMP = "databases/mlflow.dump", "databases/prefect.dump"
DUMPS = (MLFLOW_DUMP, PREFECT_DUMP)
"""What pg_dump wrote of databases in a PostgreSQL."""
SECRETS = (".posttrain/services/webhook.key",)
"""What only its owner may read, here, in a backup and after a restore: without this key nothing reads the secrets of webhooks
that MLflow's database holds, and MLflow can then neither call nor list them."""
SETTINGS = "params.yaml"
"""The settings of the day; they are git's, and no restoring touches them."""
PLACES = ("mlflow/store/", "reports/", "data/", "labelling/", ".posttrain/", ".dvc/cache/")
"""Below them files of a backup may lie; elsewhere only stores of labels."""
LABELS = (".jsonl", ".annotators.json")
"""Endings of a store of labels, which people put anywhere in the repository (docs/feedback.md)."""


@dataclass(frozen=True)
class Stored:
    """One file of a backup.

    Attributes:
        size: in bytes.
        sha256: of its bytes, hexadecimal.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself.

    Attributes:
        made: when, ISO 8601 in UTC.
        version: of the posttrain that made it.
        host: the machine.
        root: the folder of the repository there.
        is_all: ALL=1 was said.
        files: by path from the repository's root.
        links: symbolic links, each with the relative path that it holds.
        contents: what is in it, counted by kind, for people.
        left_out: what is not in it, a sentence each.
    """

    made: str
    version: str
    host: str
    root: str
    is_all: bool
    files: Mapping[str, Stored]
    links: Mapping[str, str]
    contents: Mapping[str, int]
    left_out: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    def as_text(self) -> str:
        """Return the manifest as JSON."""
        told: dict[str, Any] = {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in ("made", "version", "host", "root", "is_all")},
            "contents": dict(self.contents),
            "left_out": list(self.left_out),
            "links": dict(self.links),
            "files": {path: [file.size, file.sha256] for path, file in self.files.items()},
        }
        return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def read_manifest(text: str, *, shown: str) -> Manifest:
    """Return the manifest that a text is.

    Args:
        text: of the file.
        shown: the backup, as errors name it.

    Raises:
        DataError: it is damaged, of a newer version, or names a file that no backup of ours has.
    """
    try:
        told = json.loads(text)
        schema = str(told["schema"])
    except (ValueError, KeyError, TypeError):
        raise _damaged(shown, "its manifest is no JSON object with a schema") from None
    kind, _, number = schema.partition("/")
    if kind == SCHEMA.partition("/")[0] and number.isdecimal() and int(number) > int(SCHEMA.partition("/")[2]):
        raise DataError(
            f"{shown} was made by a newer posttrain ({told.get('version', '?')}): its schema is {schema}, and this one reads "
            f"{SCHEMA}. Nothing was touched. Update this repository: git pull && make setup; then run again"
        )
    if schema != SCHEMA:
        raise _damaged(shown, f"its manifest has the schema {schema[:60]!r}, not {SCHEMA}")
    try:
        found = Manifest(
            **{name: str(told[name]) for name in ("made", "version", "host", "root")},
            is_all=bool(told["is_all"]),
            files={str(path): Stored(int(size), str(digest)) for path, (size, digest) in told["files"].items()},
            links={str(path): str(target) for path, target in told["links"].items()},
            contents={str(name): int(count) for name, count in told["contents"].items()},
            left_out=tuple(map(str, told["left_out"])),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise _damaged(shown, f"its manifest lacks a field or has a wrong one ({error})") from None
    wrong = [path for path in (*found.files, *found.links) if not is_of_a_backup(path)]
    # nothing may be written through a link to somewhere else
    folders = {"/".join(path.split("/")[:depth]) for path in found.files for depth in range(1, path.count("/") + 2)}
    wrong += [path for path, target in found.links.items() if path in folders or not is_inside(target)]
    if wrong:
        raise _damaged(shown, f"it names {wrong[0][:80]!r}, which no backup holds")
    return found


def differences(manifest: Manifest, found: Mapping[str, Stored], *, shown: str) -> None:
    """Refuse files that are not those of the manifest, none more and none fewer.

    Raises:
        DataError: a file is missing, damaged or foreign; the first one is named, and how many there are.
    """
    missing = [path for path in manifest.files if path not in found]
    foreign = [path for path in found if path not in manifest.files]
    other = [path for path, file in found.items() if path in manifest.files and manifest.files[path] != file]
    for paths, what in ((other, "are not as they were written"), (missing, "are missing"), (foreign, "are not in its manifest")):
        if paths:
            raise _damaged(shown, f"{len(paths):,} of its {len(manifest.files):,} files {what}, the first is {paths[0]}")


def is_of_a_backup(path: str) -> bool:
    """Return whether a file of this path may lie in a backup: in one of our stores, or a store of labels; never our code."""
    if not is_inside(path):
        return False
    if path in (*DUMPS, SETTINGS):
        return True
    return path.startswith(PLACES) or path.endswith(LABELS)


def is_inside(path: str) -> bool:
    """Return whether a path is relative and goes down only, name by name."""
    return not {"", ".", ".."}.intersection(path.split("/")) and "\0" not in path and "\\" not in path


def named_versions(texts: Iterable[str]) -> set[tuple[str, str]]:
    """Return the registered models and versions that texts name, as in `models:/posttrain-world/3`."""
    return {found for text in texts for found in re.findall(r"models:/([\w.-]+)/(\d+)", text)}


def _damaged(shown: str, why: str) -> DataError:
    return DataError(f"{shown} is damaged or no backup: {why}. Nothing was touched. Take another backup, or copy this one again")
