"""The suites of `data/expectations/` and Great Expectations, which judges a table of facts by them.

A suite has Great Expectations' own form; `meta.severity` (critical or warning) and `meta.says` (the sentence for people, about a
row that fails) are ours. `{"$PARAMETER": "context"}` stands for `model.context`, and so does every `validation.` setting's name.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from posttrain.errors import DataError, did_you_mean

SHOWN = 5
"""Failing rows that are named in messages, at most; the quarantine file has all."""


@dataclass(frozen=True)
class Expectation:
    """One entry of a suite; `place` says where it stands, for messages."""

    type: str
    kwargs: Mapping[str, Any]
    severity: str
    says: str
    place: str

    @property
    def columns(self) -> list[str]:
        """The facts that it names; none where it judges the table."""
        names = [self.kwargs[name] for name in ("column", "column_A", "column_B") if name in self.kwargs]
        return names + [name for key in ("column_list", "column_set") for name in self.kwargs.get(key) or ()]


@dataclass(frozen=True)
class Example:
    """A failing row: its line, what was found there (`detail`), its id and the beginnings of its texts."""

    line: int
    detail: str
    id: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of one expectation: `unexpected` rows fail it, or `observed` is the value that a whole column has."""

    expectation: Expectation
    holds: bool
    unexpected: int = 0
    observed: str | None = None
    examples: tuple[Example, ...] = ()

    @property
    def is_critical(self) -> bool:
        """Whether it does not hold and must."""
        return not self.holds and self.expectation.severity == "critical"


def great_expectations() -> ModuleType:
    """Return the library: imported late, for it takes two seconds."""
    with warnings.catch_warnings():
        # It imports sre_constants and sre_parse, which Python 3.11 deprecates.
        warnings.filterwarnings("ignore", "module 'sre_", DeprecationWarning)
        import great_expectations
    return great_expectations


