"""Batches on the disk: `labelling/<dataset>/<batch>/`, made whole or not at all."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from posttrain.errors import DataError, RequestError, did_you_mean
from posttrain.labelling.answers import Event
from posttrain.labelling.items import Item, Kind
from posttrain.labelling.standing import Standing
from tasks.labelling.log import read_log
from tasks.workspace.disk import cannot_write, sync
from tasks.workspace.paths import Paths

FORMAT = 1
"""Of the files of a batch."""
BATCH, ITEMS, EVENTS, PEOPLE, CLOSED, FINISHED = (
    "batch.json",
    "items.jsonl",
    "events.jsonl",
    "people.jsonl",
    "closed.json",
    "finished.json",
)


@dataclass(frozen=True)
class Batch:
    """What people are asked, and all that decided it.

    Attributes:
        folder: that holds its files.
        name: when it was made, and four digits of chance.
        dataset: whose questions they are.
        kind: what is asked.
        per_item: people who answer each item.
        method: whose samples they are.
        data_md5: version of the dataset.
        models: URIs of the models that wrote the responses.
        instructions: that people see, Markdown.
        prompt_version: digest of the instructions.
        seed: of the drawing.
        settings: that decided it, by full name.
        made_at: ISO 8601 in UTC.
        size: items.
    """

    folder: Path
    name: str
    dataset: str
    kind: Kind
    per_item: int
    method: str
    data_md5: str
    models: tuple[str, ...]
    instructions: str
    prompt_version: str
    seed: int
    settings: Mapping[str, Any]
    made_at: str
    size: int
    format: int = field(default=FORMAT)

    @property
    def log(self) -> Path:
        """File of its events."""
        return self.folder / EVENTS

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more answers: its labels are becoming a version, or are one."""
        return (self.folder / CLOSED).exists()

    @property
    def is_finished(self) -> bool:
        """Whether its labels are part of a version of the dataset."""
        return (self.folder / FINISHED).exists()


def utc_now() -> datetime:
    """Return the time of the machine's clock, in UTC."""
    return datetime.now(UTC)


def make_batch(
    paths: Paths,
    *,
    dataset: str,
    kind: Kind,
    items: Sequence[Item],
    per_item: int,
    method: str,
    data_md5: str,
    models: Sequence[str],
    instructions: str,
    seed: int,
    settings: Mapping[str, Any],
) -> Batch:
    """Write a new batch, whole or not at all.

    Raises:
        RequestError: there is no item, they are not of the kind, two have one id, or `per_item` is below 1.
        StorageError: the disk refused.
    """
    _check_items(items, kind, per_item)
    now = utc_now()
    name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    batch = Batch(
        folder=paths.labelling / dataset / name,
        name=name,
        dataset=dataset,
        kind=kind,
        per_item=per_item,
        method=method,
        data_md5=data_md5,
        models=tuple(models),
        instructions=instructions,
        prompt_version=hashlib.sha256(instructions.encode()).hexdigest(),
        seed=seed,
        settings=json.loads(json.dumps(dict(settings), default=str)),
        made_at=now.isoformat(timespec="seconds"),
        size=len(items),
    )
    told = {field: value for field, value in asdict(batch).items() if field != "folder"}
    part = batch.folder.with_name(f".{name}.part")
    try:
        part.mkdir(parents=True)
        _write(part / BATCH, json.dumps(told, ensure_ascii=False, indent=1))
        _write(part / ITEMS, "".join(item.model_dump_json(exclude_defaults=True) + "\n" for item in items))
        _write(part / PEOPLE, "")
        _write(part / EVENTS, "")
        sync(part)
        part.rename(batch.folder)
        sync(batch.folder.parent)
    except OSError as error:
        raise cannot_write(error, batch.folder) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return batch


def batches_of(paths: Paths, dataset: str) -> list[Batch]:
    """Return the batches of a dataset, the oldest first.

    Raises:
        DataError: one is damaged.
    """
    folders = sorted(file.parent for file in (paths.labelling / dataset).glob(f"*/{BATCH}"))
    return [_read(folder) for folder in folders if not folder.name.startswith(".")]


