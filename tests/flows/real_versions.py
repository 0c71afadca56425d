"""Versions that answer: a small model with a real evaluation behind it, registered as a pipeline does it, and its report."""

import json
import shutil
from pathlib import Path

from posttrain.settings.evaluation import EvaluateSettings
from posttrain.settings.model import ModelSettings
from tasks.evaluation.version import evaluate_version
from tasks.promotion.card_files import write_card
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import RegisteredModel, register
from tasks.workspace.artifacts import Artifact, Log, Outcome, make
from tests.tasks.promotion.versions import NAME, start

SETTINGS = EvaluateSettings(samples=2, max_new_tokens=12, max_questions=12)
SEED = 3


def real_version(ledger: Ledger, folder: Path, data: Path, *, context: int, key: str = "a") -> RegisteredModel:
    """Evaluate the model in a folder on held-out questions, and register it with a card."""
    parent = start(ledger)

    def compute(out: Path, log: Log) -> Outcome:
        return evaluate_version(
            out,
            log,
            title="test",
            data=data,
            part=None,
            version=folder,
            model=ModelSettings(),
            settings=SETTINGS,
            context=context,
            seed=SEED,
        )

    settings = {
        "context": context,
        "seed": SEED,
        "model.dtype": "auto",
        "evaluate.samples": SETTINGS.samples,
        "evaluate.temperature": SETTINGS.temperature,
        "evaluate.max_new_tokens": SETTINGS.max_new_tokens,
    }
    artifact, _ = make(ledger.paths, "evaluate-dpo", key * 64, compute, settings=settings, inputs={})
    ledger.start_stage(parent, "evaluate-dpo", key=key * 64, settings=settings).finish(artifact.path)
    tags = {"posttrain.method": "dpo", "posttrain.seed": "0", "posttrain.stage_key": key * 64, "posttrain.data_md5": "d" * 32}
    model = register(ledger, name=NAME, folder=folder, run_id=parent, tags=tags, metrics={})
    write_card(ledger, NAME, model.version, "---\nlibrary_name: transformers\n---\n\n# the card\n")
    ledger.finish_pipeline(parent, metrics={})
    return model


def report_of(ledger: Ledger, world, *, context: int, name: str = "20260101-000000-dpo-aaaa", method: str = "dpo") -> None:
    """Leave stages and report of a pipeline whose base and SFT model are the world's base."""
    made: dict[str, Artifact] = {}

    def stage(name: str, source: Path, target: str, **metrics: float) -> None:
        def compute(out: Path, log: Log) -> Outcome:
            shutil.copytree(source, out / target)
            return Outcome(metrics=metrics)

        made[name], _ = make(ledger.paths, name, name[0] * 64, compute, settings={}, inputs={})

    def questions(out: Path, log: Log) -> Outcome:
        shutil.copyfile(world.data / "held_out.jsonl", out / "held_out.jsonl")
        return Outcome()

    stage("tokenizer", world.tokenizer, "tokenizer", context=context)
    stage("base", world.base / "model", "model")
    stage("sft", world.base / "model", "model")
    made["validate"], _ = make(ledger.paths, "validate", "v" * 64, questions, settings={}, inputs={})
    told = {
        "pipeline_id": name,
        "method": method,
        "dataset": "world",
        "created": f"2026-01-01T00:00:{len(list(ledger.paths.reports.glob('*.json'))):02d}+00:00",
        "stages": [{"name": one.stage, "key": one.key} for one in made.values()],
    }
    ledger.paths.reports.mkdir(exist_ok=True)
    (ledger.paths.reports / f"{name}.json").write_text(json.dumps(told))
