"""`make pipeline METHOD=…`: from data to a registered model and a report, as one Prefect flow."""

import os
import secrets
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.runtime import flow_run

from flows.aftermath import untagged
from flows.bases import check_engine, check_quantized, locate_base
from flows.elsewhere import run_tasks
from flows.evaluation import choose_part, measured_so_far, run_audit, run_evaluations
from flows.feedback import gather_feedback, people_of
from flows.judging import check_judge_server, check_judge_settings, compare_by_judge, is_judged
from flows.lengths import limits_of, resolve_limits
from flows.memory import check_memory
from flows.nodes import Launcher, check_nodes
from flows.outcomes import Outcomes
from flows.plan import plan
from flows.processes import check_processes
from flows.profiles import require_profile
from flows.prompts import check_prompts, prompts_line
from flows.reporting import conclude
from flows.run import Run
from flows.training import (
    check_groups,
    check_roles,
    make_base,
    make_tokenizer,
    named_reward,
    own_reward,
    train_method,
    train_sft,
    validate,
)
from posttrain.errors import RequestError
from posttrain.settings.config import Config
from tasks.data.dvc import DatasetVersion, bring_up_to_date
from tasks.evaluation.harness import check_tasks
from tasks.promotion.moves import settle_moves
from tasks.tracking.comparison import marks
from tasks.tracking.killed_runs import close_killed, sweep_models
from tasks.tracking.ledger import Ledger
from tasks.tracking.run_notes import reason
from tasks.workspace.paths import Paths
from tasks.workspace.shared_stages import open_shared

REFUSING = ("validation", "judge", "reward_model")
"""Whose findings a failed run keeps."""


@flow(name="pipeline", flow_run_name="{config.method}-{config.data.name}-seed-{config.seed}", validate_parameters=False)
@untagged
def pipeline(
    config: Config, root: Path, say: Callable[[str], None], command: str = "", launch: Launcher | None = None
) -> dict[str, Any]:
    """Run one method from data to report, and return the report; `command` is how to run it again, `launch` as `Run` has it."""
    paths, started = Paths(root), time.time()
    data = versioned_data(paths, config.data.name)
    for note in data.notes:
        say(note)
    people = people_of(config, paths, data)

    ledger = settled_ledger(paths, config, say)
    commit = git_commit(root)
    pipeline_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{config.method}-{secrets.token_hex(2)}"
    parent = ledger.start_pipeline(
        config,
        dataset=data.name,
        data_md5=data.md5,
        files_md5=data.md5s,
        git_commit=commit,
        flow_run_id=str(flow_run.id),
        pipeline_id=pipeline_id,
        command=command,
        marks=marks(os.environ),
    )
    to_come = plan(config, data.folder, people)
    run = Run(paths=paths, config=config, ledger=ledger, parent=parent, say=say, plan=to_come, people=people)
    run.launch = launch or run.launch
    try:
        outcomes = run_stages(run, data)
        return conclude(run, data, outcomes, pipeline_id=pipeline_id, git_commit=commit)
    except BaseException as error:
        with suppress(Exception):  # the first error is the one to tell
            for stage in REFUSING:
                for page in found_since(started, paths.findings(stage, data.name)):
                    ledger.log_file(parent, page, folder=stage)
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            ledger.fail_pipeline(parent, reason(error), status=status)
            if measured := measured_so_far(run):
                say(measured)
        raise


@task(name="data", persist_result=False)
def versioned_data(paths: Paths, name: str) -> DatasetVersion:
    """Bring the dataset up to date with DVC."""
    return bring_up_to_date(paths, name)


def settled_ledger(paths: Paths, config: Config, say: Callable[[str], None]) -> Ledger:
    """Open the ledger and set right what killed runs left in it, before a run of our own is opened."""
    ledger = Ledger.open(paths, config.tracking)
    close_killed(ledger)
    sweep_models(ledger)
    settle_moves(ledger, say)
    return ledger


def found_since(moment: float, folder: Path) -> list[Path]:
    """Return the pages, pictures and figures that a stage left when it refused, if that was since then."""
    found = (path for pattern in ("*.html", "*.json", "*.png") for path in sorted(folder.glob(pattern)))
    return [path for path in found if path.stat().st_mtime >= moment]


def run_stages(run: Run, data: DatasetVersion) -> Outcomes:
    """Train and evaluate what the method asks for."""
    method = run.config.row

    # what the request names is looked up, and the data are checked, before anything is trained
    reward = named_reward(run)
    make_tokenizer(run, data)
    if line := prompts_line(run):
        run.say(line)
    validate(run, data)
    resolve_limits(run)
    check_roles(run.config, run.data.path, run.people)
    if run.plan:  # a walk over the stages is not a run on this machine
        check_memory(run.config, run.data.path, run.say)
    choose_part(run)

    # the base, and the model that the method starts from: measured at once, since the method's own training may be refused
    models = {"base": make_base(run)}
    if method.starts_from == "sft":
        models["sft"] = train_sft(run, models["base"])
    measured, asked = run_evaluations(run, models, done={}), run_tasks(run, models, done={})

    # the method's own model, from what it learns from
    start = models[method.starts_from]
    feedback = gather_feedback(run, start, models["base"])
    if method.is_rewarded:
        reward = reward or own_reward(run, models["base"], feedback)
    if method.trainer:
        models[method.name] = train_method(run, models["base"] if method.is_from_base else start, feedback, reward)

    # it on the held-out questions too, and what the reward meant
    results = run_evaluations(run, models, done=measured)
    return Outcomes(
        models=models,
        results=results,
        feedback=feedback,
        verdicts=compare_by_judge(run, models, results),
        elsewhere=run_tasks(run, models, done=asked),
        reward=reward,
        audit=run_audit(run, models[method.name], feedback, reward) if reward else None,
    )


def git_commit(root: Path) -> str:
    """Return the commit of the working tree, "-dirty" behind it where files differ; "none" outside git."""
    try:
        how: dict[str, Any] = {"cwd": root, "capture_output": True, "text": True, "check": True}
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **how).stdout.strip()
        dirty = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], **how).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return f"{commit}-dirty" if dirty else commit


def check(config: Config, paths: Paths) -> list[str]:
    """Refuse before anything runs what can be seen to be wrong, and return notes for the user.

    Raises:
        RequestError: the base model, or the judge, that is asked for cannot be used.
    """
    check_settings(config, paths)
    if config.row.is_rewarded:
        check_engine(config.ppo, asks=True)
    told = [config.profile.sentence] if config.profile.sentence else []
    return told + (check_judge_server(config, paths) if is_judged(config) else [])


def check_settings(config: Config, paths: Paths) -> None:
    """Refuse what the settings alone show to be wrong; no server is asked.

    Raises:
        RequestError: the base model, or the judge, that is asked for cannot be used.
    """
    if is_judged(config):
        check_judge_settings(config, paths)
    check_quantized(config.model, config.ppo)
    if config.row.is_rewarded:
        check_engine(config.ppo)
    locate_base(paths, config.model)
    require_profile(config)
    check_prompts(paths, config.model)
    check_groups(config)
    check_nodes(config)
    check_processes(config)
    if shared := open_shared(config.store):
        shared.check()
    check_tasks(config.evaluate.tasks)
    for name, section in limits_of(config).items():
        tokens = getattr(config, section).max_new_tokens
        if tokens != "auto" and tokens >= config.model.context:
            raise RequestError(f"{name} must be less than model.context ({config.model.context}), got {tokens}")
