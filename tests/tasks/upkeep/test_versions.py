"""Files of versions: gone, cut off, changed; seen, repaired where a stage has the same, and gone."""

import os
import shutil
from pathlib import Path

import pytest

from tasks.promotion.moves import set_alias
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import register
from tasks.upkeep.findings import Budget, Check, Severity, Stores, examine
from tasks.upkeep.versions import versions
from tasks.workspace.artifacts import Log, Outcome, make
from tests.tasks.promotion.versions import NAME, model_folder, start

CHECK = Check("versions", "", versions)


class AtSight(Stores):
    """Nothing is read whole."""

    def budget(self) -> Budget:
        return Budget(is_deep=False, most=0)


def version(ledger: Ledger, weight: float) -> Path:
    """Register the model of a stage and return the folder of the version."""

    def compute(out: Path, log: Log) -> Outcome:
        model_folder(out / "model", weight)
        return Outcome()

    key = f"{weight:.0f}".rjust(64, "0")
    artifact, _ = make(ledger.paths, "dpo", key, compute, settings={}, inputs={})
    tags = {"posttrain.method": "dpo", "posttrain.stage_key": key}
    folder = artifact.path / "model"
    return Path(register(ledger, name=NAME, folder=folder, run_id=start(ledger), tags=tags, metrics={}).path)


def test_versions_that_are_whole(looked_at: Stores, ledger: Ledger) -> None:
    assert versions(looked_at)[0].says == "0 versions: the files are there"
    version(ledger, 1.0)
    version(ledger, 2.0)
    (found,) = versions(looked_at)
    assert found.severity is Severity.OK
    assert found.says == "2 versions: the files are there, each with the digest that it was registered with"
    (found,) = versions(AtSight(ledger.paths, looked_at.config, _ledger=ledger))
    assert found.says == "2 versions: the files are there; 0 read whole, 2 by length and head (DEEP=1 reads all)"


@pytest.mark.parametrize("damage", ["gone", "cut off", "changed", "half a config.json"])
def test_a_version_that_is_damaged(looked_at: Stores, ledger: Ledger, damage: str) -> None:
    folder = version(ledger, 1.0)
    weights = folder / "model.safetensors"
    if damage == "gone":
        shutil.rmtree(folder)
    elif damage == "cut off":
        os.truncate(weights, weights.stat().st_size - 1)
    elif damage == "changed":
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    else:
        (folder / "config.json").write_text('{"model_type": ')
    at_sight = versions(AtSight(ledger.paths, looked_at.config, _ledger=ledger))
    assert (at_sight[0].severity is Severity.OK) == (damage == "changed")
    (found,) = versions(looked_at)
    assert found.severity is Severity.WRONG
    assert found.says.startswith(f"models:/{NAME}/1 (challenger) does not load: ") and str(folder) in found.says

    looked = examine(CHECK, looked_at, mends=True)
    assert looked.severity is Severity.OK
    assert looked.mended[0].startswith(f"models:/{NAME}/1: its files were damaged or gone, and are repaired from ")


def test_a_version_that_nothing_can_repair_says_what_to_do(looked_at: Stores, ledger: Ledger) -> None:
    folder = version(ledger, 1.0)
    (folder / "model.safetensors").unlink()
    shutil.rmtree(ledger.paths.stages)
    looked = examine(CHECK, looked_at, mends=True)
    assert looked.severity is Severity.WRONG and looked.mended == ()
    assert looked.findings[1].says.startswith(f"it could not be mended: models:/{NAME}/1 is lost: {folder} lacks config.json or")
    assert "make pipeline METHOD=dpo DATA=world" in looked.findings[1].says


def test_what_serves_is_read_first(looked_at: Stores, ledger: Ledger) -> None:
    first, second = version(ledger, 1.0), version(ledger, 2.0)
    set_alias(ledger, NAME, ("challenger", None))
    set_alias(ledger, NAME, ("champion", "1"))
    size = sum(file.stat().st_size for file in first.iterdir())

    class One(Stores):
        def budget(self) -> Budget:
            return Budget(is_deep=False, most=size)

    for folder in (first, second):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    (found,) = versions(One(ledger.paths, looked_at.config, _ledger=ledger))
    assert found.says.startswith(f"models:/{NAME}/1 (champion) does not load: ")
    assert len(versions(looked_at)) == 2
