"""What people said of responses to a dataset's questions, as one version of the dataset has it, on its way into a stage."""

from dataclasses import dataclass

from posttrain.feedback.labels import Label


@dataclass(frozen=True)
class GivenLabels:
    """The labels of people of a dataset. They are handed to a stage as they were read, so that its key and its labels agree.

    Attributes:
        labels: of questions that the dataset has, one at least.
        passed_over: how many more there are of questions that it has no more.
        digest: md5 of the file that they lie in.
    """

    labels: tuple[Label, ...]
    passed_over: int
    digest: str
