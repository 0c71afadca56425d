"""Logs of other tools read as results: which file is which system and seed, and whether all of them ask the same questions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import file_digest
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from posttrain.comparison.results import Design, MethodResult, Question
from posttrain.data.formats.items import Item, shown
from posttrain.errors import DataError, RequestError, did_you_mean
from tasks.comparison.logs import inspect_ai, lm_eval, plain
from tasks.comparison.logs.archive import MAGIC
from tasks.comparison.logs.log import Log, checked
from tasks.comparison.logs.results import as_results, design_of, numbered
from tasks.data.containers import head_of, plain_stream
from tasks.data.rows import LONGEST_LINE, file_items
from tasks.data.tables import csv_items

ENDINGS = (".jsonl", ".json", ".eval", ".csv", ".tsv", ".gz")
"""Of files that a folder is searched for."""


@dataclass(frozen=True)
class LogFormat:
    """A form of log.

    Attributes:
        name: the tool.
        recognises: whether a file's first row is of this form.
        read: its rows as logs.
        wants: what shows it, for the message where no form fits.
    """

    name: str
    recognises: Callable[[Mapping[str, Any]], bool]
    read: Callable[..., list[Log]]
    wants: str


FORMATS = (
    LogFormat(lm_eval.NAME, lm_eval.recognises, lm_eval.read, "doc_id, doc and filtered_resps (samples_*.jsonl)"),
    LogFormat(
        inspect_ai.NAME, inspect_ai.recognises, inspect_ai.read, "eval, status and samples (.json; .eval is a zip archive)"
    ),
    LogFormat(plain.NAME, plain.recognises, plain.read, "question and score (JSON lines or csv)"),
)
"""Looked at in this order."""


class Logs(NamedTuple):
    """What `build_comparison` takes, and what to tell of it."""

    design: Design
    questions: list[Question]
    methods: list[MethodResult]
    notes: list[str]


def read_logs(
    words: Sequence[str],
    *,
    reference: str = "",
    metric: str = "",
    margin: float = 0.02,
    confidence: float = 0.95,
    lower_is_better: bool | None = None,
) -> Logs:
    """Return the results of the logs that `LOGS=` names.

    Args:
        words: paths of files or folders, each perhaps with the system's name: `sft=a.jsonl`. Several files of one system are its
            seeds.
        reference: system that the others are compared with; "" for the first.
        metric: as the logs call it; "" where they have one only.
        margin: δ, in the unit of the scores.
        confidence: of the intervals.
        lower_is_better: None: as the metric's name says (`posttrain` knows the usual losses and error rates).

    Raises:
        RequestError: no file, a file that is not there, an unknown reference, a metric that must be chosen.
        DataError: a file of no known form, a wrong row, other questions than in another file, or one system only.
    """
    if not words:
        raise RequestError('LOGS names no file. Give the logs of two systems: LOGS="sft=a.jsonl dpo=b.jsonl"')
    notes: list[str] = []
    logs: list[Log] = []
    seen: dict[str, str] = {}
    for word in words:
        name, path = _split(word)
        for file in _files(path, notes):
            _refuse_copy(file, seen)
            logs += _named(_read(file, metric), name, file)
    logs = numbered(logs, notes)
    systems = list(dict.fromkeys(one.system for one in logs))
    if len(systems) == 1:
        raise DataError(
            f"all of the logs are of one system, {systems[0]}, so there is nothing to compare. "
            'Name the systems where the logs do not: LOGS="sft=a.jsonl dpo=b.jsonl"'
        )
    if reference and reference not in systems:
        raise RequestError(
            f"there is no system {reference}{did_you_mean(reference, systems)} in the logs (there are: {', '.join(systems)}). "
            "Name one of them: compare.reference"
        )
    design = design_of(
        logs, reference=reference or systems[0], margin=margin, confidence=confidence, lower_is_better=lower_is_better
    )
    questions, methods = as_results(logs, design, notes)
    return Logs(design, questions, methods, notes)


def _split(word: str) -> tuple[str, Path]:
    """Return the system's name, "" where it is not given, and the path."""
    name, equals, rest = word.partition("=")
    is_named = bool(equals) and bool(name) and "/" not in name and not Path(word).exists()
    if is_named and not rest:
        raise RequestError(f"LOGS names the system {name} without a file. Give one: {name}=samples.jsonl")
    return (name, Path(rest)) if is_named else ("", Path(word))


