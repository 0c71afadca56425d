"""What a version was made of, from the ledger and the stage store, and whether a stage's code is another since."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from posttrain.settings.config import Config
from tasks.retraining.made import made_of, recoded, when_made
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import register
from tasks.workspace.artifacts import Log, Outcome, make
from tasks.workspace.keys import Inputs, installed_versions, stage_key
from tests.tasks.promotion.versions import NAME, model_folder

PART, TOKENIZER = "tasks.evaluation.part:part", "tasks.base_model.tokenizer:make_tokenizer"
INPUTS = Inputs(settings={"evaluate.part": "reported", "evaluate.development_share": 0.2}, digests={"data": "d1"})


def pipeline(ledger: Ledger, folder: Path, *, md5: str) -> str:
    """Leave a pipeline with one stage, whose key is that of its inputs, and its version; return the key."""
    facts: dict[str, Any] = {"dataset": "world", "data_md5": md5, "git_commit": "abc", "flow_run_id": "f", "pipeline_id": "p"}
    parent = ledger.start_pipeline(Config(method="dpo"), files_md5={"questions": f"{md5}-q"}, **facts)
    key = stage_key("part", INPUTS, compute=PART)

    def compute(out: Path, log: Log) -> Outcome:
        (out / "ids.json").write_text("[]")
        return Outcome()

    artifact, _ = make(ledger.paths, "part", key, compute, settings=INPUTS.settings, inputs=INPUTS.digests)
    ledger.start_stage(parent, "part", key=key, settings=INPUTS.settings).finish(artifact.path)
    there = folder if folder.exists() else model_folder(folder, 1.0)
    tags = {"posttrain.stage_key": key, "posttrain.method": "dpo"}
    register(ledger, name=NAME, folder=there, run_id=parent, tags=tags, metrics={})
    ledger.finish_pipeline(parent, metrics={})
    return key


def test_a_version_tells_of_each_pipeline_that_arrived_at_it(ledger: Ledger, tmp_path: Path) -> None:
    key = pipeline(ledger, tmp_path / "model", md5="1" * 32)
    pipeline(ledger, tmp_path / "model", md5="2" * 32)
    newest, first = made_of(ledger, NAME, "1")
    assert (newest.data_md5, first.data_md5) == ("2" * 32, "1" * 32), "the newest first"
    assert (newest.method, newest.commit, newest.files) == ("dpo", "abc", {"questions": f"{'2' * 32}-q"})
    (stage,) = newest.stages
    assert (stage.name, stage.key, stage.settings, stage.inputs) == ("part", key, dict(INPUTS.settings), {"data": "d1"})
    assert newest.versions == installed_versions() and newest.keys == {("part", key)}
    assert when_made(ledger, NAME, "1") == f"{datetime.now(UTC):%Y-%m-%d}"
    assert list(made_of(ledger, NAME, "2")) == []

    # where the stage store was cleared, the ledger has a copy; where that is gone too, name and key are left
    shutil.rmtree(ledger.paths.stages)
    assert next(iter(made_of(ledger, NAME, "1"))) == newest
    shutil.rmtree(ledger.paths.ledger / "artifacts")
    (bare,) = next(iter(made_of(ledger, NAME, "1"))).stages
    assert (bare.name, bare.key, bare.settings) == ("part", key, None)


def test_the_code_of_a_stage_is_another_where_its_key_does_not_come_out_again(ledger: Ledger, tmp_path: Path) -> None:
    pipeline(ledger, tmp_path / "model", md5="1" * 32)
    (then,) = made_of(ledger, NAME, "1")
    assert recoded(then, {"part": PART}) == set()
    assert recoded(then, {"part": TOKENIZER}) == {"part"}, "as if its module were another now"
    assert recoded(then, {"other": PART}) == set()
