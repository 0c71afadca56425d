"""`make grade`: grade a file of completions without any model, and say how far the grades agree with its labels.

A line is a JSON object in one of two forms, either with an optional `label` (right or wrong as true/false, 1/0 or a score):

    {"completion": "… Answer: 14", "answers": ["14"], "prompt": "…"}
    {"item": {"reference_answer": "14"}, "sample": {"output_text": "… Answer: 14"}}
"""

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, NoReturn

from rich.console import Console
from rich.table import Table
from rich.text import Text

from posttrain.errors import DataError, RequestError
from posttrain.graders import Grade, Grader, Sample, build_grader
from posttrain.graders.interface import nearest, shortened
from posttrain.graders.tally import Tally
from posttrain.printable import printable
from posttrain.statistics.intervals import Interval
from tasks.rewards.sources.grader import read_grader
from tasks.workspace.disk import storage_errors
from tasks.workspace.paths import Paths

BATCH = 512
"""Completions in memory at once."""
LONGEST_LINE = 16 * 2**20
"""Bytes of a line, at most."""
DISAGREEMENTS = 5
"""How many are printed; the audit table has them all."""
RIGHT_FROM = 0.5
"""A label given as a score counts as right from here."""


@dataclass(frozen=True)
class Line:
    """A line of the file, read."""

    number: int
    sample: Sample
    label: bool | None


@dataclass
class Report:
    """What grading a file came to."""

    grader: str
    file: Path
    audit: Path
    tally: Tally = field(default_factory=Tally)
    disagreements: list[tuple[Line, Grade]] = field(default_factory=list)


def grade_file(paths: Paths, *, grader: str, file: str, out: str = "", force: bool = False) -> Report:
    """Grade a file and write the audit table, a JSON object a line, which appears only once it is whole.

    Args:
        paths: of the repository.
        grader: a built-in grader's name, or the path of a JSON file of settings.
        file: JSON lines.
        out: where the audit table goes; "" for `reports/grades/<name of the file>.jsonl`.
        force: a file that `out` names may be replaced.

    Raises:
        RequestError: there is no such grader or file, the grader itself is wrong, or `out` may not be written.
        DataError: the file is empty, or a line is broken or lacks a field.
        StorageError: the audit table cannot be written.
    """
    built = load_grader(grader)
    source = Path(file)
    audit = _place_of(out, source, force=force) if out else paths.reports / "grades" / f"{source.stem}.jsonl"
    report = Report(grader=grader, file=source, audit=audit)
    lines = read_lines(source)
    batch = list(islice(lines, BATCH))
    if not batch:
        raise DataError(f"{source} has no lines, so there is nothing to grade")
    part = audit.with_name(f".{audit.name}.{os.getpid()}.part")
    with storage_errors("the audit table", audit.parent):
        audit.parent.mkdir(parents=True, exist_ok=True)
        try:
            # half a character of a foreign text cannot be encoded; it is written out, as everything else is as it stood
            with part.open("w", encoding="utf-8", errors="backslashreplace") as table:
                while batch:
                    _grade(batch, built, report, table)
                    batch = list(islice(lines, BATCH))
            part.replace(audit)
        finally:
            part.unlink(missing_ok=True)
    return report


def _place_of(out: str, source: Path, *, force: bool) -> Path:
    """Return where the audit table goes: what OUT names, behind links, unless something is there that it must not replace."""
    try:
        audit = Path(out).resolve()
        there = audit.stat() if audit.exists() else None
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a null byte, links in a circle
        raise RequestError(f"OUT={shortened(out, 60)} names no file: {error}") from None
    if there is None:
        return audit
    if not stat.S_ISREG(there.st_mode):
        kind = "a folder" if stat.S_ISDIR(there.st_mode) else "a device, pipe or socket"
        raise RequestError(f"OUT must name a regular file, got {out}, which is {kind}. Name another, or leave OUT out")
    if source.exists() and os.path.samestat(there, source.stat()):
        raise RequestError(f"the audit table would overwrite {source}: give another OUT")
    if not force:
        raise RequestError(f"OUT={out} is there already, and would be replaced. Name another file, or allow it: FORCE=1")
    return audit


def load_grader(name: str) -> Grader:
    """Return a built-in grader, or the one that a JSON file describes.

    Raises:
        RequestError: there is no such grader or file, or its settings are wrong.
    """
    return build_grader(read_grader(name, setting="GRADER") if name.endswith(".json") else name)


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a file, one in memory at a time; blank ones are passed over.

    Raises:
        RequestError: the file cannot be opened.
        DataError: a line is no JSON object, or lacks a field.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}. FILE names a file of JSON lines") from None
    with stream:
        for number, raw in enumerate(iter(lambda: stream.readline(LONGEST_LINE + 1), b""), 1):
            if len(raw) > LONGEST_LINE:
                _fail(path, number, f"is longer than {LONGEST_LINE // 2**20} MB")
            if raw.strip():
                yield _read(raw, path, number)


