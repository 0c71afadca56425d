"""From settings to a grader: `build_grader("answer")`, or the JSON of `posttrain.graders.schema`."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from posttrain.errors import RequestError
from posttrain.graders import schema
from posttrain.graders.answer import AnswerGrader, Rules
from posttrain.graders.compose import MultiGrader
from posttrain.graders.interface import Grader, Sample, answers_of, as_text, nearest
from posttrain.graders.latex import LatexComparison
from posttrain.graders.model import ModelGrader, ScoreModel
from posttrain.graders.program import AnswerOrProgramGrader, ProgramGrader, PythonGrader
from posttrain.graders.sandbox import Sandbox
from posttrain.graders.templates import Template, Unreadable, variables
from posttrain.graders.text import FormatGrader, StringCheckGrader, TextSimilarityGrader

BUILT_IN = ("answer", "program")
"""Graders that need no settings."""


def build_grader(spec: Mapping[str, Any] | str, *, score_model: ScoreModel | None = None) -> Grader:
    """Return the grader that `spec` describes.

    Args:
        spec: "answer" or "program", or the settings of a grader (docs/graders.md).
        score_model: what `score_model` and `label_model` graders ask, see `posttrain.graders.model.ScoreModel`.

    Raises:
        RequestError: there is no such grader, a setting is wrong, or a model is needed and none was handed over.
    """
    if isinstance(spec, str):
        if spec not in BUILT_IN:
            others = ", ".join(kind for kind in schema.SPECS if kind not in BUILT_IN)
            raise RequestError(
                f"there is no grader {spec}{nearest(spec, BUILT_IN, 'built in')}; these need settings in a JSON file: {others}"
            )
        spec = {"type": spec}
    return _built(schema.read_spec(spec, where="grader"), where="grader", score_model=score_model)


def _built(spec: schema.AnySpec, *, where: str, score_model: ScoreModel | None) -> Grader:
    match spec:
        case schema.AnswerSpec():
            return _answer(spec, where)
        case schema.ProgramSpec():
            return _program(spec, where)
        case schema.StringCheckSpec():
            texts = {name: Template(getattr(spec, name), where=f"{where}.{name}") for name in ("input", "reference")}
            return StringCheckGrader(**texts, operation=spec.operation)
        case schema.TextSimilaritySpec():
            texts = {name: Template(getattr(spec, name), where=f"{where}.{name}") for name in ("input", "reference")}
            return TextSimilarityGrader(**texts, metric=spec.evaluation_metric, pass_threshold=spec.pass_threshold)
        case schema.FormatSpec():
            settings = spec.model_dump(exclude={"type", "name", "input"})
            return FormatGrader(name=where, input=Template(spec.input, where=f"{where}.input"), **settings)
        case schema.ScoreModelSpec() | schema.LabelModelSpec():
            return _model(spec, where, score_model)
        case schema.PythonSpec():
            return PythonGrader(
                Sandbox(spec.limits, workers=spec.workers),
                name=where,
                source=spec.source,
                on_error=spec.on_error,
                pass_threshold=spec.pass_threshold,
                as_variables=lambda sample: {"sample": variables(sample), "item": dict(sample.record)},
            )
        case schema.MultiSpec():
            return _multi(spec, where, score_model)


def _multi(spec: schema.MultiSpec, where: str, score_model: ScoreModel | None) -> Grader:
    graders = {}
    for name, inner in spec.graders.items():
        place = f"{where}.graders.{name}"
        if inner.get("type") == "multi":
            raise RequestError(f"{place} is itself of type multi: write one formula over all graders instead")
        graders[name] = _built(schema.read_spec(inner, where=place), where=place, score_model=score_model)
    return MultiGrader(graders, calculate_output=spec.calculate_output, pass_threshold=spec.pass_threshold, where=where)


def _rules(spec: schema.Comparing, *, needs_marker: bool = False) -> Rules:
    return Rules(
        kind=spec.kind,
        absolute=Fraction(str(spec.tolerance.absolute)),
        relative=Fraction(str(spec.tolerance.relative)),
        percent=spec.percent,
        needs_marker=needs_marker,
    )


def _answer(spec: schema.AnswerSpec, where: str) -> Grader:
    read = _reader(spec, where)
    answers = AnswerGrader(
        rules=_rules(spec, needs_marker=spec.marker == "required"),
        partial_credit=spec.partial_credit.wrong,
        partial_for=spec.partial_credit.applies_to,
        read=read,
        same_mathematics=LatexComparison(seconds=spec.latex_seconds) if spec.latex else None,
    )
    if spec.programs == "read":
        return answers
    # A tolerance of the answers' own is one of programs as well; without one theirs holds, for the last digits of floats.
    told = spec.model_dump(exclude={"type", "marker", "programs"}, exclude_unset=True)
    programs = schema.ProgramSpec(type="program", **told)
    return AnswerOrProgramGrader(answers, _program(programs, where), function=programs.function, read=read)


def _program(spec: schema.ProgramSpec, where: str) -> Grader:
    return ProgramGrader(
        Sandbox(spec.limits, workers=spec.workers),
        function=spec.function,
        rules=_rules(spec),
        partial_credit=spec.partial_credit.wrong,
        partial_for=spec.partial_credit.applies_to,
        read=_reader(spec, where),
        same_mathematics=LatexComparison(seconds=spec.latex_seconds) if spec.latex else None,
    )


def _reader(spec: schema.Comparing, where: str) -> Callable[[Sample], tuple[str | None, tuple[str, ...]]] | None:
    """Return what takes the text to grade and the answers from a sample; None where they are the completion and the record's."""
    text = Template(spec.input, where=f"{where}.input")
    if text.is_output_text and spec.reference is None:
        return None
    references = [Template(each, where=f"{where}.reference") for each in spec.reference or ()]

    def read(sample: Sample) -> tuple[str | None, tuple[str, ...]]:
        answers: list[str] = []
        for reference in references:
            value = reference.value(sample)
            answers += [as_text(one) for one in value] if isinstance(value, list | tuple) else [as_text(value)]
        right = tuple(answers) if references else answers_of(sample.record)
        if not right:
            raise RequestError(f"{where}.reference is an empty list for a record: an answer needs something to be compared with")
        try:
            return text.render(sample), right
        except Unreadable:
            return None, right

    return read


def _model(spec: schema.ScoreModelSpec | schema.LabelModelSpec, where: str, score_model: ScoreModel | None) -> Grader:
    messages = [(turn.role, Template(turn.content, where=f"{where}.input[{place}]")) for place, turn in enumerate(spec.input)]
    if isinstance(spec, schema.LabelModelSpec):
        return ModelGrader(
            score_model,
            name=where,
            model=spec.model,
            messages=messages,
            sampling_params=spec.sampling_params,
            labels=tuple(spec.labels),
            passing_labels=tuple(spec.passing_labels),
        )
    low, high = spec.range
    return ModelGrader(
        score_model,
        name=where,
        model=spec.model,
        messages=messages,
        sampling_params=spec.sampling_params,
        score_range=(low, high),
        pass_threshold=high if spec.pass_threshold is None else spec.pass_threshold,
    )
