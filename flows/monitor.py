"""`make monitor`: are new prompts still of the kind that a model was trained on, and does it still answer them well?

A page, a run in MLflow, and an alarm.
"""

import os
import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.champion_score import score_champion
from flows.events import dataset_event, send_events
from posttrain.drift.check import check, draw, refuse_settings
from posttrain.drift.questions import Labels
from posttrain.errors import ContractError, RequestError
from posttrain.records import Record
from posttrain.settings.config import Config, flat
from tasks.data.dvc import DatasetVersion, bring_up_to_date
from tasks.monitoring.page import write_check
from tasks.monitoring.prompts import held_out_prompts, new_prompts, training_prompts
from tasks.monitoring.run import log_check
from tasks.monitoring.words import sentence_of
from tasks.tracking.ledger import Ledger
from tasks.workspace.paths import Paths

Say = Callable[[str], None]

SCHEMA = "posttrain.monitor/1"
EVENT = "posttrain.drift"
"""Of Prefect, whose automations may start a retraining on it; its resource is `dataset.<name>`."""
PROMPTS, SCORE = "prompts", "score"
"""What may raise an alarm, and the reason in the event."""
LOOK_AT = {PROMPTS: "prompts", SCORE: "wrong answers"}


@dataclass(frozen=True)
class Request:
    """What is checked.

    Attributes:
        file: with new prompts, as it was named.
        form: its format; "" for the one that reads it.
        columns: which column is which field, as `MAP` of `make import`.
        command: that makes the same check again.
    """

    file: str
    form: str = ""
    columns: str = ""
    command: str = ""


def asked(given: Mapping[str, str], settings: list[str]) -> Request:
    """Return what the words of the verb ask for.

    Raises:
        RequestError: FILE is not there.
    """
    if not given.get("file"):
        raise RequestError("monitor needs FILE: make monitor FILE=prompts.jsonl DATA=mine")
    words = [f"{name.upper()}={value}" for name, value in given.items() if value]
    dataset = [f"DATA={word.partition('=')[2]}" for word in settings if word.startswith("data.name=")]
    others = [word for word in settings if not word.startswith("data.name=")]
    words += [*dataset[-1:], *([f"SET={' '.join(others)}"] if others else [])]
    command = " ".join(["make monitor", *(_quoted(word) for word in words)])
    return Request(given["file"], given.get("format", ""), given.get("map", ""), command)


def _quoted(word: str) -> str:
    name, _, value = word.partition("=")
    return f"{name}={shlex.quote(value)}"


def monitor(paths: Paths, config: Config, request: Request, say: Say) -> dict[str, Any]:
    """Check new prompts against a dataset, and the champion's answers to them where they have answers to check these against.

    It prints the verdict, writes page and run, and returns the record.

    Raises:
        RequestError: there is no such file, format or dataset, or settings contradict one another.
        DataError: a row cannot be read, or there are too few prompts.
        StorageError: the champion's files are gone or damaged, or the disk refuses.
        ContractError: the prompts have drifted, or the champion's score has fallen; page and run are there.
    """
    refuse_settings(config.monitor)
    source = paths.root / Path(request.file).expanduser()

    def read() -> Iterator[Record]:
        return new_prompts(source, shown=request.file, form=request.form, columns=request.columns)

    most, seed = config.monitor.max_prompts, config.seed
    labels = Labels()
    new = draw(labels.watched(read()), name="new", most=most, seed=seed)  # first: a file that cannot be read ends it at once

    data = bring_up_to_date(paths, config.data.name)
    for note in data.notes:
        say(note)
    training = draw(training_prompts(data), name="training", most=most, seed=seed)
    held_out = draw(held_out_prompts(data), name="held_out", most=most, seed=seed)
    found = check(new, training, held_out, settings=config.monitor, near_duplicate=config.split.near_duplicate, seed=seed)
    ledger = Ledger.open(paths, config.tracking)
    known = training.numbers | held_out.numbers
    score, unscored = score_champion(paths, config, ledger, labels=labels, read=read, known=known, say=say)
    record = {**_facts(config, request, data), **found, **outcome(found, score, unscored)}
    files = write_check(paths, record)
    log_check(ledger, record, files)
    _tell(record, labels, say)
    if not record["alarms"]:
        print(f"{sentence_of(record)}.\npage: {files['page']}")
        return record
    announce(record, say)
    shown = " and ".join(LOOK_AT[alarm] for alarm in record["alarms"])
    raise ContractError(
        f"{sentence_of(record)}. Page: {files['page']}. Look at the {shown} in it, then retrain on data like them"
    )


def outcome(found: Mapping[str, Any], score: Mapping[str, Any] | None, unscored: str) -> dict[str, Any]:
    """Return what the record says of the score, and which of the two raise an alarm."""
    raised = {PROMPTS: found["is_drift"], SCORE: score is not None and score["is_alarm"]}
    return {"score": score, "unscored": unscored, "alarms": [alarm for alarm, is_raised in raised.items() if is_raised]}


def _tell(record: Mapping[str, Any], labels: Labels, say: Say) -> None:
    """Say what a reader of the verdict should know: warnings, and why a file whose rows have more than prompts got no score."""
    for warning in (*record["warnings"], *(record["score"] or {}).get("warnings", ())):
        say(f"warning: {warning}")
    is_wanted = record["settings"]["monitor.score_questions"] and (labels.answered or labels.completed)
    if record["unscored"] and is_wanted:
        say(f"note: no score of the champion: {record['unscored']}")


def _facts(config: Config, request: Request, data: DatasetVersion) -> dict[str, Any]:
    """Return what the record holds beside verdict, tests and figures."""
    now = datetime.now(UTC)
    return {
        "schema": SCHEMA,
        "version": version("posttrain"),
        "id": f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        "created": now.isoformat(timespec="seconds"),
        "command": request.command,
        "file": request.file,
        "dataset": {"name": data.name, "md5": data.md5},
        "settings": {**flat(config.monitor), "split.near_duplicate": config.split.near_duplicate, "seed": config.seed},
    }


def announce(record: Mapping[str, Any], say: Say) -> bool:
    """Send Prefect's server the event of a drift, where there is one (`make up`); return whether it took it.

    A score that has fallen is a drift as well: the payload's `reason` says which it is, "prompts", "score" or both.

    A server that does not answer is told in a line: the alarm itself is the exit code, page and run.
    """
    api = os.environ.get("PREFECT_API_URL")
    if not api:
        return False
    from httpx import HTTPError

    try:
        send_events(api, [dataset_event(EVENT, record["dataset"]["name"], payload_of(record))])
    except HTTPError as error:
        say(
            f"note: Prefect's server did not take the event {EVENT} ({type(error).__name__}), so no automation hears of the drift"
        )
        return False
    return True


def payload_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the event says of an alarm: the check, its sentence, its figures, and the reason."""
    test, score = record["test"], record["score"]
    found = {"check": record["id"], "verdict": sentence_of(record), "auc": test["auc"], "p": test["p"]}
    found["reason"] = " and ".join(record["alarms"])
    if score:
        found |= {f"{side}_accuracy": score[side]["accuracy"]["estimate"] for side in ("fresh", "gate")}
    return found
