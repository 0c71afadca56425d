"""Two responses as somebody is shown them who says which is better."""

from dataclasses import dataclass

from posttrain.records import Question


@dataclass(frozen=True)
class Pair:
    """Two responses to one question, in the order shown, and what a noise-free judge says of them.

    Attributes:
        question: that both answer.
        first: the response shown first.
        second: the response shown second.
        gold: probability that the first is better, as the answers tell; None where nobody knows.
        first_model: URI of the model that wrote `first`.
        second_model: URI of the model that wrote `second`.
        first_finished: whether `first` ended by itself.
        second_finished: whether `second` did.
    """

    question: Question
    first: str
    second: str
    gold: float | None
    first_model: str
    second_model: str
    first_finished: bool
    second_finished: bool
