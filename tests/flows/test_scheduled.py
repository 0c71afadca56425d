"""The flows that a worker runs: which state they end in, and what its message says."""

import sys
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace

import pytest

from flows import schedule_runs, scheduled
from flows.schedule_runs import ThisRun
from posttrain.errors import ContractError, DataError, RequestError
from tasks.schedules.counts import done_by
from tasks.schedules.turns import holder_of, turn, wanted_of
from tasks.workspace.paths import Paths
from tests.flows.fake_prefect import FakeClient, lent, nightly

DUE = datetime(2026, 11, 29, 3, tzinfo=UTC)
WORDS = ["method=dpo", "data.name=mine"]


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A checkout with a schedule, a server that answers at once, and a retraining that says what it was asked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("# nothing differs from the defaults\n")
    client = FakeClient()
    key = client.add(nightly(), root=tmp_path)
    paths, said, asked, told = Paths(tmp_path), [], [], []
    answer = {"outcome": "promoted", "says": "version 4 is champion"}

    def retrain(paths, config, say, *, cause, is_forced=False):
        asked.append((config.method, config.data.name, cause, is_forced, holder_of(paths, "mine").name))
        if "error" in answer:
            raise answer["error"]
        return SimpleNamespace(**answer)

    module = ModuleType("flows.retrain")
    module.retrain = retrain
    monkeypatch.setitem(sys.modules, "flows.retrain", module)
    for place in (scheduled, schedule_runs):
        monkeypatch.setattr(place, "connected", lambda paths: lent(client))
    monkeypatch.setattr(scheduled, "_this_run", lambda: ThisRun("nightly-20261129-030000", DUE, str(key)))
    monkeypatch.setattr(scheduled, "_say", lambda: said.append)
    monkeypatch.setattr(scheduled, "utc_now", lambda: DUE)
    monkeypatch.setattr(scheduled, "_ready", lambda paths, config, say: lent(None))
    monkeypatch.setattr(scheduled, "announce_versions", lambda paths, say, named: told.append(named))
    return SimpleNamespace(paths=paths, client=client, key=key, said=said, asked=asked, answer=answer, told=told)


def run(house, schedule=None, *, cause="schedule", event=None):
    schedule = schedule or nightly()
    house.client.deployments[house.key].parameters = {"schedule": schedule.as_record()}
    return scheduled._run(WORDS, cause, event, schedule.as_record(), scheduled._retrain)


def test_its_state_is_what_the_retraining_says(house):
    state = run(house)
    assert (state.type.value, state.name, state.message) == ("COMPLETED", "Promoted", "version 4 is champion")
    assert house.asked == [("dpo", "mine", "schedule nightly", False, "nightly-20261129-030000")]
    assert done_by(house.paths, "nightly") == 1 and holder_of(house.paths, "mine") is None and len(house.told) == 1


@pytest.mark.parametrize("outcome", ["kept", "unchanged"])
def test_a_model_that_is_kept_is_no_failure(house, outcome):
    house.answer.update(outcome=outcome, says="0.61 against 0.62")
    state = run(house)
    assert state.is_completed() and state.name == outcome.capitalize() and state.message == "0.61 against 0.62"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("mine has no questions"), "data: mine has no questions"),
        (ContractError("the judge chooses by position"), "contract: the judge chooses by position"),
    ],
)
def test_an_error_is_a_failure_with_its_sentence(house, error, message):
    house.answer["error"] = error
    state = run(house)
    assert state.is_failed() and state.message == message and house.said == [message]
    assert done_by(house.paths, "nightly") == 1 and len(house.told) == 1, "it was a run, and what it found is told"
    assert holder_of(house.paths, "mine") is None


def test_a_wrong_setting_is_a_failure(house):
    state = scheduled._run(["dpo.bta=1"], "schedule", None, None, scheduled._retrain)
    assert state.is_failed() and "did you mean dpo.beta?" in state.message and house.asked == []


def test_a_late_run_is_skipped_with_the_reason(house, monkeypatch):
    monkeypatch.setattr(scheduled, "utc_now", lambda: DUE.replace(hour=9))
    state = run(house)
    assert state.is_completed() and state.name == "Skipped" and "when no worker was there" in state.message
    assert house.asked == [] and done_by(house.paths, "nightly") == 0


