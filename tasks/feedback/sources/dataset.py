"""Labels of the dataset: the preferences, rankings and ratings that it was imported with."""

from pathlib import Path

from posttrain.errors import DataError
from posttrain.feedback.conversions import Feedback, label_of_preference, labels_of_ranking, labels_of_ratings, question_names
from posttrain.records import Preference, Question, Ranking, Rating
from posttrain.settings.feedback import LabelSettings
from tasks.feedback.agreement import write_labels
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import R, has_rows, read_records


def label(out: Path, log: Log, *, data: Path, settings: LabelSettings) -> Outcome:
    """Take the dataset's preferences, rankings and ratings as labels, in this order, as many as the budget buys.

    A label goes under the question with its prompt, so that what a reward model learns from is known to PPO. Ratings without
    a partner, which make no label, are counted in the metric `unpaired_ratings`.

    Raises:
        DataError: the dataset has no feedback, or it makes no pair.
    """
    preferences = _rows(data, "preferences", Preference)
    rankings = _rows(data, "rankings", Ranking)
    ratings = _rows(data, "ratings", Rating)
    feedback: list[Feedback] = [*preferences, *rankings, *ratings]
    if not feedback:
        raise DataError(
            "the dataset has no preferences, ratings or rankings, which labels.source=dataset takes labels from. "
            "Import data that have them: make import FORMAT=… FILE=… NAME=…"
        )
    questions = question_names(feedback, _rows(data, "questions", Question))
    labels = [label_of_preference(record, questions=questions) for record in preferences]
    for ranking in rankings:
        labels += labels_of_ranking(ranking, questions=questions)
    rated, alone = labels_of_ratings(ratings, questions=questions)
    labels += rated
    if not labels:
        raise DataError(
            f"the dataset's {len(ratings)} ratings make no pair: no annotator rated two different completions of one prompt. "
            "Import preferences or rankings, or ratings of several completions a prompt"
        )
    outcome = write_labels(out, labels[: settings.budget or None])
    return Outcome(metrics={**outcome.metrics, "unpaired_ratings": len(alone)}, costs=outcome.costs)


def _rows(data: Path, role: str, kind: type[R]) -> list[R]:
    path = data / f"{role}.jsonl"
    return list(read_records(path, kind)) if has_rows(path) else []
