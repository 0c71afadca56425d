"""What `make schedule …` asks for, and what is refused before any server is asked."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace

import pytest

from flows import schedule_request as subject
from flows.schedule_request import Asked, check_runnable, read_asked, schedule_of
from flows.verbs import VERBS, words_of
from posttrain.errors import DataError, RequestError
from posttrain.settings.config import merge
from tasks.workspace.paths import Paths
from tests.flows.fake_prefect import nightly

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
CRON = "CRON=0 3 * * *"


def made(*words, now=NOW):
    asked = read_asked(words_of("schedule", words))
    return schedule_of(asked, merge({}, asked.settings), now=now, moves_back=True)


def said(*words):
    with pytest.raises(RequestError) as error:
        made(*words)
    return str(error.value)


def test_no_words_ask_for_the_list_and_a_name_for_a_move():
    assert read_asked([]) == Asked()
    assert read_asked(["pause=nightly"]) == Asked(move="pause", name="nightly")
    assert read_asked(["delete=nightly"]).move == "delete" and read_asked(["resume=x"]).move == "resume"
    assert read_asked(["cron=0 3 * * *", "method=dpo"]).settings == ("method=dpo",)


def test_every_word_of_the_verb_is_its_own_or_a_setting():
    names = {word.name.lower() for word in VERBS["schedule"].words}
    assert names - {"method", "data", "set"} == set(subject.OWN)


def test_a_schedule_with_the_defaults_of_today_written_out():
    schedule = made(CRON, "DATA=mine", "SET=dpo.beta=0.2")
    assert (schedule.name, schedule.verb, schedule.dataset, schedule.on) == ("mine-dpo", "retrain", "mine", "times")
    assert schedule.words == ("method=dpo", "data.name=mine", "dpo.beta=0.2")
    assert (schedule.cron, schedule.zone, schedule.until, schedule.runs, schedule.is_caught_up) == (
        "0 3 * * *",
        "UTC",
        "",
        0,
        False,
    )


def test_every_word_of_a_schedule():
    words = ("METHOD=sft", CRON, "TZ=Europe/Berlin", "UNTIL=2027-01-01", "RUNS=10", "CATCH_UP=1", "NAME=nightly")
    schedule = made(*words)
    assert (schedule.name, schedule.zone, schedule.runs, schedule.is_caught_up) == ("nightly", "Europe/Berlin", 10, True)
    assert schedule.until == "2027-01-01T23:59:59+01:00" and schedule.words == ("data.name=world", "method=sft")


def test_triggers_and_checks():
    on_data = made("ON=data", "METHOD=dpo", "DATA=mine")
    assert (on_data.on, on_data.name, on_data.cron) == ("data", "mine-dpo-on-data", "")
    assert made("ON=Drift").on == "drift"
    check = made("FILE=prompts.jsonl", CRON, "DATA=mine", "FORMAT=records", "SET=monitor.level=0.01")
    assert (check.verb, check.name) == ("monitor", "mine-monitor")
    assert check.words == ("file=prompts.jsonl", "format=records", "data.name=mine", "monitor.level=0.01")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("METHOD=dpo",),
            'a schedule needs CRON or ON: make schedule METHOD=dpo CRON="0 3 * * *" DATA=mine, '
            "or make schedule ON=data METHOD=dpo DATA=mine",
        ),
        (("ON=monday",), "ON must be data (a new version of the dataset) or drift (an alarm of make monitor), got monday"),
        (("ON=times",), "ON must be data (a new version of the dataset) or drift (an alarm of make monitor), got times"),
        (("ON=data", CRON), "CRON is of times of the clock, and ON=data waits for an event: make two schedules"),
        (("ON=data", "TZ=UTC"), "TZ is of times of the clock, and ON=data waits for an event: make two schedules"),
        (("ON=drift", "FILE=x"), "make monitor is scheduled by CRON, ON=drift starts a retraining: leave FILE or ON out"),
        ((CRON, "MAP=a=b"), "MAP belongs to FILE, the prompts that make monitor checks; add FILE, or leave it out"),
        ((CRON, "CATCH_UP=yes"), "CATCH_UP must be 1 (make up for missed times) or 0, got yes"),
        ((CRON, "NAME="), "NAME must not be empty: leave it out, or give it a value; is a script's variable unset?"),
        (("PAUSE=a", "RESUME=b"), "PAUSE takes the name of a schedule and nothing beside it, got RESUME as well"),
        (("DELETE=a", "METHOD=dpo"), "DELETE takes the name of a schedule and nothing beside it, got method=dpo as well"),
        (("PAUSE=",), "PAUSE must not be empty: leave it out, or give it a value; is a script's variable unset?"),
        (
            ("CRON=0 0 1 1 *", "UNTIL=2026-12-01"),
            "the schedule would never run: its end is over (UNTIL=2026-12-01T23:59:59+00:00), and its first time is "
            "2027-01-01 00:00:00+00:00",
        ),
    ],
)
def test_contradictions_are_refused(words, expected):
    assert said(*words) == expected


def test_a_wrong_cron_zone_name_and_number_of_runs_are_refused():
    assert said("CRON=0 0 31 2 *").startswith("CRON must have five fields")
    assert said(CRON, "TZ=Berlin").startswith("TZ must be the name of a time zone")
    assert said(CRON, "NAME=a b").startswith("NAME must be of letters")
    assert said(CRON, "RUNS=0").startswith("RUNS must be a whole number")
    assert "did you mean dpo?" in said(CRON, "METHOD=dop")
    assert "dpo.beta" in said(CRON, "SET=dpo.bta=1")


# --- what the first run would refuse ----------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A dataset that is there, a pipeline that would run, and what was asked of it."""
    told = []
    version = SimpleNamespace(md5="0123", notes=("a note",), folder=tmp_path)
    monkeypatch.setattr("tasks.data.dvc.bring_up_to_date", lambda paths, name: told.append(name) or version)
    monkeypatch.setattr("flows.pipeline.check", lambda config, paths: told.append("check") or ["of the judge"])
    module = ModuleType("flows.retrain")
    module.check_request = lambda config, paths: told.append(f"request {config.method}")
    monkeypatch.setitem(sys.modules, "flows.retrain", module)
    probe = SimpleNamespace(probe=lambda config: told.append(f"probe {config.method}"))
    monkeypatch.setattr("flows.probe.Prober", lambda paths, data, ledger: probe)
    return SimpleNamespace(paths=Paths(tmp_path), told=told, probe=probe, retrain=module)


