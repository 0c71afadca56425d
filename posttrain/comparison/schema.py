"""The record of a comparison, schema `posttrain.comparison/1`: every field with its type, its unit and what null means.

docs/comparison.md is made of these declarations (posttrain/comparison/schema_page.py). A field that is taken away or changes its
meaning makes version 2; a field that is added does not.
"""

from typing import Any, Literal

from pydantic import Field

from posttrain.comparison.fields import Bounds, Count, Number, Part, SeedBounds
from posttrain.comparison.method_fields import MethodPart

SCHEMA: Literal["posttrain.comparison/1"] = "posttrain.comparison/1"

VerdictName = Literal["better", "worse", "equal", "undecided", "disagree"]


class Failed(Part):
    """A run that did not finish."""

    method: str
    """Name of the method."""
    seed: int
    """Of the run."""
    error: str
    """What it said, whole sentence."""
    command: str | None = None
    """Runs it again."""
    run_id: str | None = None
    """MLflow run, if it came so far."""


class Dataset(Part):
    """The data that every run used."""

    name: str
    """Folder below `data/`."""
    md5: str | None = None
    """DVC's version of it."""
    questions: Count | None = None
    """Held-out questions that were scored."""
    files: dict[str, str] = Field(default_factory=dict)
    """Digest (md5) of each file by role."""
    is_simulated: bool = False
    """The data are made up: the offline default world."""


class Machine(Part):
    """Where it ran; null for what nobody knows."""

    cpu: str | None = None
    """Model of the processor."""
    cores: Count | None = None
    """Cores that could be used."""
    memory_gb: Number | None = None
    """Memory, GB of 10⁹ bytes."""
    platform: str | None = None
    """Operating system."""
    python: str | None = None
    """Version."""
    torch: str | None = None
    """Version."""
    gpu: str | None = None
    """Model of the accelerator; null where none was used."""
    workers: Count | None = None
    """Runs at a time."""
    threads: Count | None = None
    """Threads of a run."""


class Budget(Part):
    """What every method was given."""

    kind: str = "defaults"
    """`defaults` (each method at its own), `labels`, `tokens`, `flops` or `seconds`."""
    amount: Number | None = None
    """In the unit of the kind; of several the largest, at which the verdicts are; null for `defaults`."""


class DesignPart(Part):
    """What was declared before anything ran."""

    metric: str
    """Name of the primary metric, which decides."""
    metric_title: str
    """What it measures, in words."""
    unit: Literal["share", "nats", "score"]
    """Of the metric: `share` is 0..1 and told in points (0.01), `nats` and `score` are told as they are."""
    higher_is_better: bool
    """False for a loss. Differences are turned so that above 0 always means better; levels are never turned."""
    reference: str
    """Method that the others are compared with."""
    seeds: list[int]
    """All that any method finished."""
    questions: Count
    """Held-out questions."""
    samples: Count
    """Samples a question, beside the greedy answer; 0 where nothing was sampled."""
    confidence: Number
    """Of every interval, in 0..1."""
    margin: Number
    """δ: two methods count as equal where their difference lies within ±δ. Unit of the metric."""
    correction: str
    """For several comparisons: `holm`, within each family of pairs and over all groups of questions."""
    budget: Budget
    """What every method was given."""
    tune: Count
    """Trials that each method was given to choose its settings; 0 for none."""
    covers: str
    """What the intervals cover, a sentence that stands wherever they do."""


class Need(Part):
    """A design that would show an effect with 80 % power."""

    effect: Number
    """In the metric's unit."""
    seeds: Count
    """Of each method."""
    questions: Count
    """Held out."""


class Pair(Part):
    """Two methods: the difference a − b, turned so that above 0 means a is better, in the metric's unit."""

    a: str
    """Name of the first."""
    b: str
    """Name of the second."""
    methods: list[str]
    """Both names."""
    family: Literal["reference", "best", "all"]
    """Each with the reference; the best with each; every pair. Holm's correction is within a family."""
    seeds: list[int]
    """That both have; the pair is compared on these."""
    estimate: Number
    """Mean difference."""
    low: Number
    """Of the interval that is drawn: seed variance pooled over all methods."""
    high: Number
    """Of the same."""
    low_decides: Number
    """Of the interval that decides: the larger of the pair's own and the pooled seed variance."""
    high_decides: Number
    """Of the same."""
    p: Number
    """Of the deciding test, two-sided."""
    p_holm: Number
    """After Holm's correction within the family."""
    smallest_effect: Number | None = None
    """Effect that this design sees with 80 % power; null where no difference varies."""
    degrees: Number | None = None
    """Degrees of freedom of the deciding test (Satterthwaite); null where no difference varies."""
    verdict: VerdictName
    """`better` and `worse`: after correction; `equal`: within ±margin; `undecided`; `disagree`: seeds have different signs."""
    words: str
    """The verdict as a person says it."""
    per_seed: list[SeedBounds]
    """Paired difference of each seed; intervals over questions only."""
    needs: list[Need]
    """Where undecided: what would show an effect of the margin, and of the estimate."""