def open_batch(paths: Paths, dataset: str, name: str = "") -> Batch:
    """Return a batch of a dataset: that of the name, else the newest that is not finished.

    Raises:
        RequestError: there is none.
        DataError: it is damaged.
    """
    if name:
        known = [file.parent.name for file in sorted((paths.labelling / dataset).glob(f"*/{BATCH}"))]
        if name not in known:
            raise RequestError(
                f"there is no batch {name} of {dataset}{did_you_mean(name, known)}; "
                f"batches are {', '.join(known) or 'none'}. Make one: make label DATA={dataset}"
            )
        return _read(paths.labelling / dataset / name)
    waiting = [batch for batch in batches_of(paths, dataset) if not batch.is_finished]
    if not waiting:
        raise RequestError(f"no batch of {dataset} is waiting for labels. Make one: make label DATA={dataset}")
    return waiting[-1]


def read_items(batch: Batch) -> list[Item]:
    """Return the items of a batch.

    Raises:
        DataError: the file is damaged.
    """
    path = batch.folder / ITEMS
    items: list[Item] = []
    for number, line in enumerate(_text(path).split("\n")[:-1], start=1):  # a text may hold other characters that end a line
        try:
            items.append(Item.model_validate_json(line))
        except ValidationError as error:
            raise DataError(
                f"{path} line {number} is no item of a batch: {error.errors()[0]['msg']}. Restore the file from a backup"
            ) from None
    if len(items) != batch.size:
        raise DataError(f"{path} holds {len(items):,} items, and the batch was made of {batch.size:,}. Restore it from a backup")
    return items


def read_events(batch: Batch) -> list[Event]:
    """Return all that happened in a batch so far, in order; its page may be open meanwhile.

    Raises:
        DataError: the log is damaged.
    """
    return read_log(batch.log)


def standing_of(batch: Batch) -> Standing:
    """Return the state of a batch as its files have it; its page may be open meanwhile.

    Raises:
        DataError: a file of it is damaged.
    """
    return folded(batch, read_items(batch), read_events(batch))


def folded(batch: Batch, items: Sequence[Item], events: Iterable[Event]) -> Standing:
    """Return the state of a batch after events of its log.

    Raises:
        DataError: they do not fit the items, or each other.
    """
    try:
        return Standing(items, per_item=batch.per_item, events=events)
    except ValueError as error:
        raise DataError(f"{batch.log} does not fit its batch: {error}. Restore the folder from a backup") from None


def _read(folder: Path) -> Batch:
    path = folder / BATCH
    try:
        told = json.loads(_text(path))
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}. Restore it from a backup") from None
    version = told.get("format") if isinstance(told, dict) else None
    if version != FORMAT:
        made = "a newer posttrain" if isinstance(version, int) and version > FORMAT else "another version of posttrain"
        raise DataError(
            f"{path} has the format {version}, and this posttrain reads {FORMAT}: {made} made the batch. "
            "Finish it with that one, or move its folder away"
        )
    wanted = {one.name for one in fields(Batch)} - {"folder"}
    if told.keys() != wanted:
        odd = sorted(told.keys() ^ wanted)[0]
        raise DataError(f"{path} {'has an unknown' if odd in told else 'lacks the'} field {odd}. Restore it from a backup")
    return Batch(**{**told, "models": tuple(told["models"])}, folder=folder)


def _check_items(items: Sequence[Item], kind: Kind, per_item: int) -> None:
    names = {item.id for item in items}
    if not items:
        raise RequestError("a batch needs one item at least, got none. Sample more responses, or ask for another selection")
    if len(names) < len(items):
        raise RequestError("items of a batch must have ids of their own, and two have one. Draw the batch anew")
    if any(item.kind != kind or (item.repeats and item.repeats not in names) for item in items):
        raise RequestError(f"items of a batch of kind {kind} must be of that kind, and repeat none but each other")
    if per_item < 1:
        raise RequestError(f"per_item must be at least 1, got {per_item}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}. Restore it from a backup") from None


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