def test_a_retraining_is_walked_without_being_run(house):
    notes = []
    config = merge({}, ["method=dpo", "data.name=mine"])
    assert check_runnable(house.paths, nightly(), config, notes.append) == "0123"
    assert house.told == ["request dpo", "mine", "check", "probe dpo"] and notes == ["a note", "of the judge"]


def test_what_the_pipeline_would_refuse_is_refused_now(house):
    def refuse(config):
        raise DataError("mine has no questions")

    house.probe.probe = refuse
    with pytest.raises(DataError, match="mine has no questions"):
        check_runnable(house.paths, nightly(), merge({}, []), print)


def test_what_is_no_retraining_is_refused_before_the_data_are_touched(house):
    def refuse(config, paths):
        raise RequestError(f"{config.method} trains nothing")

    house.retrain.check_request = refuse
    with pytest.raises(RequestError, match="few_shot trains nothing"):
        check_runnable(house.paths, nightly(), merge({}, ["method=few_shot"]), print)
    assert house.told == []


def test_prompts_are_read_once(house):
    check = replace(nightly(), verb="monitor", words=("file=prompts.txt", "data.name=mine"))
    config = merge({}, ["data.name=mine"])
    with pytest.raises(RequestError, match=r"prompts\.txt"):
        check_runnable(house.paths, check, config, print)
    (house.paths.root / "prompts.txt").write_text("How many apples?\nHow many pears?\n")
    assert check_runnable(house.paths, check, config, lambda line: None) == "0123"
    assert house.told == ["mine"], "no pipeline is walked for a check"


def test_a_schedule_on_a_pool():
    assert made(CRON, "POOL=gpu").pool == "gpu" and made(CRON).pool == ""
    assert said(CRON, "POOL=gpu", "RUNS=3") == (
        "RUNS is counted in the folder where runs happen, which POOL puts elsewhere: take UNTIL instead"
    )
