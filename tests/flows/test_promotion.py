"""Promotion as a user goes through it: the gate, the refusals, and the way back, on a real store and in a small house."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.promotion import decision_lines, promote, promote_version, roll_back, tell_history
from posttrain.errors import ContractError, DataError, RequestError, StorageError
from posttrain.promotion.moves import CHAMPION, PREVIOUS
from posttrain.settings.config import Config
from posttrain.settings.evaluation import TrackingSettings
from tasks.promotion.history import history_of
from tasks.promotion.moves import read_aliases
from tasks.tracking.ledger import Ledger
from tasks.workspace.paths import Paths
from tests.flows.houses import ROOT, environment, new_house, report, run
from tests.tasks.promotion.versions import NAME, answered, pipeline, start


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def ledger(empty_store: Path, tmp_path: Path) -> Ledger:
    shutil.copytree(empty_store, tmp_path / "repo")
    return Ledger.open(Paths(tmp_path / "repo"), TrackingSettings())


def champion(ledger: Ledger) -> tuple[str | None, str | None]:
    now = read_aliases(ledger, NAME)
    return now[CHAMPION], now[PREVIOUS]


def test_the_gate_decides_and_a_person_may_overrule_it(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, config, said = ledger.paths, Config(), list[str]()
    # 30 of 40 right against the base's 10; then 28 of 40 against 30; then the same model on other questions
    first = pipeline(ledger, tmp_path, 1.0, answered(30))
    pipeline(ledger, tmp_path, 2.0, answered(28))
    other = pipeline(ledger, tmp_path, 3.0, answered(40, prefix="x"), data_md5="e" * 32)

    assert promote(paths, config, said.append, version="1", why="the first") == "1"
    told = capsys.readouterr().out
    assert "gate: version 1 is promoted over the base: accuracy +50.0 points" in told
    assert f"posttrain-world: version 1 is champion now, the first one (first: beats the base)\nloads from {first.path}" in told

    with pytest.raises(ContractError) as refused:
        promote(paths, config, said.append, version="2", why="newer")
    assert str(refused.value).startswith("version 2 is not promoted over version 1: accuracy -5.0 points [")
    assert str(refused.value).endswith(
        'Nothing was moved. To promote it all the same, by hand, which the history keeps: make promote VERSION=2 WHY="…" FORCE=1'
    )
    assert champion(ledger) == ("1", None)
    promote(paths, config, said.append, version="2", why="the first one swears", is_forced=True)
    assert champion(ledger) == ("2", "1")

    with pytest.raises(DataError) as unlike:
        promote(paths, config, said.append, version=other.version, why="new data")
    assert str(unlike.value) == (
        "version 3 was measured on 40 held-out questions (data eeeeeeee), version 2 on 40 (data dddddddd), which are not the "
        "same: they do not compare. Let both be measured on one version of the data, with equal settings of evaluate; or promote "
        'it by hand, without a comparison: make promote VERSION=3 WHY="…" FORCE=1'
    )
    assert champion(ledger) == ("2", "1")
    promote(paths, config, said.append, version="3", why="the data have changed", is_forced=True)
    assert champion(ledger) == ("3", "2")

    assert roll_back(paths, config, said.append, why="wrong in production") == "2"
    assert champion(ledger) == ("2", "3")
    moves = history_of(ledger, NAME)
    assert [(one.kind, one.version, one.outcome, one.decision) for one in moves] == [
        ("rollback", "2", "done", "by hand"),
        ("promote", "3", "done", "by hand, without a comparison"),
        ("promote", "2", "done", "by hand, against the gate"),
        ("promote", "2", "refused", "not better"),
        ("promote", "1", "done", "first: beats the base"),
    ]
    record = json.loads(Path(ledger.client.download_artifacts(moves[3].run_id, "move.json", str(tmp_path))).read_text())
    assert record["gate"]["schema"] == "posttrain.decision/1" and record["gate"]["promoted"] is False
    assert {name: one["questions"] for name, one in record["evaluations"].items()} == {"version 2": 40, "version 1": 40}
    capsys.readouterr()
    tell_history(paths, config)
    assert capsys.readouterr().out.startswith("posttrain-world: champion 2, previous 3, challenger –\n")


def test_what_cannot_be_moved_is_told_and_nothing_moves(ledger: Ledger, tmp_path: Path) -> None:
    paths, config = ledger.paths, Config()
    pipeline(ledger, tmp_path, 1.0, answered(30))
    pipeline(ledger, tmp_path, 2.0, answered(38))
    promote(paths, config, print, version="1", why="the first")

    def refusal(kind: type[Exception], version: str, **how: Any) -> str:
        with pytest.raises(kind) as told:
            promote(paths, config, print, version=version, why="x", **how)
        assert champion(ledger)[0] == "1"
        return str(told.value)

    assert refusal(RequestError, "1") == "version 1 is the champion already: there is nothing to promote"
    assert refusal(RequestError, "x") == "VERSION must be the number of a version of posttrain-world, or challenger, got x"
    assert refusal(RequestError, "9").startswith(
        "there is no models:/posttrain-world/9; posttrain-world has the versions 1, 2 and"
    )

    # one that no pipeline measured
    source = ledger.client.get_model_version(NAME, "1").source
    with ledger.as_default_store():
        ledger.client.create_model_version(NAME, source, run_id=start(ledger), tags={"posttrain.method": "dpo"})
    for how in ({}, {"is_forced": True}):
        assert refusal(DataError, "3", **how) == (
            "version 3 of posttrain-world has no evaluation on held-out questions: no pipeline in this ledger measured it, or "
            "the stage is gone. Measure it, by the pipeline that made it: make pipeline METHOD=dpo DATA=world"
        )

    # one whose files are damaged, which the gate would let pass
    second = Path(ledger.client.get_model_version_download_uri(NAME, "2"))
    (second / "model.safetensors").write_bytes(b"noise")
    assert "models:/posttrain-world/2 is lost" in refusal(StorageError, "2")
    with pytest.raises(RequestError, match="there is no previous champion to go back to: version 1 is the only champion so far"):
        roll_back(paths, config, print, why="x")


def test_by_hand_a_version_is_promoted_where_nothing_compares_and_the_history_says_so(ledger: Ledger, tmp_path: Path) -> None:
    paths, config = ledger.paths, Config()

    def forced(version: str, trouble: str) -> None:
        """Promote a version by hand only, for `trouble` says why it does not compare."""
        before = champion(ledger)
        with pytest.raises(DataError) as refused:
            promote(paths, config, print, version=version, why="x")
        assert str(refused.value).startswith(trouble) and champion(ledger) == before
        assert str(refused.value).endswith(
            f'; or promote it by hand, without a comparison: make promote VERSION={version} WHY="…" FORCE=1'
        )
        promote(paths, config, print, version=version, why="we know better", is_forced=True)
        assert champion(ledger) == (version, before[0])
        move = history_of(ledger, NAME)[0]
        assert (move.kind, move.version, move.outcome) == ("promote", version, "done")
        assert (move.decision, move.why) == ("by hand, without a comparison", "we know better")
        assert move.says.startswith(trouble)
        kept = json.loads(Path(ledger.client.download_artifacts(move.run_id, "move.json", str(tmp_path / version))).read_text())
        assert kept["gate"] is None and list(kept["evaluations"]) == [f"version {version}"]

    # the first champion is compared with the base, whose evaluation is gone
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    pipeline(ledger, tmp_path, 1.0, answered(30))
    (of_base,) = ledger.client.search_runs([ledger.experiment_id], "tags.`posttrain.stage` = 'evaluate-base'")
    ledger.client.delete_run(of_base.info.run_id)
    forced("1", "the base's evaluation in the pipeline p-d is gone, and the first champion is compared with it")

    # a champion that nothing is left of but its files
    pipeline(ledger, tmp_path, 2.0, answered(38))
    of_first = "tags.`posttrain.model_uri` = 'models:/posttrain-world/1'"
    for found in ledger.client.search_runs([ledger.experiment_id], of_first):
        ledger.client.delete_run(found.info.run_id)
    forced("2", "version 1 of posttrain-world has no evaluation on held-out questions")


def test_nobody_goes_back_to_a_version_whose_files_are_gone(ledger: Ledger, tmp_path: Path) -> None:
    first = pipeline(ledger, tmp_path, 1.0, answered(30))
    pipeline(ledger, tmp_path, 2.0, answered(38))
    for version in ("1", "2"):
        promote_version(ledger, NAME, version, Config().promotion, print, why="x")
    shutil.rmtree(first.path)
    with pytest.raises(StorageError, match="models:/posttrain-world/1 is lost"):
        roll_back(ledger.paths, Config(), print, why="x")
    assert champion(ledger) == ("2", "1")


def test_broken_guards_come_first() -> None:
    guards = (
        SimpleNamespace(name="finished", is_broken=False, is_decided=True, says="no change"),
        SimpleNamespace(name="latency", is_broken=False, is_decided=False, says="a single timing is no sample"),
        SimpleNamespace(name="length", is_broken=True, is_decided=True, says="2.10 times those of version 1"),
    )
    decision: Any = SimpleNamespace(why="it is longer", guards=guards)
    assert decision_lines(decision) == [
        "gate: it is longer",
        "  BROKEN length: 2.10 times those of version 1",
        "  ok     finished: no change",
        "  shown  latency: a single timing is no sample",
    ]


KILLED = """
import os, signal, sys
from tasks.promotion import moves
from flows.__main__ import main

