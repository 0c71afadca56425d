"""Versions with evaluations, as pipelines leave them, made in a moment: a weight of one number, answers right or wrong."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from posttrain.promotion.standing import Standing
from posttrain.settings.config import Config
from tasks.promotion.evaluations import Evaluation
from tasks.promotion.standings import standing_of
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import RegisteredModel, register
from tasks.workspace.artifacts import Log, Outcome, make
from tasks.workspace.jsonl import PROBLEMS, write_rows

NAME = "posttrain-world"
QUESTIONS = 40


def answered(right: int, *, questions: int = QUESTIONS, prefix: str = "q") -> list[dict[str, Any]]:
    """Return rows of an evaluation in which the first `right` questions are answered right."""

    def one(is_right: bool) -> dict[str, Any]:
        return {"text": "4" if is_right else "5", "tokens": 7, "is_finished": True, "extracted": "4", "is_right": is_right}

    return [
        {
            "id": f"{prefix}{number}",
            "prompt": f"{prefix} {number}?",
            "answers": ["4"],
            "greedy": one(number < right),
            "sampled": [one(number < right), one(number < right)],
            "reference": {"nats": 3.0, "tokens": 3},
        }
        for number in range(questions)
    ]


def model_folder(folder: Path, weight: float) -> Path:
    """Write a model that transformers and safetensors can read the heads of."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    save_file({"weight": np.array([weight], dtype=np.float32)}, str(folder / "model.safetensors"))
    return folder


def stage(ledger: Ledger, parent: str, name: str, key: str, rows: Sequence[dict[str, Any]], file: str = PROBLEMS) -> None:
    """Leave a finished stage in the store and in the ledger."""

    def compute(out: Path, log: Log) -> Outcome:
        write_rows(out / file, rows)
        return Outcome(metrics={"accuracy": 0.5}, costs={"evaluate_seconds": 12.0})

    settings = {"evaluate.max_new_tokens": 40}
    artifact, _ = make(ledger.paths, name, key, compute, settings=settings, inputs={})
    ledger.start_stage(parent, name, key=key, settings=settings).finish(artifact.path)


def start(ledger: Ledger, data_md5: str = "d" * 32, method: str = "dpo") -> str:
    """Open a pipeline's run and return its id."""
    facts = {"dataset": "world", "data_md5": data_md5, "git_commit": "g", "flow_run_id": "f", "pipeline_id": f"p-{data_md5[0]}"}
    command = f"make pipeline METHOD={method}"
    return ledger.start_pipeline(Config(method=method), files_md5={}, command=command, **facts)


def pipeline(
    ledger: Ledger, folder: Path, weight: float, rows: Sequence[dict[str, Any]], *, base: int = 10, data_md5: str = "d" * 32
) -> RegisteredModel:
    """Make a version as a pipeline does, with the evaluation of its model and of the base."""
    parent = start(ledger, data_md5)
    key = f"{weight:.3f}".replace(".", "").rjust(64, "0")
    stage(ledger, parent, "evaluate-dpo", key, rows)
    of_base = answered(base, questions=len(rows), prefix=rows[0]["id"].rstrip("0123456789"))
    stage(ledger, parent, "evaluate-base", f"b{key[1:]}", of_base)
    measured = Evaluation(name="the new version", rows=rows, settings={"evaluate.max_new_tokens": "40"}, data_md5=data_md5)

    def stand(version: str) -> Standing:
        return standing_of(ledger, NAME, version, measured)

    tags = {"posttrain.method": "dpo", "posttrain.seed": "0", "posttrain.stage_key": key, "posttrain.data_md5": data_md5}
    there = folder / f"model-{key[-8:]}"
    model = register(
        ledger,
        name=NAME,
        folder=there if there.exists() else model_folder(there, weight),
        run_id=parent,
        tags=tags,
        metrics={},
        stand=stand,
    )
    ledger.finish_pipeline(parent, metrics={})
    return model