def load_suite(path: Path, *, parameters: Mapping[str, Any]) -> list[Expectation]:
    """Read a suite, with `{context}` and other parameters' names in the sentences replaced by their values.

    Raises:
        DataError: the file is missing, is not JSON, or an entry has not the form that Great Expectations and we need.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["expectations"]
    except FileNotFoundError:
        raise DataError(f"there is no {path}: every kind of record needs a suite. Restore it: git checkout {path}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no suite: {error!r}. It must be JSON: an object with a list `expectations`") from None
    return [
        _expectation(entry, place=f"{path}, expectation {number}", parameters=parameters)
        for number, entry in enumerate(entries, start=1)
    ]


def _expectation(entry: Any, *, place: str, parameters: Mapping[str, Any]) -> Expectation:
    try:
        kind, kwargs, meta = entry["type"], dict(entry["kwargs"]), entry["meta"]
        severity, says = meta["severity"], str(meta["says"])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{place} needs type, kwargs, meta.severity and meta.says, got {json.dumps(entry)}") from None
    if severity not in ("critical", "warning"):
        raise DataError(
            f"{place}: meta.severity must be critical or warning, got {severity}{did_you_mean(severity, ('critical', 'warning'))}"
        )
    for value in kwargs.values():
        name = value.get("$PARAMETER") if isinstance(value, dict) else None
        if name is not None and name not in parameters:
            raise DataError(
                f"{place}: there is no parameter {name}{did_you_mean(name, parameters)}; there are {', '.join(parameters)}"
            )
    for name, value in parameters.items():
        says = says.replace(f"{{{name}}}", percent(value) if name.endswith("_share") else f"{value:,}")
    expectation = Expectation(type=kind, kwargs=kwargs, severity=severity, says=says, place=place)
    _native(expectation, position=0)
    return expectation


def _native(expectation: Expectation, *, position: int) -> Any:
    great_expectations()
    from great_expectations.compatibility.pydantic import ValidationError
    from great_expectations.exceptions.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.registry import get_expectation_impl, list_registered_expectation_implementations

    try:
        return get_expectation_impl(expectation.type)(**expectation.kwargs, meta={"position": position})
    except ExpectationNotFoundError:
        nearest = did_you_mean(expectation.type, list_registered_expectation_implementations())
        raise DataError(f"{expectation.place}: Great Expectations has no {expectation.type}{nearest}") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise DataError(f"{expectation.place} ({expectation.type}) does not fit its type: {problems}") from None


def percent(share: float) -> str:
    """Return a share as people read it, never 0 % for something: "91.2 %", "0.08 %"."""
    value = 100 * share
    return f"{value:.3g} %" if value >= 1 else f"{value:.2g} %"


class Judge:
    """Great Expectations, set up in memory once for all files of a dataset."""

    def __init__(self, *, parameters: Mapping[str, Any]) -> None:
        """Set it up, without progress bars and without a project folder."""
        self._library = great_expectations()
        from great_expectations.data_context.types.base import ProgressBarsConfig

        context = self._library.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("records").add_dataframe_asset("facts")
        self._rows = asset.add_batch_definition_whole_dataframe("all")
        self._parameters = dict(parameters)

    def judge(self, facts: Mapping[str, Any], suite: Sequence[Expectation]) -> tuple[list[Outcome], dict[int, list[str]]]:
        """Judge a table by a suite: cheaply first, row by row only where something failed.

        Args:
            facts: a column a fact, all of one length; row 0 is line 1 of the file.
            suite: what is expected.

        Returns:
            The outcome of each expectation, and the reasons against each line with a critical finding.

        Raises:
            DataError: an expectation names a fact that there is not, or cannot be computed on it.
        """
        import pandas as pd

        for expectation in suite:
            for name in expectation.columns:
                if name not in facts:
                    hint = did_you_mean(name, facts) or f"; there are {', '.join(facts)}"
                    raise DataError(f"{expectation.place}: these rows have no fact {name}{hint}")
        table = pd.DataFrame(dict(facts))
        table.index = pd.RangeIndex(1, len(table) + 1)
        batch = self._rows.get_batch(batch_parameters={"dataframe": table})
        holds = {position: result.success for position, result in self._run(batch, suite, range(len(suite)), "BOOLEAN_ONLY")}
        failed = [position for position, success in holds.items() if not success]
        details = dict(self._run(batch, suite, failed, "COMPLETE")) if failed else {}
        outcomes, reasons = [], dict[int, list[str]]()
        for position, expectation in enumerate(suite):
            if holds[position]:
                outcomes.append(Outcome(expectation, holds=True))
                continue
            outcomes.append(_outcome(expectation, details[position], facts=facts, reasons=reasons))
        return outcomes, reasons

    def _run(
        self, batch: Any, suite: Sequence[Expectation], positions: Sequence[int], result_format: str
    ) -> list[tuple[int, Any]]:
        natives = [_native(suite[position], position=position) for position in positions]
        asked = self._library.ExpectationSuite(name="asked", expectations=natives)
        results = batch.validate(asked, result_format=result_format, expectation_parameters=self._parameters).results
        for result in results:
            position = result.expectation_config.meta["position"]
            message = _exception(result.exception_info)
            if message is not None:
                expectation = suite[position]
                raise DataError(f"{expectation.place} ({expectation.type}) cannot be computed: {message}")
        return [(result.expectation_config.meta["position"], result) for result in results]


def _exception(info: Mapping[str, Any]) -> str | None:
    """Return the message of an exception, which the library keeps flat or by metric."""
    for entry in [info, *(value for value in info.values() if isinstance(value, Mapping))]:
        if entry.get("raised_exception") or ("raised_exception" not in entry and "exception_message" in entry):
            return str(entry["exception_message"])
    return None


def _outcome(expectation: Expectation, result: Any, *, facts: Mapping[str, Any], reasons: dict[int, list[str]]) -> Outcome:
    """Read one failed result, and note the reason against each failing line if it is critical."""
    lines = result.result.get("unexpected_index_list")
    if lines is None:
        observed = result.result.get("observed_value")
        shown = f"{observed:.4g}" if isinstance(observed, float) else str(observed)
        return Outcome(expectation, holds=False, observed=shown)
    column = expectation.kwargs.get("column", "")
    found = [(line, _detail(facts[column][line - 1], column) if column else "") for line in sorted(map(int, lines))]
    if expectation.severity == "critical":
        for line, detail in found:
            reasons.setdefault(line, []).append(expectation.says + detail)
    examples = tuple(Example(line=line, detail=detail.strip(" ()")) for line, detail in found[:SHOWN])
    return Outcome(expectation, holds=False, unexpected=len(found), examples=examples)


def _detail(value: Any, column: str) -> str:
    """Return the failing value as it is put behind the sentence; "" where the sentence says it all."""
    if column.endswith("_line"):
        return f" (line {int(value)})"
    if column.endswith("leaks_from"):
        return f" ({value})"
    if column.endswith(("_tokens", "margin")):
        return f" ({value:,.10g})"
    return ""


def suites_digest(folder: Path) -> str:
    """Return a digest of every suite, so that an edited expectation is a new validation."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.json")))).hexdigest()