def test_a_run_that_comes_meanwhile_is_merged_into_one_more(house):
    with turn(house.paths, "mine", "make retrain"):
        state = run(house, cause="data", event={"md5": "12"})
        again = run(house, cause="data", event={"md5": "34"})
    assert state.name == again.name == "Skipped"
    assert state.message.startswith("mine is being retrained by make retrain (since 2")
    assert state.message.endswith("merged into one more run, which starts after that one")
    (wanted,) = wanted_of(house.paths, "mine")
    assert (wanted.deployment, wanted.cause, wanted.event) == (str(house.key), "data", {"md5": "34"})
    assert house.asked == [] and done_by(house.paths, "nightly") == 0


def test_who_was_asked_meanwhile_starts_the_other_also_after_a_failure(house, monkeypatch):
    other = house.client.add(nightly(name="other"), root=house.paths.root)
    module = sys.modules["flows.retrain"]

    def ask_meanwhile(paths, config, say, *, cause, is_forced=False):
        from tasks.schedules.turns import Wanted, ask

        ask(paths, "mine", Wanted(str(other), "drift", {"verdict": "x"}, ("other-1",)))
        raise DataError("no")

    monkeypatch.setattr(module, "retrain", ask_meanwhile)
    assert run(house).is_failed()
    assert house.client.asked[-1] == ("run", other, {"cause": "drift", "event": {"verdict": "x"}})


def test_the_last_run_says_so_and_pauses_its_schedule(house):
    state = run(house, nightly(runs=1))
    assert state.message == "version 4 is champion. It was the last run: it has made its 1 run (RUNS=1)"
    assert house.client.deployments[house.key].paused
    assert run(house, nightly(runs=1)).message == "the schedule has ended: it has made its 1 run (RUNS=1)"


def test_a_server_that_goes_away_at_the_end_undoes_nothing(house, monkeypatch):
    def refuse(*given, **told):
        raise RequestError("Prefect's server does not answer")

    monkeypatch.setattr(scheduled, "pause_if_last", refuse)
    assert run(house).message == "version 4 is champion" and house.said == ["note: Prefect's server does not answer"]


def test_a_run_without_a_schedule_is_a_retraining_all_the_same(house):
    state = scheduled._run(WORDS, "asked by Ann", None, None, scheduled._retrain)
    assert state.name == "Promoted" and house.asked[0][2] == "asked by Ann"


# --- checks of prompts ------------------------------------------------------------------------------------------------


def check(house, monkeypatch, answer):
    asked = []

    def monitor(paths, config, request, say):
        asked.append((config.data.name, config.monitor.level, request.file, request.form))
        if isinstance(answer, Exception):
            raise answer
        return {"verdict": answer}

    monkeypatch.setattr("flows.monitor.monitor", monitor)
    words = ["file=prompts.jsonl", "format=records", "data.name=mine", "monitor.level=0.01"]
    schedule = nightly(verb="monitor", words=tuple(words))
    house.client.deployments[house.key].parameters = {"schedule": schedule.as_record()}
    state = scheduled._run(words, "schedule", None, schedule.as_record(), scheduled._monitor)
    assert asked == [("mine", 0.01, "prompts.jsonl", "records")] and done_by(house.paths, "nightly") == 1
    return state


def test_no_drift(house, monkeypatch):
    state = check(house, monkeypatch, "no drift is seen")
    assert (state.type.value, state.name, state.message) == ("COMPLETED", "No drift", "no drift is seen")


def test_a_drift_is_an_answer(house, monkeypatch):
    state = check(house, monkeypatch, ContractError("the prompts have drifted: AUC 0.7"))
    assert (state.type.value, state.name) == ("COMPLETED", "Drift")
    assert state.message == "drift: the prompts have drifted: AUC 0.7"


def test_too_few_prompts_are_a_failure(house, monkeypatch):
    assert check(house, monkeypatch, DataError("3 prompts are too few")).is_failed()
