"""The gate between data and training: which rows may be used, which are put aside, and whether to go on at all.

`posttrain/data/facts.py` computes plain facts a row, the suites in `data/expectations/` say which values are fit, Great
Expectations judges. A critical finding puts the row into `quarantine.jsonl`; too many of them close the gate. A warning
only tells. Text is read in chunks and passed on byte for byte; only facts stay in memory.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from posttrain.data.facts import FactTable, HeldOut
from posttrain.errors import DataError
from posttrain.prompts import plain
from posttrain.records import KIND_OF_ROLE, Prompt, Record
from posttrain.settings.data import ValidationSettings
from tasks.validation.lengths import context_needed, lengths_of
from tasks.validation.page import page
from tasks.validation.report import QUARANTINE, RoleReport, ValidationReport, as_json
from tasks.validation.suite import Example, Expectation, Judge, Outcome, load_suite

CHUNK_ROWS = 20_000
"""Rows whose text is in memory at once."""
HELD_OUT = ("held_out", "held_out_preferences")


def validate(
    folder: Path,
    out: Path,
    *,
    settings: ValidationSettings,
    expectations: Path,
    count_tokens: Callable[[list[str]], list[int]],
    context: int,
    dataset: str,
    prompt_text: Callable[[Prompt], str] = plain,
    end_tokens: int = 0,
) -> ValidationReport:
    """Judge a dataset and write what may be used, what may not, and why.

    Args:
        folder: `data/<name>/`, with one file a role.
        out: an empty folder; receives `<role>.jsonl` (the rows that passed, byte for byte), `quarantine.jsonl`,
            `validation.json` and `validation.html`.
        settings: when the gate closes.
        expectations: folder of the suites, one a kind of record.
        count_tokens: tokens of each text in the model in use.
        context: tokens of prompt and completion together, at most.
        dataset: the dataset's name, for the page.
        prompt_text: the text that stands before a completion in the model in use.
        end_tokens: what a completion has beyond what `count_tokens` finds in its text (`posttrain.data.facts.token_facts`).

    Returns:
        The report; where its `passed` is False the caller raises `DataError(refusal(report))`.

    Raises:
        DataError: there is nothing to read, a line is no record of its kind, or a suite is broken.
    """
    paths = role_files(folder)
    parameters = {**settings.model_dump(), "context": context}
    kinds = {KIND_OF_ROLE[role].__name__.lower() for role in paths}
    suites = {kind: load_suite(expectations / f"{kind}.json", parameters=parameters) for kind in sorted(kinds)}
    tokens = {"count_tokens": count_tokens, "prompt_text": prompt_text, "end_tokens": end_tokens}
    judge, held_out, reports = Judge(parameters=parameters), HeldOut(), {}
    with (out / QUARANTINE).open("wb") as quarantine:
        for role in sorted(paths, key=lambda role: role not in HELD_OUT):
            suite = suites[KIND_OF_ROLE[role].__name__.lower()]
            table = _facts(paths[role], role, suite, tokens=tokens, held_out=held_out)
            if role in HELD_OUT:
                held_out = _joined(held_out, table.held_out(f"{role}.jsonl"))
            columns = table.columns()
            outcomes, reasons = judge.judge(columns, suite) if table.rows else ([], {})
            share = settings.max_critical_share
            needed = context_needed(columns, suite, reasons, share=share) if reasons else 0
            outcomes = _divide(paths[role], role, out=out, quarantine=quarantine, outcomes=outcomes, reasons=reasons)
            lengths = lengths_of(columns, reasons)
            reports[role] = RoleReport(role, table.rows, len(reasons), share, tuple(outcomes), needed, lengths)
    stray = tuple(sorted(path.name for path in folder.glob("*.jsonl") if path.stem not in KIND_OF_ROLE))
    report = ValidationReport(dataset, folder, out, context, tuple(reports[role] for role in paths), stray)
    _write_report(report)
    return report


def role_files(folder: Path) -> dict[str, Path]:
    """Return the file of each role that the dataset has.

    Raises:
        DataError: there is none.
    """
    paths = {role: folder / f"{role}.jsonl" for role in KIND_OF_ROLE if (folder / f"{role}.jsonl").is_file()}
    if not paths:
        raise DataError(
            f"{folder} holds none of {', '.join(f'{role}.jsonl' for role in KIND_OF_ROLE)}:"
            " make the data with make data, or import them with make import"
        )
    return paths


def read_records(path: Path, *, kind: type[Record]) -> Iterator[list[Record]]:
    """Yield the records of a file in chunks of at most `CHUNK_ROWS`.

    Raises:
        DataError: a line is not UTF-8, not JSON, or no record of this kind.
    """
    with path.open("rb") as file:
        chunk = []
        for number, line in enumerate(file, start=1):
            try:
                chunk.append(kind.model_validate_json(line))
            except ValidationError as error:
                chunk.append(_second_look(line, error, kind=kind, place=f"{path} line {number}"))
            if len(chunk) == CHUNK_ROWS:
                yield chunk
                chunk = []
        if chunk:
            yield chunk


def _second_look(line: bytes, error: ValidationError, *, kind: type[Record], place: str) -> Record:
    """Return the record with U+FFFD for lone surrogates, which the strict parser takes for broken JSON, or say what is wrong."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as wrong:
        byte = f"byte 0x{line[wrong.start]:02x} at position {wrong.start}"
        raise DataError(f"{place} is not UTF-8 ({byte}): save the file as UTF-8, then run again") from None
    if text.startswith("\ufeff"):
        raise DataError(f"{place} begins with a byte order mark: save the file as UTF-8 without one, then run again")
    if not text.strip():
        raise DataError(f"{place} is empty: every line must hold one JSON object. Delete the line, then run again")
    problem = error.errors(include_url=False)[0]
    if problem["type"] != "json_invalid":
        raise DataError(f"{place} is no {kind.__name__.lower()}: {_sentence(problem)}. Mend or drop the line, then run again")
    try:
        whole = json.dumps(json.loads(text), ensure_ascii=False)
        return kind.model_validate_json(re.sub("[\ud800-\udfff]", "\ufffd", whole))
    except ValidationError as still:
        sentence = _sentence(still.errors(include_url=False)[0])
        raise DataError(f"{place} is no {kind.__name__.lower()}: {sentence}. Mend or drop the line, then run again") from None
    except ValueError as broken:
        raise DataError(
            f"{place} is not JSON ({broken}): every line must hold one JSON object. Mend or drop it, then run again"
        ) from None