def _read(raw: bytes, path: Path, number: int) -> Line:
    try:
        row = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:
        _fail(path, number, f"is no JSON ({shortened(' '.join(str(error).split()), 100)})")
    if not isinstance(row, dict):
        _fail(path, number, f"must be a JSON object, got {shortened(repr(row), 60)}")
    record: dict[str, Any]
    if "sample" in row or ("item" in row and "completion" not in row):
        item, sample = row.get("item", {}), row.get("sample")
        if not isinstance(item, dict) or not isinstance(sample, dict) or "output_text" not in sample:
            _fail(path, number, 'item and sample must be objects, and sample must have "output_text"')
        completion, record = sample["output_text"], item
    else:
        if "completion" not in row:
            _fail(path, number, f"there is no field completion{nearest('completion', row, 'the fields')}")
        completion, record = (
            row["completion"],
            {name: value for name, value in row.items() if name not in ("completion", "label")},
        )
    if not isinstance(completion, str):
        _fail(path, number, f"the completion must be text, got {shortened(repr(completion), 60)}")
    return Line(number, Sample(completion, record), _label(row.get("label"), path, number))


def _label(value: Any, path: Path, number: int) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        _fail(path, number, f"label must be true, false or a number from 0 to 1, got {shortened(repr(value), 60)}")
    return bool(value >= RIGHT_FROM)


def _fail(path: Path, number: int, problem: str) -> NoReturn:
    raise DataError(f"{path} line {number}: {problem}. Correct or drop the line")


def _grade(batch: list[Line], grader: Grader, report: Report, table: IO[str]) -> None:
    try:
        grades = grader.grade([line.sample for line in batch])
    except (RequestError, DataError):
        _locate(batch, grader, report.file)
        raise
    for line, grade in zip(batch, grades, strict=True):
        report.tally.add(grade, line.label)
        if line.label not in (None, grade.is_right) and len(report.disagreements) < DISAGREEMENTS:
            report.disagreements.append((line, grade))
        label = {} if line.label is None else {"label": line.label}
        table.write(json.dumps({"line": line.number, **label, **grade.as_row()}, ensure_ascii=False) + "\n")


def _locate(batch: list[Line], grader: Grader, path: Path) -> None:
    """Grade a batch that failed line by line, and tell the failing line's number."""
    for line in batch:
        try:
            grader.grade([line.sample])
        except (RequestError, DataError) as error:
            raise type(error)(f"{path} line {line.number}: {error}") from None


def print_report(report: Report, console: Console | None = None) -> None:
    """Print what grading came to: the mean score, shares with intervals, agreement with labels, the first disagreements."""
    console = console or Console(highlight=False)
    tally = report.tally
    title = Text(printable(f"{report.file} by {report.grader}"))
    table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left", show_header=False)
    table.add_row("completions", f"{tally.count:,}")
    table.add_row("mean score", _interval(tally.mean_score(), scale=1, digits=3) or "one completion has no spread")
    for name, part in (("right", tally.right), ("partly paid", tally.partial), ("nothing extracted", tally.unextracted)):
        table.add_row(name, f"{part:,}   {_interval(tally.share(part), scale=100, digits=1)} %")
    for flag, count in tally.errors.most_common():
        table.add_row(f"flag {flag}", f"{count:,}")
    if tally.labelled:
        _add_agreement(table, tally)
    console.print(table)
    console.print(Text("in brackets: 95 % intervals over the lines, each taken for a question of its own", style="dim"))
    for line, grade in report.disagreements:
        console.print(Text(printable(_disagreement(line, grade))))
    console.print(Text(printable(f"every decision: {report.audit}")), soft_wrap=True)


def _add_agreement(table: Table, tally: Tally) -> None:
    accuracy, kappa = tally.agreeing / tally.labelled, tally.kappa()
    table.add_row("labelled", f"{tally.labelled:,}")
    table.add_row("agreement", f"{100 * accuracy:.1f} % ({tally.labelled - tally.agreeing:,} disagreements)")
    undefined = "undefined: grader or labels say the same of every line"
    table.add_row("Cohen's kappa", undefined if kappa is None else f"{kappa:.3f}")
    table.add_row("right, label says wrong", f"{tally.table[False, True]:,}")
    table.add_row("wrong, label says right", f"{tally.table[True, False]:,}")


def _disagreement(line: Line, grade: Grade) -> str:
    said = "right" if grade.is_right else "wrong"
    wanted = ", ".join(shortened(text, 60) for text in grade.compared_with)
    found = "nothing" if grade.extracted is None else repr(shortened(grade.extracted, 60))
    return (
        f"line {line.number}: label {'right' if line.label else 'wrong'}, grader {said}: {found} against {wanted}: {grade.reason}"
    )


def _interval(interval: Interval | None, *, scale: float, digits: int) -> str:
    if interval is None:
        return ""
    low, high = scale * interval.low, scale * interval.high
    return f"{scale * interval.estimate:.{digits}f} [{low:.{digits}f}–{high:.{digits}f}]"
