"""The advice as people read it, and as JSON values."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from posttrain.advice.advise import Advice, Advised, Reason
from posttrain.advice.costs import Cost
from posttrain.advice.power import (
    CONFIDENCE,
    EFFECTS,
    MEASURED_ON,
    MOST_QUESTIONS,
    NOISES,
    POWER,
    QUESTION,
    RESIDUAL,
    SEEDS,
    Needed,
)
from posttrain.advice.rule import GIB, Effect
from posttrain.advice.situation import Situation

SCHEMA = "posttrain.advice/1"
SIGNS = {Effect.FIRST: "·", Effect.BEFORE: "+", Effect.AFTER: "-", Effect.WARN: "!"}
"""What stands before a reason: for, against, beware."""
WHO = {"simulated": "simulated annotators", "judge": "the judge", "people": "people"}
"""Who would label, in words."""
HEAD = ("method", "possible", "why, or what is missing", "cost of a run")
ASSUMED = (
    f"Assumed, not measured on your data: two models differ on {100 * (RESIDUAL + QUESTION):.0f} % of the questions, and the "
    f"difference of two methods on {MEASURED_ON:,} questions varies by {100 * NOISES['little']:.1f} (little) or "
    f"{100 * NOISES['much']:.1f} points (much) from seed to seed. Chance about {100 * POWER:.0f} %, confidence "
    f"{100 * CONFIDENCE:.0f} %, two methods; correction for more takes more. One seed speaks of two models, not of methods."
)
"""What the table of effects rests on."""


def facts_lines(s: Situation) -> list[str]:
    """Return what was found, a line each of data, feedback, lengths and base."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(s.kinds.items()))
    answered = f"{s.answered:,} with an answer to check{f' ({kinds})' if kinds else ''}"
    where = "GPU" if s.machine.has_gpu else "CPU, no GPU"
    lines = [
        f"data: {s.demonstrations:,} demonstrations, {s.questions:,} training questions, {answered}; {s.held_out:,} held-out "
        f"questions, {s.held_out_answered:,} with an answer"
    ]
    if s.feedback:
        alpha = "unknown" if s.alpha is None else f"{s.alpha:.2f}"
        lines.append(
            f"feedback: {s.pairs:,} preferences, {s.ratings:,} ratings, {s.rankings:,} rankings: {s.labels:,} labelled pairs of "
            f"{s.annotators:,} annotator{'s' if s.annotators != 1 else ''}, Krippendorff's α {alpha}"
        )
    responses = (
        f"responses to learn from: {s.response_tokens:,.0f} in the mean, {s.long_response_tokens:,} at 95 %, "
        f"{100 * s.beyond_limit:.1f} % beyond evaluate.max_new_tokens ({s.asked.max_new_tokens:,})"
        if s.response_tokens
        else "no responses to learn from"
    )
    lines.append(
        f"tokens: prompts {s.prompt_tokens:,} at 95 %; {responses}; {100 * s.near_duplicates:.1f} % of the prompts near-equal"
    )
    lines.append(
        f"base: {s.base.name}, {s.base.weights:,} weights, context {s.base.context:,}; {where}, {s.machine.memory / GIB:,.1f} "
        f"GB; judge: {s.asked.judge if s.asked.names_judge else 'none named'}; ppo.reward={s.asked.reward}"
    )
    return lines


def method_row(one: Advised, cost: Cost) -> tuple[str, str, str, str]:
    """Return a line of the table."""
    if not one.is_possible:
        return one.method.title, "no", _reason(one.reasons[0]), "–"
    told = [f"{SIGNS[reason.effect]} {_reason(reason)}" for reason in (*one.why, *one.warnings)]
    return one.method.title, "yes", "\n".join(told) or "nothing speaks for it or against it", cost_words(cost)


def _reason(reason: Reason) -> str:
    return f"{reason.text}; {reason.remedy}" if reason.remedy else reason.text


def cost_words(cost: Cost) -> str:
    """Return an estimate in a few words."""
    memory = f"{_gb(cost.memory_least)} to {_gb(cost.memory_likely)} GB"
    parts = [memory]
    if cost.labels:
        parts.append(f"{cost.labels:,} labels by {WHO[cost.labels_by]}")
    if cost.responses:
        parts.append(f"{cost.responses:,} responses, about {cost.tokens:,} tokens")
    if cost.seconds is not None:
        parts.append(f"{cost.seconds:,.0f} s, from runs here")
    else:
        missing = [name for name, seconds in cost.stages.items() if seconds is None]
        known = len(cost.stages) - len(missing)
        parts.append("time: none has run here yet" if not known else f"time: {', '.join(missing)} has not run here yet")
    return "; ".join(parts)


def _gb(size: int) -> str:
    return f"{size / GIB:,.1f}" if size >= 0.05 * GIB else "<0.1"


def power_rows(needed: Sequence[Needed], seen: Mapping[tuple[int, str], float]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of effects: a row a number of seeds and noise.

    Args:
        needed: what would show each effect.
        seen: by seeds and noise, the smallest effect that the held-out questions at hand show.
    """
    head = ["seeds", "training noise", "sees now (points)", *(f"questions for {100 * effect:g}" for effect in EFFECTS)]
    by_cell = {(one.seeds, one.noise, one.effect): one.questions for one in needed}
    rows = []
    for seeds in SEEDS:
        for noise in NOISES:
            if (seeds, noise, EFFECTS[0]) not in by_cell:
                continue
            cells = [by_cell[seeds, noise, effect] for effect in EFFECTS]
            shown = [f"more than {MOST_QUESTIONS:,}" if cell is None else f"{cell:,}" for cell in cells]
            now = seen.get((seeds, noise))
            rows.append([str(seeds), noise if seeds > 1 else "–", "–" if now is None else f"{100 * now:.1f}", *shown])
    return head, rows


def as_json(
    advice: Advice,
    costs: Mapping[str, Cost],
    needed: Sequence[Needed],
    seen: Mapping[tuple[int, str], float],
    comparisons: Sequence[Mapping[str, Any]],
    *,
    data_md5: str,
) -> dict[str, Any]:
    """Return everything, schema `posttrain.advice/1` (docs/advise.md)."""
    return {
        "schema": SCHEMA,
        "dataset": advice.situation.dataset,
        "data_md5": data_md5,
        "recommendation": advice.sentence,
        "first": advice.first.method.name if advice.first else None,
        "order": [one.method.name for one in advice.possible],
        "methods": [
            {
                "name": one.method.name,
                "title": one.method.title,
                "learns_from": one.method.learns_from.says,
                "possible": one.is_possible,
                "points": one.weight if one.is_possible else None,
                "reasons": [_as_dict(reason) for reason in one.reasons],
                "cost": costs[one.method.name].as_json(),
            }
            for one in advice.methods
        ],
        "warnings": [_as_dict(reason) for reason in advice.warnings],
        "power": {
            "assumed": ASSUMED,
            "needed": [asdict(one) for one in needed],
            "sees": [{"seeds": seeds, "noise": noise, "effect": effect} for (seeds, noise), effect in seen.items()],
        },
        "comparisons": [dict(one) for one in comparisons],
        "situation": asdict(advice.situation),
    }


def _as_dict(reason: Reason) -> dict[str, Any]:
    return {**asdict(reason), "effect": str(reason.effect)}
