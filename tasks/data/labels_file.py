"""What people said of responses to a dataset's questions: `data/<name>/labels.jsonl`, which DVC tracks as a file of its own.

Lines are only ever added, a batch at a time, and an import of the dataset leaves them alone. The file is put in place as a whole,
then DVC takes it into its cache and a new version of the dataset is noted. Where the process dies between these steps, whatever
brings the dataset up to date next does the rest.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from posttrain.errors import DataError
from posttrain.feedback.conversions import labels_on
from posttrain.feedback.labels import Label
from posttrain.records import Question
from tasks.data.dvc import DatasetVersion, bring_while_locked
from tasks.data.dvc_files import LABELS, version_file
from tasks.feedback.given import GivenLabels
from tasks.feedback.store import labels_in
from tasks.workspace.disk import cannot_write, sync, write_whole
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths

IGNORED = f"/{LABELS}"
"""The line in the dataset's `.gitignore`: git keeps the `.dvc` file, and DVC the labels."""


def labels_file(paths: Paths, dataset: str) -> Path:
    """Return where the labels of people of a dataset lie, or would."""
    return paths.data / dataset / LABELS


def read_people(paths: Paths, dataset: str) -> list[Label]:
    """Return what people said of responses to a dataset's questions, in the order in which it came; [] where nobody did.

    Raises:
        DataError: the file is damaged, or only its `.dvc` file is here.
    """
    file = labels_file(paths, dataset)
    shown = str(file.relative_to(paths.root))
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        if version_file(file).exists():
            raise DataError(f"{shown} is not here, but {shown}.dvc is. Fetch it: make data DATA={dataset}") from None
        return []
    except OSError as error:
        raise DataError(
            f"{shown} cannot be read: {error.strerror or error}. Correct its permissions: chmod u+r {shown}"
        ) from None
    return labels_in(content, shown=shown)


def labels_of_version(paths: Paths, data: DatasetVersion) -> GivenLabels | None:
    """Return what people said of questions that a version of a dataset has; None where there is nothing.

    Rows of questions that cannot be read are left to the data gate, which leaves out their labels with them.

    Args:
        paths: of the repository.
        data: the version. Labels that came since it was looked at are not among those returned.

    Raises:
        DataError: the file is damaged, or neither it nor DVC's cache has this version.
    """
    if not data.labels:
        return None
    labels = labels_in(_content(paths, data), shown=f"data/{data.name}/{LABELS}")
    usable = labels_on(labels, _questions(data.folder / "questions.jsonl"))
    return GivenLabels(tuple(usable), len(labels) - len(usable), data.labels) if usable else None


def passed_over(paths: Paths, dataset: str) -> Iterator[str]:
    """Yield what to say of labels whose question the dataset has no more; nothing where there are none, or they are damaged."""
    with suppress(DataError):
        labels = read_people(paths, dataset)
        file = labels_file(paths, dataset)
        gone = len(labels) - len(labels_on(labels, _questions(file.with_name("questions.jsonl"))))
        if gone:
            yield (
                f"{gone:,} of {len(labels):,} labels of people are of questions that data/{dataset} does not ask any more: they "
                f"stay in data/{dataset}/{LABELS}, and nothing is learnt from them"
            )


def _content(paths: Paths, data: DatasetVersion) -> bytes:
    cached = paths.root / ".dvc" / "cache" / "files" / "md5" / data.labels[:2] / data.labels[2:]
    for file in (labels_file(paths, data.name), cached):
        with suppress(OSError):
            content = file.read_bytes()
            if hashlib.md5(content, usedforsecurity=False).hexdigest() == data.labels:
                return content
    raise DataError(
        f"data/{data.name}/{LABELS} is no more what it was when this began (version {data.labels[:8]}), and DVC's cache does not "
        "have that version. Give the command again"
    )


def _questions(file: Path) -> Iterator[Question]:
    with suppress(FileNotFoundError), file.open("rb") as lines:
        for line in lines:
            with suppress(ValidationError):
                yield Question.model_validate_json(line)


def add_labels(paths: Paths, dataset: str, labels: Iterable[Label]) -> DatasetVersion:
    """Add labels to those of a dataset, all of them or none, and return the version that they make.

    A label whose id is there already is passed over, so that a second call adds nothing and completes what a first one left.

    Args:
        paths: of the repository.
        dataset: its name.
        labels: of people.

    Raises:
        RequestError: there is no such dataset.
        DataError: its labels are damaged, or DVC failed; nothing has changed.
        StorageError: the disk refused; nothing has changed.
    """
    with exclusive(paths, "dvc"):
        before = bring_while_locked(paths, dataset)  # what is here is whole, and a version
        known = {label.id for label in read_people(paths, dataset)}
        new = {label.id: label for label in reversed(list(labels)) if label.id not in known}
        if not new:
            return before
        file = labels_file(paths, dataset)
        lines = b"".join(label.model_dump_json(exclude_none=True).encode() + b"\n" for label in reversed(new.values()))
        with _whole_or_not_at_all(file):
            _ignore(file.parent)
            there = file.read_bytes() if file.exists() else b""
            write_whole(file, there + (b"\n" if there and not there.endswith(b"\n") else b"") + lines)
            sync(file.parent)
            after = bring_while_locked(paths, dataset)
        return replace(after, notes=before.notes)


def _ignore(folder: Path) -> None:
    """Keep the labels out of git, as DVC does where it works with git; lines of the user's stay."""
    file = folder / ".gitignore"
    text = file.read_text(encoding="utf-8", errors="surrogateescape") if file.exists() else ""
    if IGNORED not in text.splitlines():
        end = "\n" if text and not text.endswith("\n") else ""
        write_whole(file, f"{text}{end}{IGNORED}\n".encode(errors="surrogateescape"))


@contextmanager
def _whole_or_not_at_all(file: Path) -> Iterator[None]:
    """Put a file and DVC's note of it back as they were if the block fails; by renames, which need no room on the disk.

    A kill is no failure: then what is there stays, and is completed.

    Raises:
        StorageError: the disk refused.
    """
    copies = {one: one.with_name(f".{one.name}.before.part") for one in (file, version_file(file))}
    kept: dict[Path, Path | None] = {}
    try:
        for one, copy in copies.items():
            copy.unlink(missing_ok=True)
            if one.exists():
                _link(one, copy) if one == file else shutil.copy2(one, copy)  # DVC writes its note in place, through a link
            kept[one] = copy if one.exists() else None
        yield
    except Exception as error:
        for one, before in kept.items():
            with suppress(OSError):
                before.replace(one) if before else one.unlink(missing_ok=True)
        raise (cannot_write(error, file) if isinstance(error, OSError) else error) from None
    finally:
        for copy in copies.values():
            with suppress(OSError):
                copy.unlink(missing_ok=True)


def _link(file: Path, copy: Path) -> None:
    """Give a file a second name, on a disk that has no such links a copy."""
    try:
        os.link(file, copy, follow_symlinks=False)
    except OSError:
        shutil.copy2(file, copy)
