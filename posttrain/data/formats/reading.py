"""Reads rows: in the format that was named, or in the one that reads the first of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice

from posttrain.data.formats.fields import settle
from posttrain.data.formats.guess import guess
from posttrain.data.formats.items import Item, shown
from posttrain.data.formats.table import FORMATS
from posttrain.errors import DataError, RequestError, did_you_mean
from posttrain.records import Question, Record

LOOKED_AT = 20
"""Rows, at most, from which the format is guessed where nobody named it."""
HINTED = 10
"""Bad rows for which another format is looked for; no more of them are told."""
MOST_NOTES = 100
"""Different notes that are kept: rows with names of their own making must not fill the memory."""
BadRow = Callable[[Item, DataError], None]


def read(
    form: str, items: Iterable[Item], *, notes: Counter[str] | None = None, on_bad: BadRow | None = None
) -> Iterator[Record]:
    """Yield one record a row, in order; a record whose format gives no id is called `<format>-<row number>`.

    Args:
        form: a name in `FORMATS`, in any case.
        items: the rows.
        notes: receives what the user should hear about rows, and of how many each holds.
        on_bad: is told of a row that cannot be read; without it, the first such row ends the reading.

    Raises:
        RequestError: there is no such format.
        DataError: a row does not have the format's form, two rows have one id, or there is no row at all.
    """
    form = format_named(form)
    seen: set[str] = set()
    item, bad = None, 0
    for item in items:
        item.hint = suggestion if bad < HINTED else None
        try:
            record = record_of(form, item)
            if form == "records":
                if record.id in seen:
                    item.fail(f"id must be unique, {record.id} was there before")
                seen.add(record.id)
        except DataError as error:
            if on_bad is None:
                raise
            on_bad(item, error)
            bad += 1
            continue
        if isinstance(record, Question) and not record.answers:
            item.note("a question that has nothing to check an answer against")
        if notes is not None:
            notes.update({note: count for note, count in item.notes.items() if note in notes or len(notes) < MOST_NOTES})
        yield record
    if item is None:
        raise DataError("there is not one row to import. Check that the file is the one you meant and was written to its end")


def record_of(form: str, item: Item) -> Record:
    """Return what one row says.

    Raises:
        DataError: the row does not have the format's form, or holds what would have to be dropped.
    """
    if item.fault:
        item.fail(item.fault, item.remedy)
    if not isinstance(item.row, Mapping):
        item.fail(f"a row must be a JSON object, got {shown(item.row)}")
    item.form, item.used = form, set()
    record = FORMATS[form](item)
    return record if form == "records" or item.form == "records" else settle(item, record)


def format_named(form: str) -> str:
    """Return the name of a format that was asked for in any case.

    Raises:
        RequestError: there is no such format.
    """
    known = form.strip().casefold()
    if known not in FORMATS:
        raise RequestError(f"there is no format {form}{did_you_mean(known, FORMATS)}; formats are {', '.join(FORMATS)}")
    return known


def recognised(items: Iterable[Item]) -> tuple[str, Iterator[Item]]:
    """Return the format that reads the first row which any format reads, else the likeliest, and all the rows.

    Raises:
        DataError: none of the first rows is of a known form.
    """
    rows = iter(items)
    first = list(islice(rows, LOOKED_AT))
    for item in first:
        form = suggestion(item)
        if form:
            return form, chain(first, rows)
    if not first:
        raise DataError("there is not one row to import. Check that the file is the one you meant and was written to its end")
    likely = next((form for item in first if isinstance(item.row, Mapping) and (form := guess(item.row))), None)
    if likely:  # it will say what is wrong with the rows
        return likely, chain(first, rows)
    if first[0].fault:
        first[0].fail(first[0].fault, first[0].remedy)
    fields = shown(", ".join(map(str, first[0].row))) if isinstance(first[0].row, Mapping) else shown(first[0].row)
    return first[0].fail(
        f"no format reads these rows, whose fields are {fields}",
        f"Name the format, FORMAT={'|'.join(form for form in FORMATS if form != 'hub')}, to hear what is wrong, "
        'or what the columns are: MAP="prompt=<column> completion=<column>"',
    )


def suggestion(item: Item) -> str | None:
    """Return a format that reads a row, tried, the most likely first; None where none does."""
    if item.fault or not isinstance(item.row, Mapping):
        return None
    for form in dict.fromkeys([guess(item.row), *FORMATS]):
        if form is None or form in ("hub", item.form):
            continue
        trial = Item(item.row, source=item.source, unit=item.unit, number=item.number)
        try:
            record_of(form, trial)
        except DataError:
            continue
        return form
    return None
