"""What people were asked and what they said: batches cut off or damaged, labels that never reached their dataset.

Nothing here is mended: what a person said can be made by nobody else, and a label that is missing may have been taken out by hand.
"""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from posttrain.errors import DataError
from tasks.data.labels_file import labels_file, read_people
from tasks.upkeep.findings import Finding, Stores, counted, named, note, well, wrong
from tasks.workspace.paths import Paths

UNFINISHED = 3_600.0
"""Seconds after which a batch that is still being made counts as left: to make one takes seconds."""


def labelling(stores: Stores) -> list[Finding]:
    """Look at every batch, and at the labels of every dataset."""
    paths = stores.paths
    batches = _batches(paths)
    datasets = sorted({file.parent.name for file in paths.data.glob("*/labels.jsonl")} | {one.parent.name for one in batches})
    found = _half_made(paths)
    known: dict[str, set[str]] = {}
    for dataset in datasets:
        try:
            known[dataset] = {part for label in read_people(paths, dataset) for part in (label.id, *label.id.split("/"))}
        except DataError as error:
            found.append(wrong(str(error)))
    for batch in batches:
        found += _look_at(paths, batch, known.get(batch.parent.name))
    if found:
        return found
    if not datasets:
        return [well("nobody has labelled anything here")]
    return [well(f"{counted(len(batches), 'batch', 'batches')}, and labels of {counted(len(datasets), 'dataset')}: whole")]


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


def _look_at(paths: Paths, batch: Path, known: set[str] | None) -> list[Finding]:
    """Return what is wrong with one batch; `known`: names in the ids of the dataset's labels, None where they are damaged."""
    shown = _shown(paths, batch)
    try:
        _read(batch / "batch.json")
        torn = [name for name in ("items.jsonl", "events.jsonl") if not (batch / name).is_file()]
        if torn:
            return [wrong(f"{shown} has no {torn[0]}, so its page cannot be opened. Restore it from a backup (make restore)")]
        finished = _read(batch / "finished.json") if (batch / "finished.json").exists() else None
    except DataError as error:
        return [wrong(f"{shown}/{error}. Restore it from a backup (make restore); what people answered is in its events.jsonl")]
    if finished is None:
        if (batch / "closed.json").exists():
            return [
                note(f"{shown} was ended, but its labels are not known to be part of its dataset. Finish it again: nothing is added twice")
            ]
        return []
    if known is None:
        return []
    events = {str(event.get("id")) for event in _lines(batch / "events.jsonl")}
    labels, wanted = labels_file(paths, batch.parent.name), int(finished.get("labels", 0))
    there = len(events & known)
    return [] if there else [note(f"{shown} {wanted} {labels}")]


def _read(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file.name} cannot be read: {error}") from None
    if not isinstance(told, dict):
        raise DataError(f"{file.name} is no JSON object")
    return told


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a log; half a line at its end was never acknowledged, and is passed over."""
    with suppress(OSError), file.open("rb") as lines:
        for line in lines:
            with suppress(ValueError):
                told = json.loads(line)
                if isinstance(told, dict):
                    yield told


def _shown(paths: Paths, path: Path) -> str:
    return str(path.relative_to(paths.root))
