"""`make retrain METHOD=…`: a new model where something that matters has changed, promoted if the gate lets it pass.

A plain function, for the verb and for what schedules start. The pipeline in it is the flow of `make pipeline`, with its stages
cached by key: a try after a fault repeats no training.
"""

import secrets
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.aftermath import accountable
from flows.nodes import refuse_nodes
from flows.pipeline import check_settings
from flows.retrain_job import Job, Retrained, Say, record_of_job
from flows.retrain_notices import tell
from flows.retrain_steps import once
from posttrain.errors import PosttrainError, RequestError, StorageError
from posttrain.settings.config import Config, merge
from posttrain.settings.merging import setting_names
from tasks.data.stages import params_of
from tasks.retraining.faults import may_pass, waits
from tasks.retraining.records import write_record
from tasks.retraining.runs import FAILED, KILLED, close_run
from tasks.tracking.run_notes import reason
from tasks.workspace.paths import Paths

TOLD = ("promoted", "kept", FAILED)
"""Ends that somebody may want to hear of; who interrupts a retraining knows it."""


def retrain(paths: Paths, config: Config, say: Say, *, cause: str, is_forced: bool = False) -> Retrained:
    """Train again where something that matters has changed since the champion, and promote the model if the gate says so.

    Args:
        paths: of the repository.
        config: of the pipeline; its sections `promotion` and `retraining` too.
        say: prints one line for the user.
        cause: why it was started, in a few words, for the history: "by hand", "schedule nightly", "drift".
        is_forced: go through pipeline and gate although nothing has changed. The gate is asked all the same.

    Raises:
        PosttrainError: a stage refuses, or breaks its contract, as in `make pipeline`; the champion is as it was, and the record
            tells it.
    """
    check_request(config, paths)
    now = datetime.now(UTC)
    job = Job(
        paths=paths,
        config=config,
        say=say,
        cause=cause,
        is_forced=is_forced,
        command=command_of(paths, config),
        id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        created=now,
    )
    with accountable(paths, config, job.command):
        try:
            ended = patiently(job, once, rest=time.sleep)
        except BaseException as error:
            kind = FAILED if isinstance(error, Exception) else KILLED
            with suppress(Exception):  # the first error is the one to tell
                finish(job, outcome=kind, says=reason(error), error=error)
            raise
        finish(job, outcome=ended.outcome, says=ended.says, ended=ended)
    return ended


def check_request(config: Config, paths: Paths) -> None:
    """Refuse what the settings alone show to be wrong, as `make pipeline` does, and what is no retraining.

    Raises:
        RequestError: base or judge cannot be used, the method trains nothing, the model would not be registered, or it would be
            measured on the questions that chose its settings.
    """
    refuse_nodes(config, "a retraining")
    check_settings(config, paths)
    if config.row.is_prompted:
        raise RequestError(f"{config.method} trains nothing, so there is nothing to retrain. Take a method that makes a model")
    if not config.tracking.register_model:
        raise RequestError(
            "tracking.register_model must be true for a retraining, got false: a model that is not registered cannot be promoted"
        )
    if config.evaluate.part == "development":
        raise RequestError(
            "evaluate.part must be all or reported for a retraining, got development: those questions chose the settings, so "
            "nothing promoted on them is known to be better"
        )


def command_of(paths: Paths, config: Config) -> str:
    """Return the command that starts the same again: method, dataset, and what neither params.yaml nor the profile sets."""
    usual = merge(params_of(paths), profile=config.profile)
    words = [f"METHOD={config.method}", f"DATA={config.data.name}"]
    others = [
        f"{name}={_setting(config, name)}"
        for name in setting_names(Config)
        if name not in ("method", "data.name") and _setting(config, name) != _setting(usual, name)
    ]
    return " ".join(["make retrain", *words, *([f"SET={shlex.quote(' '.join(map(shlex.quote, others)))}"] if others else [])])


def _setting(config: Config, name: str) -> str:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def patiently(job: Job, work: Callable[[Job], Retrained], *, rest: Callable[[float], None]) -> Retrained:
    """Do the work, again after each fault that may pass, with waits that double.

    Raises:
        PosttrainError: a fault that stays, or the last one; what is not one of ours becomes a StorageError where it may pass.
    """
    pauses = waits(job.config.retraining.retries, job.config.retraining.wait)
    while True:
        job.tries += 1
        try:
            work_done = work(job)
        except Exception as error:
            is_last = len(pauses) < job.tries
            if not may_pass(error) or (is_last and isinstance(error, PosttrainError)):
                raise
            if is_last:
                raise _given_up(error, job) from error
            pause = pauses[job.tries - 1]
            job.say(
                f"note: {_first_line(error)}. That may pass: try {job.tries + 1} of {len(pauses) + 1} begins in {pause:.0f} s; "
                "finished stages are kept"
            )
            rest(pause)
        else:
            return work_done


def _given_up(error: Exception, job: Job) -> StorageError:
    return StorageError(
        f"the retraining ended after {job.tries} tries: {type(error).__name__}: {_first_line(error)}. The champion is as it was, "
        f"and finished stages are kept. See that servers answer (make status) and the disk has room, then: {job.command}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")


# --- what is kept of it -----------------------------------------------------------------------------------------------


def finish(
    job: Job, *, outcome: str, says: str, ended: Retrained | None = None, error: BaseException | None = None
) -> dict[str, Any]:
    """Write the record, close the run in MLflow, and tell those who wait to hear; return the record.

    What is done is done by then: a disk or a server that refuses is told in a line.
    """
    record = record_of_job(job, outcome=outcome, says=says, ended=ended, error=error)
    is_worth_a_file = outcome != "unchanged" or bool(job.run_id)
    file: Path | None = None
    try:
        file = write_record(job.paths, record, has_own_file=is_worth_a_file)
    except Exception as trouble:
        job.say(f"note: the record of the retraining cannot be written: {_first_line(trouble)}")
    if job.run_id and job.ledger:
        try:
            close_run(job.ledger, job.run_id, record, file=file)
        except Exception as trouble:  # a server that is gone: the next command closes the run
            job.say(f"note: the run of the retraining in MLflow cannot be closed now: {_first_line(trouble)}")
    if outcome in TOLD:
        tell(record, job.say)
    return record