class GroupGain(Bounds):
    """Gain of one method over the reference in one group of questions; the interval is the drawn one."""

    p: Number
    """Of the deciding test."""
    p_holm: Number
    """After Holm's correction over all groups and methods."""
    verdict: VerdictName
    """As in `pairs`."""


class Group(Part):
    """One group of questions."""

    name: str
    """In words."""
    questions: Count
    """In it."""
    methods: dict[str, GroupGain]
    """By name; the reference has none."""


class Groups(Part):
    """Where the gain comes from."""

    by: str
    """Grouping: `family`, `numbers` or `length`."""
    title: str
    """What it is, in words."""
    groups: list[Group]
    """In order."""


class Answer(Part):
    """One method's greedy answer to a question."""

    seed: int
    """Of the model that answered."""
    text: str | None = None
    """The answer; null where it was not kept."""
    is_right: bool | None = None
    """Null where nothing says so."""
    score: Number
    """The metric of this answer, in its own direction."""


class AnswerRow(Part):
    """One question on which methods differ."""

    id: str
    """Of the question."""
    prompt: str
    """Plain text."""
    answers: list[str]
    """That count as right."""
    by: dict[str, Answer]
    """By name of the method."""


class Level(Part):
    """One run at one amount of the budget, a point of the curve of quality over budget."""

    amount: Number
    """Of the budget, in the unit of its kind."""
    method: str
    """Name of the method; one that could not keep to this amount has no row."""
    seed: int
    """Of the run."""
    value: Number
    """Of the primary metric, in its own direction."""
    used: Number
    """What the run really used, in the unit of the budget's kind."""


class MlflowPlace(Part):
    """The comparison's own run."""

    experiment_id: str
    """Of the experiment."""
    run_id: str
    """Of the run."""
    url: str | None = None
    """Its page, while `make ui` runs."""


class Record(Part):
    """The whole record. Shares are in 0..1, times in seconds; what is undefined is null."""

    schema_name: Literal["posttrain.comparison/1"] = Field(default=SCHEMA, alias="schema")
    """Name and version of this form."""
    id: str
    """Of the comparison; name of its folder."""
    created: str
    """ISO 8601 time."""
    source: Literal["pipelines", "logs"]
    """Own runs, or files of other tools."""
    command: str
    """Makes it again."""
    verdict: str
    """The result in one sentence."""
    status: Literal["complete", "partial"]
    """`partial` where a run failed and the rest is compared."""
    failed: list[Failed]
    """Runs that did not finish."""
    dataset: Dataset | None = None
    """Null for logs."""
    machine: Machine | None = None
    """Null for logs."""
    git_commit: str | None = None
    """Of the code that compared."""
    version: str | None = None
    """Of posttrain."""
    seconds: Number | None = None
    """Wall time of the whole comparison."""
    design: DesignPart
    """What was declared before."""
    methods: list[MethodPart]
    """In the order in which they were asked for."""
    pairs: list[Pair]
    """Family by family."""
    groups: Groups | None = None
    """Gain over the reference by group of questions; null where the questions make no two groups of 20."""
    levels: list[Level] | None = None
    """Runs at every amount of a budget that has several, those of the largest, at which all verdicts are, included; else null."""
    answers: list[AnswerRow]
    """At most 60 questions, those on which methods differ most."""
    notes: list[str]
    """What a reader must know to read the numbers right; what runs say with other numbers stands once, with ranges."""
    warnings: list[str]
    """What may be wrong with them."""
    mlflow: MlflowPlace | None = None
    """Null for logs."""


def checked_record(found: dict[str, Any]) -> dict[str, Any]:
    """Return a record with every field of the schema, ready for JSON.

    Raises:
        pydantic.ValidationError: a field is missing, unknown, of another type, or no finite number.
    """
    return Record.model_validate(found).model_dump(mode="json", by_alias=True)
