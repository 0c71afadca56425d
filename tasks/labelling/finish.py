"""The end of a batch: its labels become part of a version of the dataset.

A batch that ends takes no more answers: `closed.json` says so first. Then its labels go into the dataset's file, each once, and
`finished.json` says which version holds them. A process that dies in between leaves a batch that is closed; to finish it again
completes it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from posttrain.errors import RequestError
from posttrain.feedback.agreement import Agreement, agreement_of, as_json
from posttrain.feedback.labels import Label
from posttrain.labelling.answers import Event, labels_of
from posttrain.labelling.items import Item
from posttrain.labelling.standing import Standing
from posttrain.labelling.turns import is_over
from tasks.data.dvc import bring_up_to_date
from tasks.data.labels_file import add_labels, read_people
from tasks.labelling.batches import BATCH, CLOSED, FINISHED, Batch, folded, read_events, read_items, utc_now
from tasks.labelling.log import locked
from tasks.labelling.people import people_of
from tasks.workspace.disk import cannot_write, sync, write_whole
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths


@dataclass(frozen=True)
class Finished:
    """What became of a batch.

    Attributes:
        labels: that it made.
        new: of them, those that the dataset did not have.
        md5: version of the dataset with them.
        agreement: what the batch's labels say of its annotators.
    """

    labels: int
    new: int
    md5: str
    agreement: Agreement


def finish_batch(paths: Paths, batch: Batch, *, force: bool = False, now: Callable[[], datetime] = utc_now) -> Finished:
    """Make the labels of a batch a part of its dataset, each once, and note the new version.

    It may be called while the batch's page is open, which takes no answer from then on, and again, which adds nothing. After a
    kill at any point another call completes it.

    Args:
        paths: of the repository.
        batch: that ends.
        force: end it before everything is answered.
        now: the machine's clock.

    Raises:
        RequestError: something is left to answer, there is no label, or no such dataset any more.
        DataError: a file of the batch or of the dataset is damaged.
        StorageError: the disk refused.
    """
    with exclusive(paths, f"finish-{batch.dataset}"):
        # what may be refused is refused before the batch is closed, and labels that only DVC's cache has are fetched
        bring_up_to_date(paths, batch.dataset)
        before = {label.id for label in read_people(paths, batch.dataset)}
        labels = _closed(batch, force=force, now=now)
        version = add_labels(paths, batch.dataset, labels)
        new = sum(label.id not in before for label in labels)
        agreement = agreement_of(labels)
        if not batch.is_finished:
            _write(
                batch,
                FINISHED,
                {
                    "at": now().isoformat(timespec="seconds"),
                    "labels": len(labels),
                    "new": new,
                    "md5": version.md5,
                    "agreement": as_json(agreement),
                },
            )
        return Finished(len(labels), new, version.md5, agreement)


def _closed(batch: Batch, *, force: bool, now: Callable[[], datetime]) -> list[Label]:
    """Close a batch to further answers, unless something is left or it makes no label, and return its labels."""
    items = read_items(batch)
    # a first look without the lock: to be refused holds nobody up
    _check_over(batch, items, read_events(batch), force=force, now=now)
    # an open page takes this lock for each answer, so none comes between the last look at the log and the note
    with locked(batch.folder / BATCH):
        events = read_events(batch)
        standing = _check_over(batch, items, events, force=force, now=now)
        labels = labels_of(items, events, prompt_version=batch.prompt_version)
        if not labels:
            pairs = " (ratings make labels where one person rated two responses to a question)" if batch.kind == "rating" else ""
            raise RequestError(
                f"the answers of batch {batch.name} of {batch.dataset} make no label{pairs}; there are {standing.answered:,}. "
                "Label some first: make label"
            )
        if not batch.is_closed:
            _write(batch, CLOSED, {"at": now().isoformat(timespec="seconds"), "events": len(events), "force": force})
        return labels


def _check_over(
    batch: Batch, items: Sequence[Item], events: Sequence[Event], *, force: bool, now: Callable[[], datetime]
) -> Standing:
    standing = folded(batch, items, events)
    holding = {person.name for person in people_of(batch) if person.holds(now())}
    if not (force or batch.is_closed or is_over(standing, holding)):
        raise RequestError(
            f"batch {batch.name} of {batch.dataset} has {standing.answered:,} of {batch.size * batch.per_item:,} answers. "
            f"Let people answer the rest, or take what is there: make labels DATA={batch.dataset} FINISH=1 FORCE=1"
        )
    return standing


def _write(batch: Batch, name: str, told: dict[str, object]) -> None:
    try:
        write_whole(batch.folder / name, json.dumps(told, ensure_ascii=False, indent=1).encode())
        sync(batch.folder)
    except OSError as error:
        raise cannot_write(error, batch.folder / name) from None
