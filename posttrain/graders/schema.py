"""The settings of every grader as JSON, compatible with OpenAI's graders; each default is written here, once.

Beyond OpenAI's: `answer`, `program`, `format`, a `pass_threshold` everywhere, and `on_error` of `python`.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticSerializationError, to_json

from posttrain.errors import RequestError
from posttrain.graders.extraction import Kind
from posttrain.graders.interface import nearest
from posttrain.graders.sandbox import Limits
from posttrain.graders.text import METRICS

OUTPUT = "{{sample.output_text}}"
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NOT_OFFERED = {
    "meteor": "it needs WordNet, which is not shipped here",
    "cosine": "it needs an embedding model; take score_model with a model of yours",
}


class Spec(BaseModel):
    """What every grader has."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: str = ""


class Tolerance(BaseModel):
    """How far two numbers may be apart: by `absolute`, or by the share `relative` of the right one, whichever is more."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    absolute: NotNegative = 0.0
    relative: NotNegative = 0.0


class PartialCredit(BaseModel):
    """What an answer earns that was extracted but is wrong, and whether that holds for numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    wrong: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    applies_to: Literal["numeric", "all"] = "numeric"


def _number_is(name: str) -> BeforeValidator:
    """Let a plain number stand for an object with one field."""
    return BeforeValidator(lambda given: {name: given} if isinstance(given, int | float) else given)


class Comparing(Spec):
    """How answers are compared: the same for a final answer and for what a program returns."""

    input: str = OUTPUT
    reference: Annotated[list[str] | None, BeforeValidator(lambda given: [given] if isinstance(given, str) else given)] = None
    kind: Kind = "auto"
    tolerance: Annotated[Tolerance, _number_is("absolute")] = Tolerance()
    percent: Literal["unit", "fraction"] = "unit"
    partial_credit: Annotated[PartialCredit, _number_is("wrong")] = PartialCredit()
    latex: bool = True
    latex_seconds: Annotated[float, Field(gt=0.0, le=60.0)] = 2.0


class AnswerSpec(Comparing):
    """A final answer against those that count as right; where a response is a program, what it returns is its answer."""

    type: Literal["answer"]
    marker: Literal["optional", "required"] = "optional"
    programs: Literal["run", "read"] = "run"


class ProgramSpec(Comparing):
    """A program's value against the answers. Floating-point results differ in their last digits, hence a tolerance."""

    type: Literal["program"]
    tolerance: Annotated[Tolerance, _number_is("absolute")] = Tolerance(absolute=1e-6, relative=1e-12)
    function: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] = "solution"
    limits: Limits = Limits()
    workers: Annotated[int, Field(ge=1, le=64)] = 2


class StringCheckSpec(Spec):
    """Two texts are equal, different, or one contains the other."""

    type: Literal["string_check"]
    input: str
    reference: str
    operation: Literal["eq", "ne", "neq", "like", "ilike"]


class TextSimilaritySpec(Spec):
    """How near a text is to its reference."""

    type: Literal["text_similarity"]
    input: str
    reference: str
    evaluation_metric: str
    pass_threshold: Share = 1.0

    @model_validator(mode="after")
    def _metric_is_offered(self) -> "TextSimilaritySpec":
        metric = self.evaluation_metric
        if metric in METRICS:
            return self
        why = f" ({NOT_OFFERED[metric]})" if metric in NOT_OFFERED else ""
        raise ValueError(f"evaluation_metric {metric} is not offered{why}{nearest(metric, METRICS, 'metrics')}")


class FormatSpec(Spec):
    """A text's form."""

    type: Literal["format"]
    input: str = OUTPUT
    pattern: str | None = None
    ends_with_answer: bool = False
    min_characters: Annotated[int, Field(ge=0)] | None = None
    max_characters: Annotated[int, Field(ge=0)] | None = None
    contains: list[str] = []
    lacks: list[str] = []
    is_json: bool = False
    score: Literal["all", "share"] = "all"


