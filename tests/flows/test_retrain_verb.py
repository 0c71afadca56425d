"""`make retrain` on the command line: its words, its exit codes, what it prints; and the whole of it in a small house."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows import retrain_verb
from flows.__main__ import main
from flows.retrain import Retrained
from posttrain.errors import ContractError
from tasks.schedules.turns import turn
from tasks.workspace.paths import Paths
from tests.flows.houses import new_house, report, run


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what retrainings are asked for, in a repository where none is done and Prefect's server is somebody else's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("# nothing differs from the defaults\n")
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_LOCAL_STORAGE_PATH"):
        monkeypatch.setenv(name, "x")
    found: list[Any] = []

    @contextmanager
    def server(paths: Any) -> Iterator[None]:
        yield None

    def retrain(paths: Any, config: Any, say: Any, **how: Any) -> Retrained:
        found.append((config, how))
        return Retrained("kept", "kept: version 5 is worse; version 3 still serves", champion="3")

    monkeypatch.setattr(retrain_verb, "starting_server", server)
    monkeypatch.setattr("flows.retrain.retrain", retrain)
    monkeypatch.setattr("tasks.report.pictures.load_drawing", lambda: None)
    monkeypatch.setattr("tasks.tracking.store.load_store", lambda: None)
    return found


def test_a_champion_that_stays_is_an_end_like_the_others(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrain", "METHOD=KTO", "DATA=mine", "SET=kto.beta = 0.2 seed=3"]) == 0
    assert capsys.readouterr().out == "kept: version 5 is worse; version 3 still serves\nrecord: reports/retrain/latest.json\n"
    ((config, how),) = asked
    assert (config.method, config.data.name, config.kto.beta, config.seed) == ("kto", "mine", 0.2, 3)
    assert how == {"cause": "by hand", "is_forced": False}
    assert main(["retrain", "FORCE=1"]) == 0 and asked[1][1]["is_forced"] is True
    assert main(["retrain", "FORCE=0"]) == 0 and asked[2][1]["is_forced"] is False


def test_one_retraining_of_a_dataset_runs_at_a_time(asked: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with turn(Paths(tmp_path), "mine", "nightly-1"):
        assert main(["retrain", "DATA=mine"]) == 2
        assert "request: mine is being retrained now, by nightly-1 (since " in capsys.readouterr().err
        assert main(["retrain", "DATA=other"]) == 0
    assert main(["retrain", "DATA=mine"]) == 0
    assert [config.data.name for config, _ in asked] == ["other", "mine"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["FORCE=2"], "request: FORCE must be 1 (go through pipeline and gate although nothing has changed) or 0, got 2\n"),
        (["METHOD=dpoo"], "request: there is no method dpoo; did you mean dpo?; methods are"),
        (["SET=retraining.retrys=1"], "request: there is no setting retraining.retrys; did you mean retraining.retries?\n"),
        (["SET=retraining.retries=-1"], "request: retraining.retries must be at least 0, got -1\n"),
        (["SET=retraining.webhook=https://host/t0p"], "request: retraining.webhook must say where the address is, env:NAME or"),
    ],
)
def test_what_is_wrong_ends_with_2_and_asks_for_nothing(
    asked: list[Any], capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(["retrain", *words]) == 2 and asked == []
    told = capsys.readouterr().err
    assert told.startswith(says) and "t0p" not in told


def test_a_broken_contract_ends_with_3(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any, **how: Any) -> Retrained:
        raise ContractError("the reward model knows nothing")

    monkeypatch.setattr("flows.retrain.retrain", fails)
    assert main(["retrain"]) == 3 and capsys.readouterr().err == "contract: the reward model knows nothing\n"


def latest(house: Path) -> dict[str, Any]:
    return dict(json.loads((house / "reports" / "retrain" / "latest.json").read_text()))


@pytest.mark.slow
def test_a_small_house_retrains(tmp_path_factory: pytest.TempPathFactory) -> None:
    house = new_house(tmp_path_factory.mktemp("house"))
    out = run(house, "retrain", "method=dpo", fresh=True)
    first = latest(house)
    assert "retraining posttrain-world, since there is no champion yet" in out and first["says"] in out
    assert (first["challenger"], first["tries"], first["error"]) == ("1", 1, None) and first["outcome"] in ("promoted", "kept")
    made = report(house)["pipeline_id"]

    # the same again, whether the gate let it pass or not; and once it is champion
    assert "unchanged: nothing that matters has changed since" in run(house, "retrain", "method=dpo")
    if first["outcome"] == "kept":
        run(house, "promote", "VERSION=1", "WHY=the first one", "FORCE=1")
    out = run(house, "retrain", "method=dpo")
    assert "unchanged: nothing that matters has changed since version 1 of 20" in out and report(house)["pipeline_id"] == made

    # a setting, told with both values; what it does not touch is reused
    run(house, "retrain", "method=dpo", "dpo.beta=0.3")
    second = latest(house)
    assert second["changes"]["kinds"] == ["settings"] and second["changes"]["settings"]["dpo.beta"][1] == "0.3"
    assert second["challenger"] == "2" and second["is_champion_measured_anew"] is False
    assert [stage["name"] for stage in report(house)["stages"] if not stage["cached"]] == ["dpo", "evaluate-dpo"]

    # other held-out questions: the champion answers them too, once
    params = house / "params.yaml"
    params.write_text(params.read_text().replace("held_out: 30", "held_out: 36"))
    out = run(house, "retrain", "method=dpo", "dpo.beta=0.5")
    third = latest(house)
    assert third["changes"]["kinds"][0] == "data" and "held_out" in third["changes"]["data"]
    assert third["is_champion_measured_anew"] is True and "it is measured on these" in out
    assert third["decision"]["questions"] == 36 and third["outcome"] in ("promoted", "kept")
    assert len(list((house / ".posttrain" / "stages" / "evaluate-champion").glob("*/stage.json"))) == 1
    assert "unchanged: nothing that matters has changed since" in run(house, "retrain", "method=dpo", "dpo.beta=0.5")
    assert "retraining (by hand): since there is no champion yet" in run(house, "history")