def _sentence(problem: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    says = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else problem["msg"][0].lower() + problem["msg"][1:]
    return f"{name}: {says}" if name else says


def _facts(path: Path, role: str, suite: Sequence[Expectation], *, tokens: Mapping[str, Any], held_out: HeldOut) -> FactTable:
    kind = KIND_OF_ROLE[role]
    texts = {name for expectation in suite for name in expectation.columns} & set(kind.model_fields) - {"margin", "completions"}
    secret = HeldOut() if role in HELD_OUT else held_out
    table = FactTable(kind, held_out=secret, texts=sorted(texts), **tokens)
    for chunk in read_records(path, kind=kind):
        table.add(chunk)
    return table


def _joined(first: HeldOut, second: HeldOut) -> HeldOut:
    return HeldOut({**second.prompts, **first.prompts}, {**second.families, **first.families})


def _divide(
    path: Path,
    role: str,
    *,
    out: Path,
    quarantine: BinaryIO,
    outcomes: Sequence[Outcome],
    reasons: Mapping[int, list[str]],
) -> list[Outcome]:
    """Copy each line to where it belongs, and return the outcomes with what stands in their examples."""
    wanted = {example.line for outcome in outcomes for example in outcome.examples}
    shown: dict[int, dict[str, Any]] = {}
    with path.open("rb") as file, (out / path.name).open("wb") as passed:
        for number, line in enumerate(file, start=1):
            if number in wanted:
                shown[number] = json.loads(line)
            if number not in reasons:
                passed.write(line)
                continue
            head = {"role": role, "file": path.name, "line": number, "id": json.loads(line)["id"], "reasons": reasons[number]}
            quarantine.write(json.dumps(head).encode()[:-1] + b', "row": ' + line.strip() + b"}\n")
    return [
        replace(outcome, examples=tuple(_with_texts(example, shown[example.line]) for example in outcome.examples))
        for outcome in outcomes
    ]


def _with_texts(example: Example, row: Mapping[str, Any]) -> Example:
    """Return the example with the id and the beginning of each text of its row, unprintable characters made visible."""
    texts = {}
    for name, value in row.items():
        if name in ("id", "kind") or value is None:
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        visible = "".join(char if char.isprintable() or char == "\n" else f"\\u{ord(char):04x}" for char in text[:240])
        texts[name] = visible + "…" * (len(text) > 240)
    return replace(example, id=str(row["id"]).encode("utf-8", "replace").decode(), texts=texts)


def _write_report(report: ValidationReport) -> None:
    text = json.dumps(as_json(report), indent=2, ensure_ascii=False)
    (report.out / "validation.json").write_text(text + "\n", encoding="utf-8")
    (report.out / "validation.html").write_text(page(report), encoding="utf-8")
