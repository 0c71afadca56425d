"""What `make schedule …` asks for, and everything that can be seen to be wrong with it on the day it is asked, not at 3 a.m."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from posttrain.errors import RequestError
from posttrain.schedules.cron import checked_cron, next_time
from posttrain.schedules.rules import (
    DATA,
    DRIFT,
    MONITOR,
    RETRAIN,
    TIMES,
    Schedule,
    checked_name,
    checked_runs,
    checked_until,
    default_name,
    with_settings,
)
from posttrain.settings.config import Config
from tasks.schedules.zones import zone_of
from tasks.workspace.paths import Paths

Say = Callable[[str], None]
MOVES = ("pause", "resume", "delete")
OF_A_CHECK = ("file", "format", "map")
OWN = (*MOVES, *OF_A_CHECK, "cron", "tz", "until", "runs", "name", "on", "catch_up", "pool")
"""Words of the verb itself; the others are settings of what it runs."""
EXAMPLE = 'make schedule METHOD=dpo CRON="0 3 * * *" DATA=mine'


@dataclass(frozen=True)
class Asked:
    """What the words ask for: the list, a move of one schedule, or a schedule.

    Attributes:
        move: "pause", "resume" or "delete"; "" for none.
        name: of the schedule that is moved.
        given: the words of the verb itself, where a schedule is to be made.
        settings: the others.
    """

    move: str = ""
    name: str = ""
    given: Mapping[str, str] | None = None
    settings: tuple[str, ...] = ()


def read_asked(words: Sequence[str]) -> Asked:
    """Return what the words of the verb ask for.

    Raises:
        RequestError: they ask for two things at once, or a word is empty.
    """
    given = {name: value.strip() for name, _, value in (word.partition("=") for word in words) if name in OWN}
    settings = tuple(word for word in words if word.partition("=")[0] not in OWN)
    for name, value in given.items():
        if not value:
            raise RequestError(
                f"{name.upper()} must not be empty: leave it out, or give it a value; is a script's variable unset?"
            )
    moves = [name for name in MOVES if name in given]
    if moves and (len(given) > 1 or settings):
        others = [name.upper() for name in given if name != moves[0]] or [settings[0]]
        raise RequestError(
            f"{moves[0].upper()} takes the name of a schedule and nothing beside it, got {', '.join(others)} as well"
        )
    if moves:
        return Asked(move=moves[0], name=given[moves[0]])
    return Asked(given=given, settings=settings) if given or settings else Asked()


def schedule_of(asked: Asked, config: Config, *, now: datetime, moves_back: bool) -> Schedule:
    """Return the schedule that is asked for; no file is read and no server asked.

    Args:
        asked: the words.
        config: the settings among them, with the defaults of today.
        now: the moment.
        moves_back: as `posttrain.schedules.cron.times`.

    Raises:
        RequestError: a word is wrong, missing, or contradicts another.
    """
    given = asked.given or {}
    on = _starts_on(given)
    verb = MONITOR if "file" in given else RETRAIN
    _refuse_contradictions(given, on, verb)
    dataset, method = config.data.name, config.method
    fixed = {"data.name": dataset} if verb == MONITOR else {"method": method, "data.name": dataset}
    checked = tuple(f"{name}={given[name]}" for name in OF_A_CHECK if name in given)
    zone = zone_of(given.get("tz", "UTC"))
    schedule = Schedule(
        name=checked_name(given.get("name") or default_name(verb, dataset, method, on)),
        verb=verb,
        dataset=dataset,
        words=(*checked, *with_settings(asked.settings, fixed)),
        on=on,
        cron=checked_cron(given["cron"]) if on == TIMES else "",
        zone=zone.key,
        until=checked_until(given.get("until", ""), zone, now=now),
        runs=checked_runs(given.get("runs", "")),
        is_caught_up=given.get("catch_up") == "1",
        pool=given.get("pool", ""),
    )
    first = next_time(schedule.cron, zone, now, moves_back=moves_back) if on == TIMES else None
    if on == TIMES and (why := schedule.end(at=first.at if first else None, done=0)):
        raise RequestError(f"the schedule would never run: {why}, and its first time is {first.at if first else 'never'}")
    return schedule


def _starts_on(given: Mapping[str, str]) -> str:
    on = given.get("on", TIMES)
    if "on" in given and on not in (DATA, DRIFT):
        raise RequestError(f"ON must be data (a new version of the dataset) or drift (an alarm of make monitor), got {on}")
    if on == TIMES and "cron" not in given:
        raise RequestError(f"a schedule needs CRON or ON: {EXAMPLE}, or make schedule ON=data METHOD=dpo DATA=mine")
    return on


def _refuse_contradictions(given: Mapping[str, str], on: str, verb: str) -> None:
    for name in ("cron", "tz", "catch_up"):
        if on != TIMES and name in given:
            raise RequestError(f"{name.upper()} is of times of the clock, and ON={on} waits for an event: make two schedules")
    if on != TIMES and verb == MONITOR:
        raise RequestError(f"make monitor is scheduled by CRON, ON={on} starts a retraining: leave FILE or ON out")
    if verb == RETRAIN and (stray := [name for name in ("format", "map") if name in given]):
        raise RequestError(f"{stray[0].upper()} belongs to FILE, the prompts that make monitor checks; add FILE, or leave it out")
    if "pool" in given and "runs" in given:
        raise RequestError("RUNS is counted in the folder where runs happen, which POOL puts elsewhere: take UNTIL instead")
    if given.get("catch_up", "") not in ("", "0", "1"):
        raise RequestError(f"CATCH_UP must be 1 (make up for missed times) or 0, got {given['catch_up']}")


def check_runnable(paths: Paths, schedule: Schedule, config: Config, say: Say) -> str:
    """Refuse what the first run would refuse: a method, settings, a judge, a dataset or a file of prompts that cannot be used.

    Nothing is trained. The dataset is brought up to date, and the pipeline's stages are walked without being run.

    Returns:
        The md5 of the dataset's version now.

    Raises:
        PosttrainError: the first run would fail.
    """
    from tasks.data.dvc import bring_up_to_date

    if schedule.verb == MONITOR:
        _check_prompts(paths, schedule, config)
    else:
        from flows.retrain import check_request

        check_request(config, paths)
    data = bring_up_to_date(paths, config.data.name)
    for note in data.notes:
        say(note)
    if schedule.verb == RETRAIN:
        from flows.pipeline import check
        from flows.probe import Prober
        from tasks.tracking.ledger import Ledger

        for note in check(config, paths):
            say(note)
        Prober(paths, data, ledger=lambda: Ledger.open(paths, config.tracking)).probe(config)
    return data.md5


def _check_prompts(paths: Paths, schedule: Schedule, config: Config) -> None:
    """Read the prompts once, as the check will."""
    from posttrain.drift.check import draw, refuse_settings
    from tasks.monitoring.prompts import new_prompts

    refuse_settings(config.monitor)
    told = dict(word.partition("=")[::2] for word in schedule.words)
    source = paths.root / Path(told["file"]).expanduser()
    rows = new_prompts(source, shown=told["file"], form=told.get("format", ""), columns=told.get("map", ""))
    draw(rows, name="new", most=config.monitor.max_prompts, seed=config.seed)