left, was = [int(sys.argv[1])], moves.set_alias

def set_alias(*arguments):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    was(*arguments)

moves.set_alias = set_alias
main(["promote", "VERSION=1", "WHY=killed half-way"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 1])
def test_whatever_comes_after_a_kill_completes_the_move(ledger: Ledger, tmp_path: Path, steps: int) -> None:
    pipeline(ledger, tmp_path, 1.0, answered(30))
    root = ledger.paths.root
    (root / "params.yaml").touch()
    how: dict[str, Any] = {
        "cwd": root,
        "env": environment() | {"PYTHONPATH": str(ROOT)},
        "capture_output": True,
        "text": True,
        "check": False,
    }
    killed = subprocess.run([sys.executable, "-c", KILLED, str(steps)], **how)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert champion(ledger)[0] == ("1" if steps else None)
    done = subprocess.run([sys.executable, "-m", "flows", "history"], **how)
    assert done.returncode == 0 and "promote posttrain-world – → 1 was half-done and is completed: " in done.stderr, done.stderr
    assert done.stdout.startswith("posttrain-world: champion 1, previous –, challenger –\n") and "completed" in done.stdout
    assert champion(ledger) == ("1", None)
    again = subprocess.run([sys.executable, "-m", "flows", "history"], **how)
    assert (again.returncode, again.stderr, again.stdout) == (0, "", done.stdout)


