"""The kinds of record that a dataset is made of, one JSON object a line.

A dataset folder `data/<name>/` holds one file a role; each role has one kind:

    role (file <role>.jsonl)     kind             used for
    corpus                       text             making the tiny base and its tokenizer
    demonstrations               demonstration    SFT
    questions                    question         prompts to sample from, and checkable answers
    preferences                  preference       DPO, where people's pairs were imported
    ratings, rankings            rating, ranking  imported feedback; becomes preferences
    held_out                     question         evaluation only, never trained on
    held_out_preferences         preference       evaluation only
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    role: Literal["system", "user", "assistant", "tool"]
    content: str


Prompt = str | tuple[Message, ...]


class Row(BaseModel):
    """What every line of our files has: an `id` that is unique in its file, and the `family` that a split must not tear apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    family: str | None = None


class Record(Row):
    """A row of a dataset.

    `held_out` is true where whoever published the data keeps the record for evaluation; no other record of its dataset is held
    out then.
    """

    held_out: Literal[True] | None = None


class Text(Record):
    """A document of the pretraining corpus."""

    kind: Literal["text"] = "text"
    text: str


class Demonstration(Record):
    """A prompt with the completion to imitate; `answer` is the final answer where one can be checked."""

    kind: Literal["demonstration"] = "demonstration"
    prompt: Prompt
    completion: str
    answer: str | None = None


class Question(Record):
    """A prompt whose final answer can be checked against any of `answers` (empty: nothing to check against).

    `reference` is a completion that people gave it, held out with it: evaluation asks how likely a model finds it.
    """

    kind: Literal["question"] = "question"
    prompt: Prompt
    answers: tuple[str, ...] = ()
    reference: str | None = None


class Preference(Record):
    """Two completions of one prompt, of which `annotator` chose one, by `margin` (any positive unit) where it is known.

    A completion that was cut off at the limit of its length has `chosen_finished` or `rejected_finished` false, so that nothing
    learns that a text ends there; None where it is not known, and then it is taken for finished.
    """

    kind: Literal["preference"] = "preference"
    prompt: Prompt
    chosen: str
    rejected: str
    annotator: str | None = None
    margin: float | None = None
    chosen_finished: bool | None = None
    rejected_finished: bool | None = None


class Rating(Record):
    """One completion scored on the scale `low`..`high`."""

    kind: Literal["rating"] = "rating"
    prompt: Prompt
    completion: str
    score: float
    low: float = 0.0
    high: float = 1.0
    annotator: str | None = None

    @model_validator(mode="after")
    def _on_the_scale(self) -> "Rating":
        if not self.low <= self.score <= self.high:
            raise ValueError(f"score must lie between {self.low:g} and {self.high:g}, got {self.score:g}")
        return self


class Ranking(Record):
    """K completions of one prompt with a rank each, 1 the best; equal ranks are ties."""

    kind: Literal["ranking"] = "ranking"
    prompt: Prompt
    completions: tuple[str, ...]
    ranks: tuple[int, ...]
    annotator: str | None = None

    @model_validator(mode="after")
    def _one_rank_each(self) -> "Ranking":
        if len(self.completions) != len(self.ranks):
            raise ValueError(f"{len(self.completions)} completions need as many ranks, got {len(self.ranks)}")
        return self


AnyRecord = Annotated[Text | Demonstration | Question | Preference | Rating | Ranking, Field(discriminator="kind")]
ANY_RECORD: TypeAdapter[AnyRecord] = TypeAdapter(AnyRecord)

KIND_OF_ROLE: dict[str, type[Record]] = {
    "corpus": Text,
    "demonstrations": Demonstration,
    "questions": Question,
    "preferences": Preference,
    "ratings": Rating,
    "rankings": Ranking,
    "held_out": Question,
    "held_out_preferences": Preference,
}
