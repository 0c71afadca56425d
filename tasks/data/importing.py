"""A user's file, or a dataset of the Hugging Face hub, becomes `data/<name>/`: records, a DVC stage that splits them."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from posttrain.data.formats.columns import Columns
from posttrain.data.formats.items import Item
from posttrain.data.formats.reading import format_named, read, recognised
from posttrain.data.roles import roles_of
from posttrain.errors import DataError, RequestError
from posttrain.records import Record, Text
from posttrain.settings.data import DataSettings
from tasks.data.bad_rows import BadRows, sentences
from tasks.data.dataset_stage import split_code
from tasks.data.incoming import importing, put_in_place
from tasks.data.labels_file import passed_over
from tasks.data.rows import file_items, hub_items
from tasks.data.stages import as_line
from tasks.data.swap import prepared
from tasks.workspace.disk import writing
from tasks.workspace.paths import Paths

RESERVED_NAMES = {
    "world": "the default world's",
    "expectations": "where expectation suites lie",
    "judges": "where the judge's prompts lie",
    "labelling": "where the instructions of annotators lie",
}


@dataclass(frozen=True)
class ImportReport:
    """What an import brought.

    Attributes:
        name: of the dataset.
        path: of its records.
        kinds: records of each kind.
        seconds: that it took.
        notes: what the user should hear about the rows, a sentence each.
    """

    name: str
    path: Path
    kinds: Mapping[str, int]
    seconds: float
    notes: tuple[str, ...] = ()


def import_file(
    paths: Paths,
    *,
    format: str = "",
    file: str,
    name: str,
    columns: str = "",
    held_out: str = "",
    skip_bad: bool = False,
) -> ImportReport:
    """Read `file` as `format` and put it into `data/<name>/` under DVC's care, in place of an earlier dataset of that name.

    What people said of responses to the earlier one's questions (`labels.jsonl`) stays.

    Rows are streamed. The dataset is made whole, split and versioned beside the earlier one, then they are exchanged
    (`tasks/data/swap.py`): at every moment, also after a kill, one of them is there as a whole.

    Args:
        paths: of the repository.
        format: a name in `posttrain.data.formats.table.FORMATS`; empty to find it out from the rows.
        file: path from the root, of what `tasks.data.rows` reads; for `hub`, `owner/name[:config[:split]]`.
        name: of the dataset.
        held_out: a second such file, whose rows are what the dataset holds out, as its publisher decided; empty to split `file`.
        columns: what the files' columns are, as `posttrain.data.formats.columns` reads it; empty where they have their own names.
        skip_bad: leave rows that cannot be read out, and put them aside in a file; without it they refuse the import.

    Raises:
        RequestError: the format, the file, the hub's dataset or the name is not one that can be used, or this is no checkout.
        DataError: a row is wrong; nothing was imported.
        StorageError: the disk refused; nothing was imported.
    """
    started = time.perf_counter()
    _check_name(name)
    split_code(paths)  # where no code lies to split with, no row need be read
    form, mapping = format_named(format) if format else "", Columns.parsed(columns)
    sources = [_Source.opened(paths, each, form=form, mapping=mapping) for each in (file, held_out) if each]
    folder = paths.data / name
    kinds: Counter[str] = Counter()
    held = 0
    notes: Counter[str] = Counter()
    with importing(paths, name) as told:
        with (
            BadRows(paths.findings("import", name), form=sources[0].form, skip=skip_bad) as bad,
            writing(prepared(folder), ("records",)) as files,
        ):
            for source in sources:
                for record in read(source.form, source.items, notes=notes, on_bad=bad):
                    if source is not sources[0]:
                        record = _held_out(record, source.file)
                    held += record.held_out is True
                    kinds[record.kind] += 1  # type: ignore[attr-defined]
                    files["records"].write(as_line(record))
                    bad.good += 1
            bad.settle()
        told += put_in_place(paths, name, roles_of(kinds))
    guessed = [f"no FORMAT was given: the rows of {each.file} are read as FORMAT={each.form}" for each in sources if not format]
    left_out = _left_out(folder, trained=kinds.total() - held) if held else ()
    return ImportReport(
        name=name,
        path=folder / "records.jsonl",
        kinds=dict(kinds),
        seconds=time.perf_counter() - started,
        notes=(
            *told,
            *guessed,
            *bad.told(),
            *sentences(notes),
            *left_out,
            *passed_over(paths, name),
        ),
    )


@dataclass(frozen=True)
class _Source:
    """A file that is read: its name, the format of its rows, and the rows."""

    file: str
    form: str
    items: Iterable[Item]

    @classmethod
    def opened(cls, paths: Paths, file: str, *, form: str, mapping: Columns) -> "_Source":
        """Open a file, and find its format out where none is named."""
        rows = hub_items(file) if form == "hub" else file_items(paths.root / Path(file).expanduser(), shown=file)
        items = mapping.apply(rows)
        if not form:
            form, items = recognised(items)
        return cls(file=file, form=form, items=items)


def _held_out(record: Record, file: str) -> Record:
    """Return a record of the held-out file as one that is held out.

    Raises:
        DataError: it is a text, which nothing can be asked about.
    """
    if isinstance(record, Text):
        raise DataError(f"HELD_OUT={file} holds texts without a prompt, and a model is evaluated on questions. Give questions")
    return record.model_copy(update={"id": f"held-out-{record.id}", "held_out": True})


def _left_out(folder: Path, *, trained: int) -> Iterator[str]:
    """Yield what to say of training records that are in no file, since they are as good as held out; `trained`: all of them."""
    with (folder / "corpus.jsonl").open("rb") as stream:  # every record that is trained on has one line in it
        if left_out := trained - sum(1 for _ in stream):
            yield (
                f"{left_out:,} of {trained:,} training records ask the same, or nearly, as a held-out one: they are left out of "
                "the training files (what is nearly equal: split.near_duplicate in params.yaml)"
            )


def _check_name(name: str) -> None:
    try:
        DataSettings(name=name)
    except ValidationError:
        raise RequestError(
            "a dataset's name must be made of letters, digits, dot, underscore and hyphen, and start with a letter or digit, "
            f"got {name!r}"
        ) from None
    if name in RESERVED_NAMES:
        raise RequestError(f"data/{name} is {RESERVED_NAMES[name]}, so no dataset can be imported as {name}. Choose another name")