LOADS = (
    "import sys; from mlflow.artifacts import download_artifacts; from transformers import AutoModelForCausalLM\n"
    "print(AutoModelForCausalLM.from_pretrained(download_artifacts('models:/posttrain-world@champion')).num_parameters())"
)


@pytest.mark.slow
def test_a_small_house_promotes_and_rolls_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    house = new_house(tmp_path_factory.mktemp("house"))
    run(house, "pipeline", "method=dpo")
    told = report(house)
    assert told["champion"]["is_challenger"] is True and told["model"]["version"] == "1"
    card = (Path(told["model"]["path"]) / "README.md").read_text()
    assert card.startswith("---\n") and "# posttrain-world, version 1" in card and "simulated annotators" in card
    run(house, "promote", "VERSION=challenger", "WHY=the first one", "FORCE=1", fresh=True)

    run(house, "pipeline", "method=dpo", "dpo.beta=0.3")
    assert report(house)["model"]["version"] == "2"
    out = run(house, "promote", "VERSION=1", "WHY=again", code=2)
    assert "request: version 1 is the champion already" in out
    run(house, "promote", "VERSION=2", "WHY=newer", "FORCE=1")
    out = run(house, "rollback", "WHY=wrong answers")
    assert "posttrain-world: version 1 is champion again, version 2 before, which is previous" in out
    run(house, "rollback", "WHY=", code=2)
    out = run(house, "history")
    assert "posttrain-world: champion 1, previous 2, challenger" in out
    assert [line.split()[2] for line in out.splitlines() if line.startswith("20")] == ["rollback", "promote", "promote"]
    done = subprocess.run(
        [sys.executable, "-c", LOADS],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=environment() | {"MLFLOW_TRACKING_URI": f"sqlite:///{house}/mlflow/store/mlflow.db", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.split()[-1]) > 0

    # a pipeline that is run again keeps the version that it made, and its card
    run(house, "pipeline", "method=dpo")
    again = report(house)
    assert again["model"]["version"] == "1" and again["champion"]["why"] == "version 1 is the champion"
    assert (Path(again["model"]["path"]) / "README.md").read_text() == card
