"""Learning curves of a pipeline against what they took, and what its reward was worth, as the record of a comparison has them."""

import json
from collections.abc import Mapping
from typing import Any

from posttrain.methods import METHODS
from tasks.workspace.jsonl import read_rows
from tasks.workspace.paths import Paths

USED = ("trained_tokens", "generated_tokens", "train_seconds", "labels")
"""Costs that a curve is drawn against."""
AUDIT = "audit.json"


def learning_curve(paths: Paths, report: Mapping[str, Any], costs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the points of a pipeline's curve, each with what the method had used until there.

    A method that is rewarded has gold on training questions after every update, where these have answers. What an update uses is
    taken as equal for all updates of the trainer; the stages before it come first. Any other method has no score on the way, so
    its curve is two points: the model that it started from and its own, on held-out questions.

    Args:
        paths: of the repository.
        report: of the pipeline.
        costs: of the whole pipeline, by name.
    """
    method = METHODS[report["method"]]
    whole = {name: float(costs.get(name) or 0.0) for name in USED}
    own = _costs_of(paths, report, method.trainer) if method.trainer else whole
    before = {name: max(whole[name] - own[name], 0.0) for name in USED}
    rows = _gold_rows(paths, report) if method.is_rewarded else []
    if rows:
        last = rows[-1]["step"]
        return [
            _point(row["step"], {name: before[name] + own[name] * row["step"] / last for name in USED}, row["ppo/gold"], TRAINING)
            for row in rows
        ]
    start, final = (report["models"][name].get("accuracy") for name in _ends(report))
    if start is None or final is None:
        return []
    return [_point(0, before, start["estimate"], HELD_OUT), _point(1, whole, final["estimate"], HELD_OUT)]


TRAINING, HELD_OUT = "training questions, gold", "held-out questions, right by greedy decoding"


def _ends(report: Mapping[str, Any]) -> tuple[str, str]:
    """Return the names of the model that a method started from and of its own; SFT's own start is the base."""
    method = METHODS[report["method"]]
    return (method.starts_from if method.trainer else "base"), method.name


def _point(step: float, used: Mapping[str, float], value: float, what: str) -> dict[str, Any]:
    tokens = {name: used[name] for name in ("trained_tokens", "generated_tokens", "labels")}
    return {"step": step, **tokens, "seconds": used["train_seconds"], "value": value, "what": what}


def _gold_rows(paths: Paths, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    file = _folder(paths, report, METHODS[report["method"]].trainer) / "curves.jsonl"
    return [row for row in read_rows(file) if "ppo/gold" in row] if file.is_file() else []


def _costs_of(paths: Paths, report: Mapping[str, Any], stage: str) -> dict[str, float]:
    told = json.loads((_folder(paths, report, stage) / "stage.json").read_text(encoding="utf-8"))["costs"]
    return {name: float(told.get(name) or 0.0) for name in USED}


def _folder(paths: Paths, report: Mapping[str, Any], stage: str) -> Any:
    return paths.stages / stage / next(one["key"] for one in report["stages"] if one["name"] == stage)


def proxy_points(paths: Paths, report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return proxy and gold over √KL, in deviations of the starting model's samples; None without a scale to compare on."""
    if not any(stage["name"] == "audit" for stage in report["stages"]):
        return None
    told = json.loads((_folder(paths, report, "audit") / AUDIT).read_text(encoding="utf-8"))
    scales = told.get("scales")
    if not scales:
        return None

    def scaled(kind: str, value: float | None) -> float | None:
        return None if value is None else (value - scales[kind]["mean"]) / scales[kind]["deviation"]

    points = [{"sqrt_kl": one["sqrt_kl"], **{kind: scaled(kind, one[kind]) for kind in ("proxy", "gold")}} for one in told["ppo"]]
    best = [
        {"n": one["n"], "sqrt_kl": one["kl"] ** 0.5, **{kind: scaled(kind, one[kind]["estimate"]) for kind in ("proxy", "gold")}}
        for one in told.get("best_of_n") or ()
    ]
    return {"points": points, "best_of_n": best}