def _files(path: Path, notes: list[str]) -> list[Path]:
    """Return the file, or those of a folder that are logs."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise RequestError(f"there is no file {path} (from LOGS). Give the path of a log, or of a folder of logs")
    inside = sorted(one for one in path.rglob("*") if one.is_file() and one.suffix in ENDINGS)
    found = [one for one in inside if _is_log(one)]
    if not found:
        raise DataError(f"the folder {path} holds no log of a known form. {_known_forms()}")
    others = len(inside) - len(found)
    if others:
        notes.append(f"{others} of {len(inside)} files in {path} are no per-question logs, and were left out")
    return found


def _is_log(path: Path) -> bool:
    with suppress(DataError, RequestError):
        first, _ = _begun(path)
        return first is None or _format_of(first) is not None
    return False


def _refuse_copy(path: Path, seen: dict[str, str]) -> None:
    """Refuse a file that stands among the logs already: two copies of one run are no two seeds."""
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    if digest in seen:
        raise DataError(
            f"{path} holds the same bytes as {seen[digest]}: two copies of one run are no two seeds and no two systems. "
            "Give each log once"
        )
    seen[digest] = str(path)


def _read(path: Path, metric: str) -> list[Log]:
    first, items = _begun(path)
    if first is None:
        return inspect_ai.read_archive(path, shown=str(path), metric=metric)
    form = _format_of(first)
    if form is None:
        fields = ", ".join(map(str, first.row)) if isinstance(first.row, Mapping) else "no fields"
        raise DataError(f"{path} is no log of a known form (it begins with: {shown(fields)}). {_known_forms()}")
    logs = form.read(items, path=path, shown=str(path), metric=metric)
    if not logs or not all(one.rows for one in logs):
        raise DataError(f"{path} has no rows. Check that it is the file you meant and was written to its end")
    return logs


def _begun(path: Path) -> tuple[Item | None, Iterator[Item]]:
    """Return a file's first row and all of its rows; no row where it is a zip archive."""
    try:
        head = head_of(path)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}. Give a file that you may read") from None
    if head.startswith(MAGIC):
        return None, iter(())
    items = _rows(path)
    first = next(items, None)
    if first is None:
        raise DataError(f"{path} has no rows. Check that it is the file you meant and was written to its end")
    checked(first)
    return first, chain([first], items)


def _rows(path: Path) -> Iterator[Item]:
    """Yield the rows: text whose first line is no JSON is a table, whatever its ending."""
    with plain_stream(path, shown=str(path)) as stream:
        opening = stream.peek(1 << 12)[: 1 << 12].removeprefix(b"\xef\xbb\xbf")  # type: ignore[attr-defined]
        line = opening.lstrip().partition(b"\n")[0]
        is_table = bool(line) and line[:1] not in (b"{", b"[") and b"score" in line and b"\0" not in line
        if is_table:
            if stream.peek(3)[:3] == b"\xef\xbb\xbf":  # type: ignore[attr-defined]
                stream.read(3)
            yield from csv_items(stream, "\t" if b"\t" in line else ",", longest=LONGEST_LINE, shown=str(path))
            return
    yield from file_items(path, shown=str(path))


def _format_of(item: Item) -> LogFormat | None:
    return next((form for form in FORMATS if isinstance(item.row, Mapping) and form.recognises(item.row)), None)


def _known_forms() -> str:
    return f"Known are {'; '.join(f'{form.name} by {form.wants}' for form in FORMATS)}"


def _named(logs: Sequence[Log], name: str, path: Path) -> list[Log]:
    """Return the logs under the name that was given; one name cannot stand for several systems."""
    systems = list(dict.fromkeys(one.system for one in logs))
    if not name:
        return list(logs)
    if len(systems) > 1:
        raise RequestError(
            f"{path} holds the systems {', '.join(systems)}, so {name}= cannot be the name of all. Leave the name out"
        )
    return [replace(one, system=name) for one in logs]
