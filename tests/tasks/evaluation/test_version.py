"""A registered version: it answers as the stage that made it does."""

import shutil

from posttrain.settings.evaluation import EvaluateSettings
from posttrain.settings.model import ModelSettings
from tasks.evaluation.evaluate import evaluate
from tasks.evaluation.version import evaluate_version
from tasks.workspace.jsonl import PROBLEMS, read_rows, write_rows


def test_a_version_answers_as_its_stage_does(tmp_path, tiny_world, world_records):
    questions, of_version, of_stage = (tmp_path / name for name in ("questions", "version's", "stage's"))
    for folder in (questions, of_version, of_stage):
        folder.mkdir()
    asked = world_records["held_out"][:4]
    write_rows(questions / "held_out.jsonl", (one.model_dump(mode="json") for one in asked))
    # as it is registered: weights and tokenizer at the top of one folder
    version = tmp_path / "version"
    shutil.copytree(tiny_world.base / "model", version)
    shutil.copytree(tiny_world.tokenizer, version, dirs_exist_ok=True)
    settings = EvaluateSettings(samples=1, max_new_tokens=8)
    how = {"title": "test", "model": ModelSettings(), "settings": settings, "context": tiny_world.context, "seed": 0}

    found = evaluate_version(of_version, lambda *_: None, data=questions, part=None, version=version, **how)
    base = {"subject": tiny_world.base, "reference": tiny_world.base, "tokenizer": tiny_world.tokenizer}
    where = {"data": questions, "part": None, "reference_results": None, "is_policy": False, **base}
    told = evaluate(of_stage, lambda *_: None, **where, **how)
    rows = list(read_rows(of_version / PROBLEMS))
    assert rows == list(read_rows(of_stage / PROBLEMS)) and found.metrics == told.metrics
    assert [row["id"] for row in rows] == [one.id for one in asked] and all(len(row["sampled"]) == 1 for row in rows)
    assert {path.name for path in version.iterdir()} >= {"config.json", "tokenizer.json"}
