"""What a method learned from, counted: demonstrations, questions, right answers that it was told, labels, a judge."""

import json
from collections.abc import Mapping
from typing import Any

from posttrain.methods import METHODS
from posttrain.report.audit import WHO
from posttrain.settings.config import Config
from tasks.workspace.paths import Paths


def what_it_saw(paths: Paths, report: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return the counts of one pipeline; a field is left out where it does not apply.

    Right answers count where a program checked the method's own responses by them: a grader's rewards, or the choice of samples.
    """
    method = METHODS[report["method"]]
    labels = report["metrics"].get("cost/labels") or 0
    trained = _metrics(paths, report, method.trainer)
    sampled = _metrics(paths, report, "sample").get("responses", 0) / config.sample.per_prompt
    asked = trained.get("questions") or sampled or None
    is_told = method.is_sampled or (method.is_rewarded and _is_checked_by_program(method.learns_from.reward, config))
    source = (report.get("audit") or {}).get("source")
    is_judged = method.learns_from.labels_by == "judge" or source == "judge"
    shown = trained.get("shots") if method.is_prompted else None
    found = {
        "demonstrations": _metrics(paths, report, "sft").get("demonstrations") or shown,
        "questions": asked,
        "gold_answers": asked if is_told else None,
        "labels": labels or None,
        "labels_by": WHO[source] if labels and source else None,
        "judge": config.judge.model if is_judged else None,
    }
    return {name: value if isinstance(value, str) else round(value) for name, value in found.items() if value is not None}


def simulated(report: Mapping[str, Any], config: Config) -> tuple[str, ...]:
    """Return what stood in for people or their data: simulated annotators, a judge that practised on simulated reviews."""
    source = (report.get("audit") or {}).get("source")
    parts = {
        "annotators": source == "simulated",
        "the judge's practice": any(stage["name"] == "judge" for stage in report["stages"]),
    }
    return tuple(name for name, is_so in parts.items() if is_so)


def _is_checked_by_program(reward: str, config: Config) -> bool:
    """Tell whether rewards come from a program that knows right answers: a grader, or `ppo.reward` as it is by default."""
    return reward == "grader" or (reward == "named" and not config.ppo.reward.startswith(("model:", "judge", "python:")))


def _metrics(paths: Paths, report: Mapping[str, Any], stage: str) -> dict[str, float]:
    key = next((one["key"] for one in report["stages"] if one["name"] == stage), None)
    if not stage or key is None:
        return {}
    metrics: dict[str, float] = json.loads((paths.stages / stage / key / "stage.json").read_text(encoding="utf-8"))["metrics"]
    return metrics
