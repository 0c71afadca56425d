"""The end of a batch: its labels become part of a version of the dataset."""

from dataclasses import dataclass

from posttrain.feedback.agreement import Agreement
from tasks.labelling.batches import Batch
from tasks.workspace.paths import Paths


@dataclass(frozen=True)
class Finished:
    """What became of a batch.

    Attributes:
        labels: that it made.
        new: of them, those that the dataset did not have.
        md5: version of the dataset with them.
        agreement: what the batch's labels say of its annotators.
    """

    labels: int
    new: int
    md5: str
    agreement: Agreement


def finish_batch(paths: Paths, batch: Batch, *, force: bool = False) -> Finished:
    """Make the labels of a batch a part of its dataset; to come."""
    raise NotImplementedError
