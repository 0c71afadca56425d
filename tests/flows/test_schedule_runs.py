"""Around one run: late, at its end, merged, and who is started afterwards."""

from datetime import UTC, datetime, timedelta

import pytest

from flows import schedule_runs as subject
from flows.lost_runs import LOST, STOPPED
from flows.schedule_runs import ThisRun, as_now, asked_by, by_hand, cause_of, pause_if_last, start_wanted, why_skipped
from posttrain.errors import RequestError
from tasks.schedules.counts import count_run
from tasks.schedules.turns import Wanted, ask, holder_of, turn, wanted_of
from tasks.workspace.paths import Paths
from tests.flows.fake_prefect import FakeClient, lent, nightly, past

DUE = datetime(2026, 11, 29, 3, tzinfo=UTC)


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


@pytest.fixture
def client(monkeypatch):
    client = FakeClient()
    monkeypatch.setattr(subject, "connected", lambda paths: lent(client))
    return client


def run_of(client, schedule, paths):
    return ThisRun("nightly-1", DUE, str(client.add(schedule, root=paths.root)))


def skipped(paths, client, schedule, *, minutes, cause="schedule"):
    this = run_of(client, schedule, paths)
    return why_skipped(paths, schedule, this, cause, now=DUE + timedelta(minutes=minutes), server=client)


def test_a_run_at_its_time_starts_and_asks_the_server_nothing(paths, client):
    assert skipped(paths, client, nightly(), minutes=1) == "" and client.asked == []


def test_a_run_after_an_outage_is_dropped_and_says_so(paths, client):
    assert skipped(paths, client, nightly(zone="Europe/Berlin"), minutes=370) == (
        "its time was 2026-11-29 04:00 CET, 6 h 10 min ago, when no worker was there. "
        "Nothing is caught up unless CATCH_UP=1 asks for it"
    )


def test_catching_up_is_explicit_and_a_trigger_is_never_late(paths, client):
    assert skipped(paths, client, nightly(is_caught_up=True), minutes=370) == ""
    assert skipped(paths, client, nightly(on="data", cron=""), minutes=370, cause="data") == ""
    assert skipped(paths, client, nightly(), minutes=370, cause="data") == "", "a request of a trigger that waited"


def test_one_that_waited_behind_others_starts_unless_its_next_time_has_come(paths, client):
    client.runs = lambda query: [past(DUE, "Completed", "", start=DUE, end=DUE + timedelta(minutes=119))]
    assert skipped(paths, client, nightly(), minutes=120) == ""
    assert skipped(paths, client, nightly(cron="0 * * * *"), minutes=120) == (
        "its time was 2026-11-29 03:00 UTC, 2 h 0 min ago; others ran since, and the next time of the schedule has come, "
        "whose run does the same"
    )


def test_runs_that_have_no_end_yet_do_not_count_as_work(paths, client):
    client.runs = lambda query: [past(DUE, "Running", "", start=DUE)]
    assert "when no worker was there" in skipped(paths, client, nightly(), minutes=120)


def test_a_run_that_lost_its_process_in_the_outage_was_not_at_work_until_it_was_marked(paths, client):
    client.runs = lambda query: [past(DUE, "Crashed", LOST, start=DUE, end=DUE + timedelta(minutes=119))]
    assert "when no worker was there" in skipped(paths, client, nightly(), minutes=120)
    client.runs = lambda query: [past(DUE, "Crashed", STOPPED, start=DUE, end=DUE + timedelta(minutes=119))]
    assert skipped(paths, client, nightly(), minutes=120) == "", "make down knows when it stopped one"


def test_a_run_after_the_end_is_dropped_and_pauses_the_schedule(paths, client):
    schedule = nightly(until="2026-11-28T23:59:59+00:00")
    said = skipped(paths, client, schedule, minutes=0)
    assert said == "the schedule has ended: its end is over (UNTIL=2026-11-28T23:59:59+00:00)"
    assert all(one.paused for one in client.deployments.values())


