"""Labels of people: from a store that they filled, or those that lie beside the dataset (`data/<name>/labels.jsonl`)."""

from pathlib import Path

from posttrain.errors import DataError, RequestError
from posttrain.feedback.conversions import labels_on
from posttrain.records import Question
from posttrain.settings.feedback import LabelSettings
from tasks.feedback.agreement import write_labels
from tasks.feedback.given import GivenLabels
from tasks.feedback.store import read_store
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import read_rows, required


def label(out: Path, log: Log, *, samples: Path | None, data: Path, settings: LabelSettings, model_uri: str) -> Outcome:
    """Take the labels of a store that people filled (docs/feedback.md), as many as the budget buys.

    Args:
        out: where the labels go.
        log: not used: this stage has no curve.
        samples: artifact whose samples the responses must be among; None where they come from elsewhere.
        data: dataset whose questions the labels must name.
        settings: with the store's file.
        model_uri: of the model that wrote the samples, for labels that do not say it.

    Raises:
        RequestError: no file is set, or it cannot be read.
        DataError: a line of it cannot be used; nothing is written then.
    """
    if not settings.file:
        raise RequestError('labels.source=people needs the store of labels: SET="labels.source=people labels.file=…"')
    questions = {question.id: question for question in required(data, "questions", Question, why="labels are given on")}
    responses = None if samples is None else _responses(samples)
    ended = responses or {}
    labels = read_store(Path(settings.file), questions=questions, responses=responses)
    writer = model_uri if samples else ""
    return write_labels(
        out,
        [
            each.model_copy(
                update={
                    "family": questions[each.question].family,
                    "first_model": each.first_model or writer,
                    "second_model": each.second_model or writer,
                    "first_finished": ended.get(each.question, {}).get(each.first, each.first_finished),
                    "second_finished": ended.get(each.question, {}).get(each.second, each.second_finished),
                }
            )
            for each in labels[: settings.budget or None]
        ],
    )


def label_given(out: Path, log: Log, *, people: GivenLabels, data: Path, settings: LabelSettings) -> Outcome:
    """Take the labels of people that lie beside the dataset, as many as the budget buys.

    Labels of questions that the dataset has no more are passed over; the metric `passed_over` counts them.

    Args:
        out: where the labels go.
        log: not used: this stage has no curve.
        people: what they said.
        data: dataset, behind the data gate.
        settings: with the budget.

    Raises:
        DataError: the gate put aside every question that they labelled.
    """
    labels = labels_on(people.labels, required(data, "questions", Question, why="labels are given on"))
    if not labels:
        raise DataError(
            f"the data gate put aside every question that people labelled ({len(people.labels):,} labels), so nothing is left "
            'to learn from. Correct those rows (make validate), or let others label: SET="labels.source=simulated"'
        )
    outcome = write_labels(out, labels[: settings.budget or None])
    passed_over = people.passed_over + len(people.labels) - len(labels)
    return Outcome(metrics={**outcome.metrics, "passed_over": passed_over}, costs=outcome.costs)


def _responses(samples: Path) -> dict[str, dict[str, bool]]:
    """Return by question its samples, each with whether it ended by itself."""
    return {row["question"]["id"]: dict(row["responses"]) for row in read_rows(samples / "samples.jsonl")}
