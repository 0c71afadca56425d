"""Labels of a dataset written to a file of another tool, and those of such a file added to the dataset."""

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from posttrain.digests import text_number
from posttrain.errors import DataError, RequestError
from posttrain.feedback.labels import Label
from posttrain.labelling.items import Item
from posttrain.records import Question
from tasks.data.dvc import DatasetVersion, bring_up_to_date
from tasks.data.labels_file import add_labels, labels_file, read_people
from tasks.feedback.store import annotators_of
from tasks.labelling.batches import Batch, read_items
from tasks.labelling.exchange.check import Questions, checked
from tasks.labelling.exchange.interface import Form, ShownPair, digest_of
from tasks.workspace.disk import storage_errors, write_whole
from tasks.workspace.jsonl import required
from tasks.workspace.paths import Paths


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        count: labels, or pairs.
        files: that were written, the labels first.
    """

    count: int
    files: Sequence[Path]


@dataclass(frozen=True)
class Imported:
    """What an import added.

    Attributes:
        new: labels that the dataset did not have.
        known: labels of the file that it had.
        notes: a line each, of what was passed over.
        version: of the dataset with them.
    """

    new: Sequence[Label]
    known: int
    notes: Sequence[str]
    version: DatasetVersion


def export_labels(paths: Paths, dataset: str, *, form: Form, file: str, is_forced: bool) -> Exported:
    """Write the labels of people of a dataset, each file whole or not at all, and all before one is replaced.

    Args:
        paths: of the repository.
        dataset: its name.
        form: of the file.
        file: that somebody named.
        is_forced: it may be replaced.

    Raises:
        RequestError: there are no labels, or the file may not be written.
        DataError: the labels are damaged.
        StorageError: the disk refused; what was there is unchanged.
    """
    labels = read_people(paths, dataset)
    if not labels:
        raise RequestError(
            f"nobody has labelled {dataset} yet, so there is nothing to export. Label some: make label DATA={dataset}; or finish "
            f"a batch: make labels DATA={dataset} FINISH=1"
        )
    files = _write(paths, form, form.write(labels), file=file, is_forced=is_forced)
    return Exported(len(labels), files)


def export_batch(paths: Paths, batch: Batch, *, form: Form, file: str, is_forced: bool) -> Exported:
    """Write the pairs of a batch for people to label in another tool, without the answers that were given here.

    Args:
        paths: of the repository.
        batch: of pairs.
        form: of the file.
        file: that somebody named.
        is_forced: it may be replaced.

    Raises:
        RequestError: the form holds labels alone, the batch asks for something else than pairs, or the file may not be written.
        DataError: the batch is damaged.
        StorageError: the disk refused; what was there is unchanged.
    """
    if form.ask is None:
        raise RequestError(f"{form.name} holds labels, and no pairs that are to be labelled. Take another form, or no BATCH")
    if batch.kind != "pair":
        raise RequestError(f"batch {batch.name} asks for a {batch.kind}, and {form.name} takes pairs. Name a batch of pairs")
    pairs = [_shown_pair(item, batch) for item in read_items(batch) if not item.repeats]
    return Exported(len(pairs), _write(paths, form, form.ask(pairs), file=file, is_forced=is_forced))


def _shown_pair(item: Item, batch: Batch) -> ShownPair:
    """Return an item as another tool shows it: in an order that the item's own name draws, which nobody chose."""
    first, second = item.responses if text_number(item.id) % 2 else item.responses[::-1]
    is_turned = first is not item.responses[0]
    gold = item.gold if item.gold is None or not is_turned else 1 - item.gold
    told = {
        "prompt": item.model_dump(mode="json")["prompt"],
        "question": item.question,
        "family": item.family,
        "first": first.text,
        "second": second.text,
        "first_model": first.model or None,
        "second_model": second.model or None,
        "first_finished": first.finished,
        "second_finished": second.finished,
        "gold": gold,
        "selection": item.selection or None,
        "prompt_version": batch.prompt_version or None,
    }
    fields = {name: value for name, value in told.items() if value is not None}
    return ShownPair(digest_of(fields), fields, [])


def _write(paths: Paths, form: Form, text: str, *, file: str, is_forced: bool) -> list[Path]:
    """Write a file and those beside it, and return them, the file first."""
    target = place_of(paths, file, word="FILE", is_forced=is_forced)
    beside = {target.with_name(f"{target.stem}{end}"): text for end, text in form.beside.items()}
    for other in beside:
        place_of(paths, str(other), word=f"the file beside {file}", is_forced=is_forced)
    # what belongs beside the labels comes first: labels that are there have it
    texts = {**beside, target: text}
    with storage_errors("the export", target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        for path, content in texts.items():
            write_whole(path, content.encode("utf-8", "surrogatepass"))
    return [target, *beside]


def place_of(paths: Paths, file: str, *, word: str, is_forced: bool) -> Path:
    """Return where a file goes, behind links, unless something is there that it must not replace.

    Args:
        paths: of the repository, whose own files are not for exports.
        file: that somebody named, from the repository's root.
        word: behind which it stood, for errors.
        is_forced: a regular file may be replaced.

    Raises:
        RequestError: it may not be written there.
    """
    try:
        target = (paths.root / Path(file).expanduser()).resolve()
        there = target.stat() if target.exists() else None
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a null byte, links in a circle
        raise RequestError(f"{word} names no file: {error}") from None
    for folder in (paths.data, paths.store, paths.ledger, paths.labelling):
        if target.is_relative_to(folder.resolve()):
            raise RequestError(f"{word} must lie outside {folder}, which is not for exports, got {file}. Name another file")
    if there is None:
        return target
    if not stat.S_ISREG(there.st_mode):
        kind = "a folder" if stat.S_ISDIR(there.st_mode) else "a device, pipe or socket"
        raise RequestError(f"{word} must name a regular file, got {file}, which is {kind}. Name another")
    if not is_forced:
        raise RequestError(f"{word}={file} is there already, and would be replaced. Name another file, or allow it: FORCE=1")
    return target


def import_labels(paths: Paths, dataset: str, *, form: Form, file: str) -> Imported:
    """Add the labels of a file to those of a dataset: all that are new, or none where one line cannot be used.

    Args:
        paths: of the repository.
        dataset: its name.
        form: of the file.
        file: that somebody named, from the repository's root.

    Raises:
        RequestError: there is no such dataset or file.
        DataError: a place of the file cannot be used; nothing has changed.
        StorageError: the disk refused; nothing has changed.
    """
    text = _text(paths.root / Path(file).expanduser(), shown=file)
    version = bring_up_to_date(paths, dataset)
    questions = required(version.folder, "questions", Question, why="labels are given on")
    there = {label.id: label for label in read_people(paths, dataset)}
    try:
        got = checked(
            form.read(text),
            shown=file,
            questions=Questions(questions),
            there=there,
            annotators=annotators_of(labels_file(paths, dataset)),
        )
    except DataError as error:
        told = str(error)
        raise DataError(told if told.startswith(file) else f"{file}: {told}") from None
    return Imported(got.new, got.known, got.notes, add_labels(paths, dataset, got.new) if got.new else version)


def _text(path: Path, *, shown: str) -> str:
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise RequestError(f"cannot read {shown}: {reason}. FILE names the file to read") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{shown} line {line}: byte 0x{content[error.start]:02x} is not UTF-8. Save the file as UTF-8; none was taken"
        ) from None
