"""Who may label, as rows: what each is called, what it needs, and the stage's code; told without importing that code."""

from collections.abc import Mapping
from dataclasses import dataclass

from posttrain.report.audit import WHO


@dataclass(frozen=True)
class LabelSource:
    """A source of labels.

    Attributes:
        name: as `labels.source` has it, and the name of the file of its code.
        doing: what its stage does, in the words of the plan.
        takes: names of the arguments of its stage.
        settings: of `labels.*` that decide its labels.
        is_sampled: responses to the training questions are drawn for it first; else it brings its own.
        is_ai: a model judges, whose opinions are held beside somebody else's, and which may prefer its own responses.
        needs_answers: it knows which response is better from the questions' answers.
        needs_file: it reads the store of labels that `labels.file` names.
        function: of the stage, in that file.
    """

    name: str
    doing: str
    takes: tuple[str, ...]
    settings: tuple[str, ...]
    is_sampled: bool = True
    is_ai: bool = False
    needs_answers: bool = False
    needs_file: bool = False
    function: str = "label"

    @property
    def who(self) -> str:
        """What reports call those who labelled."""
        return WHO[self.name]

    @property
    def compute(self) -> str:
        """The stage's code, as module:function."""
        return f"tasks.feedback.sources.{self.name}:{self.function}"


PAIRED = ("pairs", "pairs_per_prompt", "budget")
"""Settings that decide which pairs are labelled."""
SOURCES: Mapping[str, LabelSource] = {
    row.name: row
    for row in (
        LabelSource(
            name="simulated",
            doing="simulated annotators compare samples",
            takes=("samples", "settings", "model_uri", "seed"),
            settings=(*PAIRED, "annotators", "flip_rate", "overlap", "ties"),
            needs_answers=True,
        ),
        LabelSource(
            name="dataset",
            doing="taking the dataset's own feedback",
            takes=("data", "settings"),
            settings=("budget",),
            is_sampled=False,
        ),
        LabelSource(
            name="judge",
            doing="the judge compares samples",
            takes=("samples", "judge", "settings", "findings", "model_uri", "seed"),
            settings=PAIRED,
            is_ai=True,
        ),
        LabelSource(
            name="people",
            doing="taking the labels of people",
            takes=("samples", "data", "settings", "model_uri"),
            settings=("file", "budget"),
            needs_file=True,
        ),
    )
}
"""By `labels.source`; `auto` is one of them."""

GIVEN = LabelSource(
    name="people",
    doing="taking the labels of people",
    takes=("people", "data", "settings"),
    settings=("budget",),
    is_sampled=False,
    function="label_given",
)
"""People again, whose labels lie beside the dataset with the responses that they were shown, and so take neither samples nor a
file that `labels.file` names."""
