"""Logs as the results of a comparison: seeds numbered, questions checked to be the same, epochs averaged within a question."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from posttrain.comparison.results import Design, MethodResult, Question, SeedResult
from posttrain.errors import DataError
from posttrain.finite import shown_value
from posttrain.statistics.clusters import Array
from tasks.comparison.logs.log import Log, Row

LOWER_IS_BETTER = (
    "loss", "nll", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter", "wer", "cer", "mse",
    "mae", "rmse", "error_rate",
)  # fmt: skip
"""Metrics of which less is better, by the name before any comma."""


def numbered(logs: Sequence[Log], notes: list[str]) -> list[Log]:
    """Return the logs with a seed each: the log's own where every file has one, else its place among those of its system.

    Raises:
        DataError: two logs of one system have the same seed, or different setups.
    """
    by_system: dict[str, list[Log]] = {}
    for one in logs:
        by_system.setdefault(one.system, []).append(one)
    is_told = all(one.seed is not None for one in logs) and all(
        len({one.seed for one in own}) == len(own) for own in by_system.values()
    )
    for system, own in by_system.items():
        other = next((one for one in own if one.setup != own[0].setup), None)
        if other is not None:
            raise DataError(
                f"{own[0].shown} and {other.shown} are both of {system}, with other tasks or settings, so they are no two seeds. "
                f'Name the systems: LOGS="one={own[0].shown} two={other.shown}"'
            )
    if not is_told and len(logs) > len(by_system):
        notes.append("seeds are numbered in the order of the logs, since not each log has a seed of its own")
    return [one if is_told else replace(one, seed=place) for own in by_system.values() for place, one in enumerate(own)]


def design_of(logs: Sequence[Log], *, reference: str, margin: float, confidence: float, lower_is_better: bool | None) -> Design:
    """Return the design of a comparison of logs: a share where every score lies in 0..1.

    Raises:
        DataError: the logs have different metrics.
    """
    first = logs[0]
    other = next((one for one in logs if one.metric != first.metric), None)
    if other is not None:
        raise DataError(
            f"{first.shown} is scored by {first.metric} and {other.shown} by {other.metric}, which do not compare. "
            "Choose a metric that both have: compare.metric"
        )
    is_lower = first.metric.partition(",")[0] in LOWER_IS_BETTER if lower_is_better is None else lower_is_better
    is_share = all(0 <= score <= 1 for one in logs for row in one.rows.values() for score in row.scores)
    return Design(
        metric=first.metric,
        metric_title=f"{first.metric} of {first.form}{', lower is better' if is_lower else ''}",
        unit="share" if is_share else "score",
        higher_is_better=not is_lower,
        reference=reference,
        confidence=confidence,
        margin=margin,
    )


def as_results(logs: Sequence[Log], design: Design, notes: list[str]) -> tuple[list[Question], list[MethodResult]]:
    """Return the questions in the order of the first log, and each system's results on them.

    Raises:
        DataError: two logs do not ask the same questions.
    """
    for other in logs[1:]:
        _check_same(logs[0], other)
    rows = list(logs[0].rows.values())
    questions = [Question(row.id, row.prompt, row.answers, row.group) for row in rows]
    by_system: dict[str, dict[int, SeedResult]] = {}
    for one in logs:
        result = _result(one, [row.id for row in rows], design)
        by_system.setdefault(one.system, {})[result.seed] = result
    epochs = {len(row.scores) for one in logs for row in one.rows.values()}
    if epochs != {1}:
        told = str(epochs.pop()) if len(epochs) == 1 else f"{min(epochs)} to {max(epochs)}"
        notes.append(f"each question was answered {told} times, and its score is the mean")
    notes += _copies(by_system)
    forms = {one.system: one.form for one in logs}
    methods = [
        MethodResult(name, name, f"a log of {forms[name]}; what it learned from is not in it", (), seeds)
        for name, seeds in by_system.items()
    ]
    return questions, methods


def _check_same(first: Log, other: Log) -> None:
    """Refuse another set of questions, or another question under the same id."""
    apart = [name for name in (*first.rows, *other.rows) if (name in first.rows) != (name in other.rows)]
    if apart:
        total = len({*first.rows, *other.rows})
        raise DataError(
            f"{first.shown} and {other.shown} do not hold the same questions: {len(apart)} of {total} stand in one of them only, "
            f"the first is {shown_value(apart[0])}. Evaluate both on one held-out set"
        )
    if first.form != other.form:
        return
    changed = [name for name, row in first.rows.items() if row.content != other.rows[name].content]
    if changed:
        raise DataError(
            f"{first.shown} and {other.shown} do not hold the same questions: {len(changed)} of {len(first.rows)} have the same "
            f"id and another content, the first is {shown_value(changed[0])}. Evaluate both on one held-out set"
        )


def _result(log: Log, order: Sequence[str], design: Design) -> SeedResult:
    rows = [log.rows[name] for name in order]
    scores = np.array([float(np.mean(row.scores)) for row in rows])
    texts = [row.text for row in rows]
    single = [row.scores[0] for row in rows if len(row.scores) == 1]
    is_marked = len(single) == len(rows) and set(single) <= {0.0, 1.0} and design.higher_is_better
    return SeedResult(
        seed=int(log.seed or 0),
        scores=scores if design.higher_is_better else 0.0 - scores,
        sampled=_sampled(rows, design),
        texts=None if any(text is None for text in texts) else [str(text) for text in texts],
        is_right=[score == 1 for score in single] if is_marked else None,
        run={"report": log.shown},
    )


def _sampled(rows: Sequence[Row], design: Design) -> Array | None:
    """Return the epochs as samples where there are several of each question, each right or wrong."""
    counts = {len(row.scores) for row in rows}
    if len(counts) != 1 or counts == {1} or not design.higher_is_better:
        return None
    table = np.array([row.scores for row in rows], dtype=np.float64)
    return table if bool(np.isin(table, (0.0, 1.0)).all()) else None


def _copies(by_system: dict[str, dict[int, SeedResult]]) -> list[str]:
    """Return a warning for each system of which two seeds answered every question alike, word for word."""
    found = []
    for system, seeds in by_system.items():
        given = [(tuple(one.texts), one.scores.tobytes()) for one in seeds.values() if one.texts is not None]
        if len(set(given)) < len(given):
            found.append(
                f"two seeds of {system} gave the same answer to every question: they look like one model run twice, "
                "and then the intervals are too narrow"
            )
    return found
