"""What is wrong with a schedule that should run."""

from datetime import UTC, datetime, timedelta

from posttrain.schedules.rules import Schedule
from posttrain.schedules.standing import HORIZON, WAITING, YOUNG, trouble_of

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
NEXT = datetime(2026, 11, 30, 3, tzinfo=UTC)


def trouble(on="times", pool="", **other):
    told = {"expected": NEXT, "found": NEXT, "now": NOW, "age": timedelta(days=1), "is_served": True, "is_busy": False}
    return trouble_of(Schedule("nightly", "retrain", "mine", (), on=on, cron="0 3 * * *", pool=pool), **(told | other))


def test_nothing_is_wrong_where_prefect_has_the_time_that_the_cron_has():
    assert trouble() == ""
    assert trouble(on="data", expected=None, found=None) == ""


def test_nobody_serves_it():
    assert trouble(is_served=False) == "no worker asks for its runs. Start one: make up"
    assert trouble(on="data", expected=None, found=None, is_served=False) == "no worker asks for its runs. Start one: make up"


def test_the_scheduler_has_made_no_run():
    said = "Prefect's scheduler has made no run for it. See .posttrain/services/prefect.log, then: make down && make up"
    assert trouble(found=None) == said
    assert trouble(found=None, age=YOUNG) == "" and trouble(found=None, age=YOUNG + timedelta(seconds=1)) == said
    assert trouble(found=None, expected=NOW + HORIZON) == said
    assert trouble(found=None, expected=NOW + HORIZON + timedelta(seconds=1)) == "", "Prefect makes runs 100 days ahead"
    assert trouble(found=None, expected=None) == ""


def test_another_time_than_its_cron_says():
    assert trouble(found=NEXT + timedelta(hours=1)) == (
        "Prefect will start it at 2026-11-30 04:00 UTC, but its cron says 2026-11-30 03:00 UTC. "
        "Make it again, by the same command"
    )


def test_a_run_whose_time_has_come_waits_for_a_worker():
    said = "its run of 2026-11-29 11:57 waits, and the worker does not take it. Restart it: make down && make up"
    assert trouble(found=NOW - timedelta(minutes=3)) == said
    assert trouble(found=NOW - timedelta(minutes=3), is_busy=True) == "", "it waits behind another"
    assert trouble(found=NOW - WAITING) == "" and trouble(found=NOW) == ""


def test_of_a_pool_the_worker_is_elsewhere():
    assert trouble(pool="gpu", is_served=False) == "no worker asks for runs of work pool gpu: start one there"
    late = trouble(pool="gpu", found=NOW - timedelta(hours=1), is_busy=False)
    assert late.endswith("waits, and the worker does not take it. Restart the worker of work pool gpu")
