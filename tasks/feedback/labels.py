"""Labels as the stage `label` leaves them, whoever labels (`tasks/feedback/sources/`): one `Label` a line of `labels.jsonl`."""

from pathlib import Path

from posttrain.feedback.labels import Label
from tasks.workspace.jsonl import read_records

LABELS = "labels.jsonl"


def read_labels(folder: Path) -> list[Label]:
    """Return the labels of a finished stage."""
    return list(read_records(folder / LABELS, Label))
