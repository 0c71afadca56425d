"""Graders that ask a model: a score within a range, or one of some labels.

The model itself is a function that the caller hands over (a judge, a reward model, an API), so nothing here knows networks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posttrain.errors import RequestError
from posttrain.finite import is_finite, shown_value
from posttrain.graders.interface import Grade, Sample, nearest, shortened
from posttrain.graders.templates import Template, Unreadable
from posttrain.graders.text import unreadable


@dataclass(frozen=True, slots=True)
class ModelCall:
    """What a model is asked about one completion.

    Attributes:
        model: its name, as the grader's settings give it.
        messages: (role, content) of each turn, templates filled.
        labels: to choose from; empty where a number is wanted.
        sampling_params: as the settings give them.
    """

    model: str
    messages: tuple[tuple[str, str], ...]
    labels: tuple[str, ...] = ()
    sampling_params: Mapping[str, Any] = field(default_factory=dict)


ScoreModel = Callable[[Sequence[ModelCall]], Sequence[float | str | None]]
"""One reply a call, in order: a number, or a label; None where the model's reply could not be read as one."""


class ModelGrader:
    """Scores by a model's number, cut to a range, or by whether its label is a passing one."""

    def __init__(
        self,
        ask: ScoreModel | None,
        *,
        name: str,
        model: str,
        messages: Sequence[tuple[str, Template]],
        sampling_params: Mapping[str, Any],
        score_range: tuple[float, float] = (0.0, 1.0),
        pass_threshold: float = 1.0,
        labels: tuple[str, ...] = (),
        passing_labels: tuple[str, ...] = (),
    ) -> None:
        if ask is None:
            raise RequestError(
                f"{name} asks the model {model}, and there is none here: hand a function over as score_model, "
                "or use a grader that needs no model"
            )
        self._ask = ask
        self._name = name
        self._model = model
        self._messages = messages
        self._sampling_params = sampling_params
        self._range = score_range
        self._pass_threshold = pass_threshold
        self._labels = labels
        self._passing_labels = passing_labels

    def grade(self, samples: Sequence[Sample]) -> list[Grade]:
        """Return one grade a sample; see `Grader`. The model is asked once, for all of them."""
        grades: list[Grade | None] = []
        calls = []
        for sample in samples:
            try:
                messages = tuple((role, content.render(sample)) for role, content in self._messages)
            except Unreadable as trouble:
                grades.append(unreadable(trouble))
                continue
            grades.append(None)
            calls.append(ModelCall(self._model, messages, self._labels, self._sampling_params))
        replies = list(self._ask(calls)) if calls else []
        if len(replies) != len(calls):
            raise RequestError(f"{self._name}: score_model must give one reply a call, got {len(replies)} for {len(calls)}")
        waiting = iter(zip(replies, calls, strict=True))
        return [grade or self._graded(*next(waiting)) for grade in grades]

    def _graded(self, reply: Any, call: ModelCall) -> Grade:
        asked = call.messages[-1][1]
        if reply is None:
            score = 0.0 if self._labels else min(max(0.0, self._range[0]), self._range[1])
            reason = "the model's reply could not be read"
            return Grade(score, False, extracted=asked, reason=reason, errors=("model_grader_parse_error",))
        if self._labels:
            return self._labelled(reply, asked)
        if isinstance(reply, bool) or not isinstance(reply, int | float) or not is_finite(reply):
            raise RequestError(f"{self._name}: score_model must give a finite number or None, got {shown_value(reply)}")
        score = min(max(float(reply), self._range[0]), self._range[1])
        reason = f"the model's score is {reply:g}, right from {self._pass_threshold:g}"
        return Grade(score, score >= self._pass_threshold, extracted=asked, reason=reason)

    def _labelled(self, reply: Any, asked: str) -> Grade:
        if reply not in self._labels:
            got = f"{shortened(repr(reply), 60)}{nearest(str(reply), self._labels, 'labels')}"
            raise RequestError(f"{self._name}: score_model must give a label or None, got {got}")
        passes = reply in self._passing_labels
        return Grade(float(passes), passes, extracted=asked, compared_with=self._passing_labels, reason=f"the label is {reply}")
