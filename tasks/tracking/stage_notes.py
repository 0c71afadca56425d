"""What a stage's run says of its result, in one sentence: its figures with their intervals, in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST = 3
"""Figures in a sentence; the others are the run's metrics."""


@dataclass(frozen=True)
class Figure:
    """A metric of a stage, as a sentence tells it.

    Attributes:
        of: names of the stages, or how they begin ("evaluate-"); empty for any.
        name: of the metric; its bounds, where it has some, are `<name>_low` and `<name>_high`.
        says: the sentence's part; `{}` is the value with its interval.
        form: `share` (told in per cent), `points` (a difference of shares), `count`, or `number`.
    """

    of: tuple[str, ...]
    name: str
    says: str
    form: str = "number"


EVALUATIONS, JUDGED = ("evaluate-",), ("judge-",)
FIGURES = (
    Figure(EVALUATIONS, "accuracy", "{} of held-out questions right (greedy)", "share"),
    Figure(EVALUATIONS, "accuracy_gain", "{} points against the model it started from, same questions", "points"),
    Figure(EVALUATIONS, "reference_loss", "held-out loss {} nats a token"),
    Figure(EVALUATIONS, "preference_accuracy", "{} of held-out pairs ranked right", "share"),
    Figure(EVALUATIONS, "kl", "KL {} nats from the model it started from"),
    Figure(JUDGED, "judge_win_rate", "the judge prefers {} of its answers", "share"),
    Figure(JUDGED, "judged", "{} questions judged", "count"),
    Figure(("second_opinion",), "people_agreement", "people agree with the judge on {} of its pairs", "share"),
    Figure(("second_opinion",), "simulated_agreement", "simulated annotators agree with the judge on {} of its pairs", "share"),
    Figure(("self_preference",), "own", "the judge prefers its own responses to {} of the samples", "share"),
    Figure(("reward_model",), "accuracy", "{} of held-out labels ranked right", "share"),
    Figure(("reward_model",), "accuracy_gold", "{} against gold", "share"),
    Figure(("audit",), "end_gold", "gold after training {}", "share"),
    Figure(("audit",), "end_gold_gain", "gold gained {} deviations"),
    Figure(("audit",), "end_proxy_gain", "proxy gained {} deviations"),
    Figure(("label",), "labels", "{} labels", "count"),
    Figure(("label",), "agreement", "two annotators agree on {} of shared pairs", "share"),
    Figure(("label",), "annotator_seconds", "{} seconds of annotators", "count"),
    Figure(("label",), "flipped_share", "{} flipped by the simulation", "share"),
    Figure(("sample",), "responses", "{} responses drawn", "count"),
    Figure(("sample",), "response_tokens", "{} tokens each"),
    Figure(("validate",), "rows", "{} rows read", "count"),
    Figure(("validate",), "quarantined", "{} put aside", "count"),
    Figure(("tokenizer",), "vocabulary", "{} tokens known", "count"),
    Figure(("base",), "parameters", "{} weights", "count"),
    Figure(("few_shot",), "shots", "{} demonstrations shown", "count"),
    Figure((), "gold", "gold {} on training questions at the end", "share"),
    Figure((), "pair_accuracy", "{} of the training pairs ranked right", "share"),
    Figure((), "demonstrations", "{} demonstrations", "count"),
    Figure((), "pairs", "{} pairs", "count"),
    Figure((), "reward", "reward {} at the end"),
    Figure((), "loss", "loss {} at the end"),
)
"""In the order in which a sentence takes them."""


def stage_sentence(facts: Mapping[str, Any], *, is_cached: bool = False) -> str:
    """Return a stage's result in a sentence, such as "evaluate-dpo: 57.0 % [54.1, 59.8] of held-out questions right (greedy)".

    Args:
        facts: of `stage.json`: `stage`, `metrics`, `seconds`.
        is_cached: nothing was computed; the sentence says so.
    """
    stage, metrics = str(facts["stage"]), facts.get("metrics", {})
    known = [one for one in FIGURES if metrics.get(one.name) is not None and (not one.of or stage.startswith(one.of))]
    took = f"{float(facts.get('seconds', 0.0)):.1f} s"
    how = f"reused, nothing was computed again (it took {took} once)" if is_cached else f"it took {took}"
    return f"{stage}: {'; '.join([*(one.says.format(_value(metrics, one)) for one in known[:MOST]), how])}."


def _value(metrics: Mapping[str, float], figure: Figure) -> str:
    bounds = [metrics.get(f"{figure.name}_{end}") for end in ("low", "high")]
    estimate = _number(float(metrics[figure.name]), figure.form)
    if bounds[0] is None or bounds[1] is None:
        return estimate
    low, high = (_number(float(bound or 0.0), figure.form).removesuffix(" %").removeprefix("+") for bound in bounds)
    return f"{estimate} [{low}, {high}]"


def _number(value: float, form: str) -> str:
    if form == "share":
        return f"{100 * value:.1f} %"
    if form == "points":
        return f"{100 * value + 0.0:+.1f}"
    return f"{value:,.0f}" if form == "count" else f"{value:,.2f}"
