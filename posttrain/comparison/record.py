"""A whole comparison as one record: per-question results in, every number, verdict and sentence of the page out."""

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.comparison.answers import telling_answers
from posttrain.comparison.budgets import off_budget
from posttrain.comparison.groups import group_questions
from posttrain.comparison.method_part import comparable, method_part
from posttrain.comparison.notes import merged_notes
from posttrain.comparison.pairs import all_pairs, group_gains, missing_seeds
from posttrain.comparison.results import Design, MethodResult, Question, check_results
from posttrain.comparison.schema import SCHEMA, checked_record
from posttrain.comparison.wording import UNITS, Voice, covers, verdict_sentence

FACTS = ("dataset", "machine", "git_commit", "version", "seconds", "mlflow", "levels")
"""What the record takes over as it is, and what may be missing."""


def build_comparison(
    *,
    design: Design,
    questions: Sequence[Question],
    methods: Sequence[MethodResult],
    facts: Mapping[str, Any],
    group_by: str = "auto",
) -> dict[str, Any]:
    """Return the record of a comparison, schema `posttrain.comparison/1` (docs/comparison.md), ready for JSON.

    Args:
        design: what was declared before.
        questions: held out, the same for all.
        methods: results, in the order of tables; the reference among them.
        facts: `id`, `created`, `source`, `command`; and, where known, `failed` (runs), `notes`, `warnings`, `dataset`, `machine`,
            `git_commit`, `version`, `seconds`, `mlflow`, `levels`, each as the record has it.
        group_by: grouping of the questions; a row of `posttrain.comparison.groups.WAYS`, or `auto`.

    Raises:
        ContractError: the results are no comparison of the same questions (`check_results`).
        RequestError: there is no such grouping.
        pydantic.ValidationError: a fact is not as the record has it.
    """
    check_results(design, questions, methods)
    grouping = group_questions(questions, group_by)
    values = {each.name: {seed: comparable(design, each.by_seed[seed]) for seed in sorted(each.by_seed)} for each in methods}
    seeds = {name: list(rows) for name, rows in values.items()}
    voice = Voice(
        unit=UNITS[design.unit],
        titles={each.name: each.title for each in methods},
        reference=design.reference,
        margin=design.margin,
        is_one_seed=all(len(own) == 1 for own in seeds.values()),
        of_logs=facts["source"] == "logs",
    )
    pairs = all_pairs(values, design, voice)
    failed = [dict(one) for one in facts.get("failed", ())]
    return checked_record(
        {
            "schema": SCHEMA,
            **{name: facts[name] for name in ("id", "created", "source", "command")},
            **{name: facts.get(name) for name in FACTS},
            "verdict": verdict_sentence(pairs, voice),
            "status": "partial" if failed else "complete",
            "failed": failed,
            "design": _design(design, seeds, questions, methods, voice),
            "methods": [method_part(each, design) for each in methods],
            "pairs": pairs,
            "groups": group_gains(values, grouping, design),
            "answers": telling_answers(design, questions, methods),
            "notes": _notes(facts, methods),
            "warnings": [*facts.get("warnings", ()), *_failures(failed), *missing_seeds(seeds), *_off_budget(design, methods)],
        }
    )


def _design(
    design: Design,
    seeds: Mapping[str, Sequence[int]],
    questions: Sequence[Question],
    methods: Sequence[MethodResult],
    voice: Voice,
) -> dict[str, Any]:
    samples = [len(one.sampled[0]) for each in methods for one in each.by_seed.values() if one.sampled is not None]
    return {
        **{name: getattr(design, name) for name in ("metric", "metric_title", "unit", "higher_is_better", "reference", "tune")},
        "confidence": design.confidence,
        "margin": design.margin,
        "correction": "holm",
        "budget": dict(design.budget),
        "seeds": sorted({seed for own in seeds.values() for seed in own}),
        "questions": len(questions),
        "samples": min(samples, default=0),
        "covers": covers(seeds=max(len(own) for own in seeds.values()), confidence=design.confidence, voice=voice),
    }


def _notes(facts: Mapping[str, Any], methods: Sequence[MethodResult]) -> list[str]:
    """Return the notes of the comparison, then those of its runs: most have the same, but for a number."""
    own = list(facts.get("notes", ()))
    of_runs = merged_notes(note for each in methods for one in each.by_seed.values() for note in one.notes)
    return list(dict.fromkeys([*own, *of_runs]))


def _off_budget(design: Design, methods: Sequence[MethodResult]) -> list[str]:
    return off_budget(design.budget, {one.title: one.budget_used["share"] for one in methods if one.budget_used is not None})


def _failures(failed: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{one['method']} on seed {one['seed']} did not finish: {one['error']}" for one in failed]
