"""Checkpoints: whole or absent, newest and best kept."""

import pytest
import torch

from tasks.workspace.checkpoints import Checkpoints


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_and_the_best_are_kept(tmp_path):
    kept = Checkpoints(tmp_path / "ppo" / "key")
    assert kept.latest() is None
    assert kept.best() is None
    kept.save(10, {"step": 10, "weights": torch.ones(2)}, is_best=True)
    kept.save(20, {"step": 20, "weights": torch.zeros(2)}, is_best=False)
    assert names(kept.folder) == ["best.pt", "step-00000020.pt"]
    assert kept.latest()["step"] == 20
    assert torch.load(kept.best(), weights_only=True)["step"] == 10
    kept.save(30, {"step": 30}, is_best=True)
    assert torch.load(kept.best(), weights_only=True)["step"] == 30


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    kept = Checkpoints(tmp_path)
    kept.save(10, {"step": 10}, is_best=True)

    def full(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        kept.save(20, {"step": 20}, is_best=True)
    assert names(tmp_path) == ["best.pt", "step-00000010.pt"]
    assert kept.latest() == {"step": 10}


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip", None])
def test_a_damaged_checkpoint_is_told_and_passed_over(tmp_path, content):
    said = []
    kept = Checkpoints(tmp_path, say=said.append)
    kept.save(10, {"step": 10}, is_best=False)
    damaged = tmp_path / "step-00000020.pt"
    if content is None:
        torch.save([1, 2], damaged)  # readable, and no state
    else:
        damaged.write_bytes(content)
    assert kept.latest() == {"step": 10}
    assert said == [
        f"{tmp_path}: step-00000020.pt cannot be read, so training goes on from step-00000010.pt. Only the steps since then are "
        "lost; what could not be read is kept beside it as .damaged until the stage is finished"
    ]
    kept.save(11, {"step": 11}, is_best=False)
    assert kept.latest() == {"step": 11}, "the damaged one, newer by its name, pushes out none that is written now"


def test_where_the_newest_is_damaged_the_best_goes_on_and_without_any_the_beginning(tmp_path):
    said = []
    kept = Checkpoints(tmp_path, say=said.append)
    kept.save(10, {"step": 10}, is_best=True)
    kept.save(20, {"step": 20}, is_best=False)
    (tmp_path / "step-00000020.pt").write_bytes(b"cut")
    assert kept.latest() == {"step": 10}
    assert "so training goes on from best.pt" in said[0]
    (tmp_path / "best.pt").write_bytes(b"cut")
    assert kept.latest() is None
    assert "best.pt cannot be read, so training starts from its beginning" in said[1]
    assert kept.latest() is None and len(said) == 2


def test_a_checkpoint_never_runs_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("code was run",))

    torch.save({"trap": Trap()}, tmp_path / "step-00000010.pt")
    assert Checkpoints(tmp_path).latest() is None