class Message(BaseModel):
    """A turn of what a model is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    role: Literal["system", "developer", "user", "assistant"]
    content: str


class ScoreModelSpec(Spec):
    """A number that a model gives, cut to `range`; right from `pass_threshold` (the range's upper end where it is left out)."""

    type: Literal["score_model"]
    model: str
    input: Annotated[list[Message], Field(min_length=1)]
    range: Annotated[list[Finite], Field(min_length=2, max_length=2)] = [0.0, 1.0]
    pass_threshold: Finite | None = None
    sampling_params: dict[str, Any] = {}

    @model_validator(mode="after")
    def _range_rises(self) -> "ScoreModelSpec":
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range must rise, got {self.range}")
        return self


class LabelModelSpec(Spec):
    """A label that a model gives; right where it is one of `passing_labels`."""

    type: Literal["label_model"]
    model: str
    input: Annotated[list[Message], Field(min_length=1)]
    labels: Annotated[list[str], Field(min_length=1)]
    passing_labels: Annotated[list[str], Field(min_length=1)]
    sampling_params: dict[str, Any] = {}

    @model_validator(mode="after")
    def _passing_labels_are_labels(self) -> "LabelModelSpec":
        for label in self.passing_labels:
            if label not in self.labels:
                raise ValueError(f"passing_labels has {label}, which is none of labels ({', '.join(self.labels)})")
        return self


class PythonSpec(Spec):
    """A function of the user's, run in the sandbox. `image_tag` is accepted and unused: the sandbox has no packages."""

    type: Literal["python"]
    source: Annotated[str, Field(max_length=256_000)]
    image_tag: str | None = None
    pass_threshold: Finite = 1.0
    on_error: Literal["raise", "zero"] = "raise"
    limits: Limits = Limits(seconds=5.0, memory_mb=256)
    workers: Annotated[int, Field(ge=1, le=64)] = 2


class MultiSpec(Spec):
    """A formula over the scores of other graders."""

    type: Literal["multi"]
    graders: dict[str, dict[str, Any]]
    calculate_output: str
    pass_threshold: Finite = 1.0


TextSpec = StringCheckSpec | TextSimilaritySpec | FormatSpec
AnySpec = AnswerSpec | ProgramSpec | TextSpec | ScoreModelSpec | LabelModelSpec | PythonSpec | MultiSpec
SPECS: dict[str, type[Spec]] = {get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(AnySpec)}
"""Each type of grader by its name in JSON."""


def read_spec(spec: Mapping[str, Any], *, where: str) -> AnySpec:
    """Return a grader's settings, checked.

    Raises:
        RequestError: there is no such type, or a setting is missing, unknown or out of range; all faults are told.
    """
    if not isinstance(spec, Mapping):
        raise RequestError(f"{where} must be an object with a type, got {spec!r}")
    kind = spec.get("type")
    if not isinstance(kind, str) or kind not in SPECS:
        got = f"there is no grader of type {kind}" if "type" in spec else f"{where} has no type"
        raise RequestError(f"{got}{nearest(str(kind), SPECS, 'types')}")
    try:
        return SPECS[kind].model_validate_json(to_json(dict(spec)))  # type: ignore[return-value]
    except PydanticSerializationError as error:
        raise RequestError(f"{where} is no JSON: {error}") from None
    except ValidationError as error:
        sentences = dict.fromkeys(_sentence(problem, SPECS[kind], where) for problem in error.errors())
        raise RequestError("\n".join(sentences)) from None


_RULES = {
    "greater_than_equal": "must be at least {ge:g}",
    "greater_than": "must be greater than {gt:g}",
    "less_than_equal": "must be at most {le:g}",
    "less_than": "must be less than {lt:g}",
    "literal_error": "must be one of {expected}",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "too_short": "must have at least {min_length} element(s)",
    "too_long": "must have at most {max_length} element(s)",
    "model_type": "must be an object",
}


def _sentence(problem: Mapping[str, Any], kind: type[BaseModel], where: str) -> str:
    steps, owner = [], kind
    for step in problem["loc"]:
        inner = _model_in(owner, step)
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}")
        if inner is not None and step is not problem["loc"][-1]:
            owner = inner
    name = f"{where}{''.join(steps)}"
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] == "extra_forbidden":
        return f"there is no setting {name}{nearest(str(problem['loc'][-1]), owner.model_fields, 'settings')}"
    if problem["type"] == "value_error":
        return f"{where}: {problem['ctx']['error']}"
    rule = _RULES.get(problem["type"])
    text = rule.format(**problem.get("ctx", {})) if rule else problem["msg"].lower()
    return f"{name} {text}, got {json.dumps(problem['input'], ensure_ascii=False, default=str)[:80]}"


def _model_in(owner: type[BaseModel], step: str | int) -> type[BaseModel] | None:
    """Return the model that a field of `owner` holds, where it holds one."""
    if isinstance(step, int) or step not in owner.model_fields:
        return None
    waiting = [owner.model_fields[step].annotation]
    while waiting:
        annotation = waiting.pop()
        if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
            return annotation
        waiting += list(get_args(annotation))
    return None
