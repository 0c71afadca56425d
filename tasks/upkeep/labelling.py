"""What people were asked and what they said: batches cut off or damaged, labels that never reached their dataset, picks, thumbs.

What a person said can be made by nobody else, and a label that is missing may have been taken out by hand: neither is mended.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from posttrain.errors import DataError
from posttrain.printable import counted
from tasks.data.labels_file import labels_file, read_people
from tasks.labelling.ab import PICKS, THUMBS, read_picks, read_thumbs
from tasks.upkeep.findings import Finding, Stores, named, note, well, wrong
from tasks.workspace.paths import Paths

UNFINISHED = 3_600.0
"""Seconds after which a batch that is still being made counts as left: to make one takes seconds."""


def labelling(stores: Stores) -> list[Finding]:
    """Look at every batch, and at the labels of every dataset."""
    paths = stores.paths
    batches = _batches(paths)
    datasets = sorted({file.parent.name for file in paths.data.glob("*/labels.jsonl")} | {one.parent.name for one in batches})
    found = _half_made(paths)
    known: dict[str, list[frozenset[str]]] = {}
    for dataset in datasets:
        try:
            known[dataset] = [frozenset(label.id.split("/")) for label in read_people(paths, dataset)]
        except DataError as error:
            found.append(wrong(str(error)))
    for batch in batches:
        found += _look_at(paths, batch, known.get(batch.parent.name))
    opinions, damaged = _opinions(paths)
    found += damaged
    if found:
        return found
    seen = [f"{counted(len(batches), 'batch', 'batches')}, and labels of {counted(len(datasets), 'dataset')}"] if datasets else []
    seen += [f"{counted(opinions, 'pick or thumb', 'picks and thumbs')} of models' answers"] if opinions else []
    return [well(f"{'; '.join(seen)}: whole" if seen else "nobody has labelled anything here")]


def _opinions(paths: Paths) -> tuple[int, list[Finding]]:
    """Return how many picks and thumbs people gave of models' answers, and which files of them are damaged."""
    count, found = 0, []
    readers: tuple[tuple[str, Callable[[Paths, str], Sequence[object]]], ...] = ((PICKS, read_picks), (THUMBS, read_thumbs))
    for name, read in readers:
        for file in sorted(paths.labelling.glob(f"[!.]*/{name}")):
            try:
                count += len(read(paths, file.parent.name))
            except DataError as error:
                found.append(wrong(str(error)))
    return count, found


def _batches(paths: Paths) -> list[Path]:
    return [path for path in sorted(paths.labelling.glob("[!.]*/[!.]*")) if path.is_dir()]


def _half_made(paths: Paths) -> list[Finding]:
    left = list(_left(paths))
    if not left:
        return []
    told = f"{counted(len(left), 'batch', 'batches')} cut off while being made: {named([_shown(paths, one) for one in left])}"
    return [note(f"{told}. Nobody was asked anything of it yet; FIX=1 removes it", partial(_remove, paths))]


def _left(paths: Paths) -> Iterator[Path]:
    for path in sorted(paths.labelling.glob("*/.*.part")):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > UNFINISHED:
                yield path


def _remove(paths: Paths) -> str:
    left = list(_left(paths))
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return f"{counted(len(left), 'batch', 'batches')} that had been cut off while being made removed"


def _look_at(paths: Paths, batch: Path, known: Sequence[frozenset[str]] | None) -> list[Finding]:
    """Return what is wrong with one batch.

    Args:
        paths: of the repository.
        batch: its folder.
        known: of each label of the dataset the parts of its id, among which are ids of events; None where labels are damaged.
    """
    shown = _shown(paths, batch)
    restore = "Restore the folder from a backup (make restore)"
    again = f"make labels DATA={batch.parent.name} FINISH=1 BATCH={batch.name}"
    try:
        _read(batch / "batch.json")
        finished = _read(batch / "finished.json") if (batch / "finished.json").exists() else None
    except DataError as error:
        return [wrong(f"{shown}/{error}. {restore}; answers are in its events.jsonl, which nothing has touched")]
    if gone := [name for name in ("items.jsonl", "events.jsonl") if not (batch / name).is_file()]:
        return [wrong(f"{shown} has no {gone[0]}, so it can be neither opened nor finished. {restore}")]
    if finished is None:
        told = (
            f"{shown} was ended, and its labels are no version of {batch.parent.name} yet. Finish it again, "
            f"nothing counts twice: {again}"
        )
        return [note(told)] if (batch / "closed.json").exists() else []
    if known is None:
        return []
    events, wanted = _events(batch / "events.jsonl"), int(finished.get("labels", 0))
    if (there := sum(not events.isdisjoint(parts) for parts in known)) >= wanted:
        return []
    file = _shown(paths, labels_file(paths, batch.parent.name))
    return [
        note(
            f"{shown} was finished with {counted(wanted, 'label')}, and {file} has {there:,} of them: some were taken out by "
            f"hand, or the file is an older version (git log -- {file}.dvc). To put them back: {again}"
        )
    ]


def _read(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file.name} cannot be read: {error}") from None
    if not isinstance(told, dict):
        raise DataError(f"{file.name} is no JSON object")
    return told


def _events(file: Path) -> set[str]:
    """Return the ids in a log; half a line at its end was acknowledged to nobody, and is passed over."""
    found = set()
    for line in file.read_bytes().split(b"\n"):
        with suppress(ValueError, AttributeError):
            found.add(str(json.loads(line).get("id")))
    return found


def _shown(paths: Paths, path: Path) -> str:
    return str(path.relative_to(paths.root))
