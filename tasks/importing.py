"""A user's file, or a dataset of the Hugging Face hub, becomes `data/<name>/`: records, a DVC stage that splits them."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from posttrain.errors import RequestError
from posttrain.formats import format_named, read, recognised
from posttrain.formats.columns import Columns
from posttrain.roles import roles_of
from posttrain.sections import DataSettings
from tasks.bad_rows import BadRows, sentences
from tasks.data import as_line, cannot_write, try_unlink, writing
from tasks.dvc import add_file, exclusive, retire
from tasks.places import Places
from tasks.rows import file_items, hub_items

RESERVED_NAMES = {
    "world": "the default world's",
    "expectations": "where expectation suites lie",
    "judges": "where the judge's prompts lie",
}
SPLIT_MODULES = (
    "posttrain/chat.py",
    "posttrain/config.py",
    "posttrain/sections.py",
    "posttrain/errors.py",
    "posttrain/records.py",
    "posttrain/roles.py",
    "posttrain/split.py",
    "tasks/data.py",
    "tasks/places.py",
)
"""What `python -m tasks.data split` imports of ours. `config.py` is among them because it holds the defaults that
`params.yaml` leaves out; a change elsewhere in it repeats the stage, gives the same bytes, and so the same version."""


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
    places: Places, *, format: str = "", file: str, name: str, columns: str = "", skip_bad: bool = False
) -> ImportReport:
    """Read `file` as `format` and put it into `data/<name>/` under DVC's care, in place of an earlier dataset of that name.

    Rows are streamed. Until the last one is on the disk and DVC has it, the earlier dataset stays as it was.

    Args:
        places: of the repository.
        format: a name in `posttrain.formats.FORMATS`; empty to find it out from the rows.
        file: path from the root, of what `tasks.rows` reads; for `hub`, `owner/name[:config[:split]]`.
        name: of the dataset.
        columns: what the file's columns are, as `posttrain.formats.columns` reads it; empty where they have their own names.
        skip_bad: leave rows that cannot be read out, and put them aside in a file; without it they refuse the import.

    Raises:
        RequestError: the format, the file, the hub's dataset or the name is not one that can be used.
        DataError: a row is wrong; nothing was imported.
        StorageError: the disk refused; nothing was imported.
    """
    started = time.perf_counter()
    _check_name(name)
    form, mapping = format_named(format) if format else "", Columns.parsed(columns)
    source = hub_items(file) if form == "hub" else file_items(places.root / Path(file).expanduser(), shown=file)
    items = mapping.apply(source)
    if not form:
        form, items = recognised(items)
    folder = places.data / name
    kinds: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    with exclusive(places, f"import-{name}"), _staging(folder) as staging:
        with BadRows(places.findings("import", name), form=form, skip=skip_bad) as bad, writing(staging, ("records",)) as files:
            for record in read(form, items, notes=notes, on_bad=bad):
                kinds[record.kind] += 1  # type: ignore[attr-defined]
                files["records"].write(as_line(record))
                bad.good += 1
            bad.settle()
        with exclusive(places, "dvc"):
            _put_in_place(places, folder, staging, roles=roles_of(kinds))
    guessed = () if format else (f"no FORMAT was given: the rows are read as FORMAT={form}",)
    return ImportReport(
        name=name,
        path=folder / "records.jsonl",
        kinds=dict(kinds),
        seconds=time.perf_counter() - started,
        notes=(*guessed, *bad.told(), *sentences(notes)),
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


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Give a folder to prepare files in; if the block fails, a dataset folder that was not there before goes again."""
    is_new, staging = not folder.exists(), folder / ".incoming"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        yield staging
    except BaseException:
        shutil.rmtree(folder if is_new else staging, ignore_errors=True)
        raise
    shutil.rmtree(staging, ignore_errors=True)


def _put_in_place(places: Places, folder: Path, staging: Path, *, roles: tuple[str, ...]) -> None:
    """Exchange the records and their stage, and give them to DVC; on any failure the earlier ones come back."""
    changing = [folder / file for file in ("records.jsonl", "records.jsonl.dvc", "dvc.yaml", ".gitignore")]
    kept = {path: staging / f"old-{path.name}" for path in changing if path.exists()}
    try:
        for path, copy in kept.items():
            copy.hardlink_to(path)
        incoming = staging / "dvc.yaml"
        incoming.write_text(_stage(folder.name, roles), encoding="utf-8")
        incoming.replace(folder / "dvc.yaml")
        (staging / "records.jsonl").replace(folder / "records.jsonl")
        add_file(places, folder / "records.jsonl")
        retire(places, folder.name, roles)
    except BaseException as error:
        for path in changing:
            if path in kept:
                kept[path].replace(path)
            else:
                try_unlink(path)
        if isinstance(error, OSError):
            raise cannot_write(error, folder) from None
        raise


def _stage(name: str, roles: tuple[str, ...]) -> str:
    """Return the text of `data/<name>/dvc.yaml`."""
    lines = [
        "# Written by make import. The split repeats when the records, the section split of params.yaml or the code change.",
        "stages:",
        "  split:",
        f"    cmd: python -m tasks.data split {name}",
        "    wdir: ../..",
        "    deps:",
        *(f"      - {dependency}" for dependency in (f"data/{name}/records.jsonl", *SPLIT_MODULES)),
        "    params:",
        "      - split",
        "    outs:",
        *(f"      - data/{name}/{role}.jsonl" for role in roles),
    ]
    return "\n".join(lines) + "\n"
