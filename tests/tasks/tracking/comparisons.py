"""The record of a comparison, of schema posttrain.comparison/1, made up: three methods on two seeds."""

from collections.abc import Mapping
from typing import Any

ID = "20261128-174500-3f2a"
VERDICT = "ReFT is the best of 3 methods: +20.0 points over SFT [16.0, 24.0]."
COSTS = {"sft": (10.0, 0, 1_000, 0), "dpo": (30.5, 4_000, 9_000, 642), "reft": (90.0, 50_000, 40_000, 0)}
"""Seconds, generated and trained tokens, labels."""


def interval(estimate: float, half: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def method(name: str, title: str, mean: float, runs: Mapping[int, str]) -> dict[str, Any]:
    seconds, generated, trained, labels = COSTS[name]
    return {
        "name": name,
        "title": title,
        "learns_from": "what it is given",
        "is_reference": name == "sft",
        "seeds": list(runs),
        "mean": interval(mean, 0.05),
        "scores": [{"seed": seed, **interval(mean, 0.06)} for seed in runs],
        "costs": {
            "train_seconds": seconds,
            "generated_tokens": generated,
            "trained_tokens": trained,
            "labels": labels,
            "flops": None,
        },
        "runs": [{"seed": seed, "run_id": run_id, "pipeline_id": f"p{seed}"} for seed, run_id in runs.items()],
    }


def pair(a: str, b: str, estimate: float, verdict: str, family: str = "reference") -> dict[str, Any]:
    return {
        "a": a,
        "b": b,
        "family": family,
        **interval(estimate, 0.04),
        "p": 0.01,
        "p_holm": 0.02,
        "smallest_effect": 0.05,
        "verdict": verdict,
        "words": f"{a} {verdict} {b}",
        "per_seed": [{"seed": 0, **interval(estimate - 0.01, 0.05)}, {"seed": 1, **interval(estimate + 0.01, 0.05)}],
    }


def record(runs: Mapping[str, Mapping[int, str]] | None = None, **changes: Any) -> dict[str, Any]:
    """Return the record; `runs` are run ids by method and seed. The pair of DPO is written the other way round, sft − dpo."""
    runs = runs or {name: {} for name in COSTS}
    facts: dict[str, Any] = {
        "schema": "posttrain.comparison/1",
        "id": ID,
        "command": 'make compare METHODS="sft dpo reft" SEEDS=2',
        "verdict": VERDICT,
        "status": "complete",
        "failed": [],
        "dataset": {"name": "world", "md5": "d" * 32, "questions": 400},
        "design": {
            "metric": "accuracy",
            "metric_title": "held-out questions answered right by greedy decoding",
            "unit": "share",
            "reference": "sft",
            "seeds": [0, 1],
            "questions": 400,
        },
        "methods": [
            method("sft", "SFT", 0.40, runs["sft"]),
            method("dpo", "DPO", 0.35, runs["dpo"]),
            method("reft", "ReFT", 0.60, runs["reft"]),
        ],
        "pairs": [
            pair("sft", "dpo", 0.05, "better"),
            pair("reft", "sft", 0.20, "better"),
            pair("reft", "dpo", 0.25, "better", "all"),
        ],
    }
    return facts | changes