def test_runs_are_counted_against_what_was_asked(paths, client):
    schedule = nightly(runs=2)
    count_run(paths, "nightly")
    assert skipped(paths, client, schedule, minutes=0) == ""
    this = run_of(client, schedule, paths)
    assert pause_if_last(paths, schedule, this, now=DUE, server=client) == ""
    count_run(paths, "nightly")
    assert pause_if_last(paths, schedule, this, now=DUE, server=client) == "it has made its 2 runs (RUNS=2)"
    assert client.deployments[list(client.deployments)[-1]].paused
    assert skipped(paths, client, schedule, minutes=0) == "the schedule has ended: it has made its 2 runs (RUNS=2)"


def test_the_last_run_before_the_end_pauses_it(paths, client):
    this = run_of(client, nightly(), paths)
    ends = nightly(until="2026-11-29T23:59:59+00:00")
    assert pause_if_last(paths, ends, this, now=DUE, server=client).startswith("its end is over")
    goes_on = nightly(until="2026-11-30T03:00:00+00:00")
    assert pause_if_last(paths, goes_on, this, now=DUE, server=client) == ""


def test_a_run_follows_its_schedule_as_it_is_now(paths, client):
    this = run_of(client, nightly(runs=5), paths)
    assert as_now(client, this, nightly()).runs == 5
    client.deployments.clear()
    assert as_now(client, this, nightly()) == nightly() and as_now(client, ThisRun("x", DUE), None) is None


def test_why_a_retraining_runs():
    assert cause_of(nightly(), "schedule", None) == "schedule nightly" and cause_of(None, "schedule", None) == "schedule"
    assert cause_of(nightly(), "data", {"md5": "0123456789"}) == "trigger nightly: version 01234567 of the data"
    assert cause_of(nightly(), "drift", {"verdict": "AUC 0.7"}) == "trigger nightly: drift. AUC 0.7"
    assert cause_of(nightly(), "drift", None) == "trigger nightly: drift."
    assert cause_of(None, "asked by Ann", None) == "asked by Ann"


# --- requests ---------------------------------------------------------------------------------------------------------


def test_what_was_asked_for_meanwhile_is_started_once(paths, client):
    key = client.add(nightly(), root=paths.root)
    ask(paths, "mine", asked_by(ThisRun("run-1", DUE, str(key)), "data", {"md5": "1"}))
    ask(paths, "mine", asked_by(ThisRun("run-2", DUE, str(key)), "data", {"md5": "2"}))
    assert start_wanted(paths, print) == ["again-1"]
    assert client.asked[-1] == ("run", key, {"cause": "data", "event": {"md5": "2"}})
    assert start_wanted(paths, print) == [] and wanted_of(paths, "mine") == []


def test_nothing_starts_while_another_has_the_turn(paths, client):
    key = client.add(nightly(), root=paths.root)
    ask(paths, "mine", Wanted(str(key), "schedule"))
    with turn(paths, "mine", "first"):
        assert start_wanted(paths, print) == [] and len(wanted_of(paths, "mine")) == 1
        assert holder_of(paths, "mine").name == "first"


def test_a_server_that_is_gone_keeps_the_request(paths, monkeypatch):
    def refuse(paths):
        raise RequestError("Prefect's server does not run")

    monkeypatch.setattr(subject, "connected", refuse)
    ask(paths, "mine", Wanted("7", "schedule", {}, ("run-1",)))
    said = []
    assert start_wanted(paths, said.append) == []
    assert said == ["note: one more retraining of mine is wanted and cannot start now: Prefect's server does not run"]
    assert wanted_of(paths, "mine") == [Wanted("7", "schedule", {}, ("run-1",))]


def test_a_schedule_that_was_deleted_is_not_run(paths, client):
    ask(paths, "mine", Wanted("7", "schedule"))
    assert start_wanted(paths, print) == [] and wanted_of(paths, "mine") == []


def test_by_hand_one_runs_at_a_time_and_starts_what_waited(paths, client):
    with turn(paths, "mine", "nightly-1"), pytest.raises(RequestError) as error, by_hand(paths, "mine", "make retrain", print):
        pass
    assert str(error.value).startswith("mine is being retrained now, by nightly-1 (since 2")
    assert str(error.value).endswith("and one runs at a time. Wait for it; make schedule shows it")
    key = client.add(nightly(), root=paths.root)
    with by_hand(paths, "mine", "make retrain", print):
        assert holder_of(paths, "mine").name == "make retrain"
        ask(paths, "mine", Wanted(str(key), "data"))
    assert client.asked[-1][:2] == ("run", key)
