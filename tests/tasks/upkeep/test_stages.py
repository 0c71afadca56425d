"""Results of stages: damaged in each way, seen, put aside, and gone; what is whole, or is being made, is left alone."""

import fcntl
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from posttrain.errors import RequestError
from posttrain.settings.config import Config
from tasks.upkeep.findings import Budget, Check, Severity, Stores, examine
from tasks.upkeep.stages import stages
from tasks.workspace.artifacts import Log, Outcome, make
from tasks.workspace.paths import Paths

KEY, OTHER = "a" * 64, "b" * 64
CHECK = Check("stages", "", stages)


def compute(out: Path, log: Log) -> Outcome:
    (out / "model").mkdir()
    save_file({"weight": np.ones(4, dtype=np.float32)}, str(out / "model" / "model.safetensors"))
    (out / "rows.jsonl").write_text('{"a": 1}\n')
    return Outcome()


class AtSight(Stores):
    """Nothing is read whole."""

    def budget(self) -> Budget:
        return Budget(is_deep=False, most=0)


@pytest.fixture(params=[Stores, AtSight])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    found: Stores = request.param(Paths(tmp_path), Config())
    for key in (KEY, OTHER):
        make(found.paths, "sft", key, compute, settings={}, inputs={})
    return found


def folder(stores: Stores) -> Path:
    return stores.paths.stages / "sft" / KEY


def is_at_sight(stores: Stores) -> bool:
    return isinstance(stores, AtSight)


def test_whole_results(stores: Stores) -> None:
    (found,) = stages(stores)
    assert found.severity is Severity.OK
    seen = "; 0 compared with their digests, 2 by length and head (DEEP=1 reads all)" if is_at_sight(stores) else ""
    assert found.says == f"2 results whole{seen}"


def test_nothing_was_made_yet(tmp_path: Path) -> None:
    assert stages(Stores(Paths(tmp_path), Config()))[0].says == "no stage has finished yet"


@pytest.mark.parametrize("damage", ["cut off", "gone", "no stage.json", "half a stage.json", "of another"])
def test_a_damaged_result_is_seen_put_aside_and_gone(stores: Stores, damage: str) -> None:
    there = folder(stores)
    weights, facts = there / "model" / "model.safetensors", there / "stage.json"
    if damage == "cut off":
        weights.write_bytes(weights.read_bytes()[:-4])
    elif damage == "gone":
        weights.unlink()
    elif damage == "no stage.json":
        facts.unlink()
    elif damage == "half a stage.json":
        facts.write_text(facts.read_text()[:50])
    else:
        facts.write_text((stores.paths.stages / "sft" / OTHER / "stage.json").read_text())
    (found,) = stages(stores)
    assert found.severity is Severity.WRONG and found.says.startswith(f"1 result damaged: sft/{KEY[:12]} (")
    assert found.says.endswith("makes it again by itself; FIX=1 puts it aside, below .posttrain/damaged")

    looked = examine(CHECK, stores, mends=True)
    assert looked.severity is Severity.OK and not there.exists()
    (aside,) = (stores.paths.store / "damaged").glob("*/sft/*")
    assert aside.name == KEY and looked.mended == (f"put aside: {aside.relative_to(stores.paths.root)}",)
    assert (stores.paths.stages / "sft" / OTHER).is_dir()


def test_bytes_that_were_changed_are_found_where_all_are_read(stores: Stores) -> None:
    weights = folder(stores) / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert (stages(stores)[0].severity is Severity.OK) == is_at_sight(stores)
    stores.is_deep = True
    if not is_at_sight(stores):
        assert "(model/model.safetensors of the cached result aaaaaaaaaaaa is damaged)" in stages(stores)[0].says


def test_a_result_that_is_being_made_is_left_alone(stores: Stores) -> None:
    (folder(stores) / "stage.json").unlink()
    (found,) = stages(stores)
    with folder(stores).with_name(f"{KEY}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert stages(stores)[0].severity is Severity.OK
        assert found.fix
        with pytest.raises(RequestError, match=r"^a pipeline is making \.posttrain/stages/sft/a+ now\. Look again"):
            found.fix()
    assert folder(stores).is_dir()


def test_parts_are_no_results(stores: Stores) -> None:
    (stores.paths.stages / "sft" / f"{KEY}.part-1").mkdir()
    assert stages(stores)[0].severity is Severity.OK
