"""`make schedule` as a command: what it prints, what it keeps, and its exit codes."""

import os
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from flows import schedule_verbs as subject
from flows.__main__ import main
from tasks.data.announced import unannounced
from tasks.data.dvc_memory import Memory
from tasks.schedules.counts import count_run, done_by
from tasks.workspace.paths import Paths
from tests.flows.fake_prefect import FakeClient, lent, nightly

NOW = datetime(2027, 3, 26, 12, tzinfo=UTC)
"""Two days before clocks in Berlin are put forward."""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A repository whose server answers at once and whose checks pass."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("# nothing differs from the defaults\n")
    before = dict(os.environ)
    os.environ.pop("PREFECT_API_URL", None)
    client, checked = FakeClient(), []
    monkeypatch.setattr(subject, "connected", lambda paths: lent(client))
    monkeypatch.setattr(subject, "check_runnable", lambda paths, made, config, say: checked.append(made.name) or "md5-now")
    monkeypatch.setattr(subject, "utc_now", lambda: NOW)
    yield SimpleNamespace(paths=Paths(tmp_path), client=client, checked=checked)
    os.environ.clear()
    os.environ.update(before)


def test_making_one_prints_its_next_times_over_the_change_of_summer_time(house, capsys):
    count_run(house.paths, "mine-dpo")
    assert main(["schedule", "METHOD=dpo", "DATA=mine", "CRON=30 2 * * *", "TZ=Europe/Berlin"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[:2] == ["schedule mine-dpo: make retrain METHOD=dpo DATA=mine", '  "30 2 * * *" in Europe/Berlin, next:']
    assert lines[2] == "  Sat 2027-03-27 02:30 CET" and lines[4:] == [
        "  Mon 2027-03-29 02:30 CEST",
        "  Tue 2027-03-30 02:30 CEST",
        "  Wed 2027-03-31 02:30 CEST",
    ]
    assert "note: Europe/Berlin has no 02:30 on 2027-03-28, when its clocks are put forward: that run starts at " in said.err
    assert "note: no worker runs in this folder; without one nothing starts. Start it: make up" in said.err
    assert house.checked == ["mine-dpo"] and done_by(house.paths, "mine-dpo") == 0, "a schedule that is made anew counts anew"
    (deployment,) = house.client.deployments.values()
    assert deployment.name == "mine-dpo"


def test_only_times_up_to_the_end_are_printed(house, capsys):
    assert main(["schedule", "CRON=0 3 * * *", "RUNS=2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main(["schedule", "CRON=0 3 * * *", "UNTIL=2027-03-29"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_a_trigger_on_data_waits_for_the_next_version(house, capsys):
    house.paths.store.mkdir()
    memory = Memory.load(house.paths)
    memory.versions["mine"] = "md5-now"
    memory.save()
    assert main(["schedule", "ON=data", "METHOD=dpo", "DATA=mine"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "  on dataset.updated of dataset.mine"
    assert unannounced(house.paths) == {}, "the version of today is no news"


def test_what_fails_the_checks_is_not_made(house, monkeypatch, capsys):
    from posttrain.errors import DataError

    def refuse(paths, made, config, say):
        raise DataError("mine has no questions")

    monkeypatch.setattr(subject, "check_runnable", refuse)
    assert main(["schedule", "CRON=0 3 * * *", "DATA=mine"]) == 2
    assert capsys.readouterr().err == "data: mine has no questions\n" and house.client.deployments == {}


@pytest.mark.parametrize(
    "words", [["CRON=0 0 31 2 *"], ["CRON=0 3 * * *", "TZ=Mars"], ["METHOD=dpo"], ["PAUSE=x", "CRON=0 3 * * *"]]
)
def test_a_wrong_word_is_refused_before_anything_is_asked(house, capsys, words):
    assert main(["schedule", *words]) == 2
    assert capsys.readouterr().err.startswith("request: ") and house.checked == [] and house.client.asked == []


def test_pausing_resuming_and_deleting(house, capsys):
    key = house.client.add(nightly(), root=house.paths.root.resolve())
    assert main(["schedule", "PAUSE=nightly"]) == 0 and house.client.deployments[key].paused
    assert main(["schedule", "RESUME=nightly"]) == 0 and not house.client.deployments[key].paused
    count_run(house.paths, "nightly")
    assert main(["schedule", "DELETE=nightly"]) == 0 and house.client.deployments == {}
    assert done_by(house.paths, "nightly") == 0
    assert capsys.readouterr().out.splitlines() == [
        "schedule nightly is paused; a run that is at work goes on. To go on: make schedule RESUME=nightly",
        "schedule nightly goes on; make schedule shows its next run",
        "schedule nightly is deleted; a run that is at work goes on",
    ]
    assert main(["schedule", "DELETE=nightly"]) == 2
    assert capsys.readouterr().err == "request: there is no schedule nightly; there is none yet\n"


def test_the_list_of_none(house, capsys):
    assert main(["schedule"]) == 0
    assert capsys.readouterr().out.startswith("there is no schedule yet.")
