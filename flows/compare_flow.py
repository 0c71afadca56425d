"""The Prefect flow of a comparison: its pipelines as tasks, then what they gave as one record, one page and one run in MLflow."""

import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.aftermath import untagged
from flows.board import Board
from flows.compare import cause
from flows.compare_page import Facts, write_page_of
from flows.compare_request import Request
from flows.compare_screen import Screen
from flows.equal import Terms, check_terms, producers, terms_of
from flows.jobs import Finished, Job
from flows.memory import side_by_side
from flows.pipeline import git_commit, settled_ledger, versioned_data
from flows.probe import Prober
from flows.situation import check_possible
from flows.taken import FinishedReports
from posttrain.comparison.tuning import Trial
from posttrain.settings.config import Config, flat
from tasks.data.dvc import DatasetVersion
from tasks.tracking.comparison import fail_comparison, start_comparison, tag_trial
from tasks.tracking.ledger import Ledger
from tasks.tracking.run_notes import reason
from tasks.workspace.paths import Paths

Say = Callable[[str], None]


@flow(name="comparison", flow_run_name="{config.data.name}", validate_parameters=False)
@untagged
def comparison(
    request: Request,
    config: Config,
    root: Path,
    configuration: Callable[..., Config],
    workers: int,
    say: Say,
) -> dict[str, Any]:
    """Run the pipelines of a comparison and write its page; return the record, the page's path and how many jobs there were."""
    paths, started = Paths(root), time.time()
    data = versioned_data(paths, config.data.name)
    for note in data.notes:
        say(note)

    # what the methods need of the data is checked by the walk through their stages, before any of them starts
    ledger = settled_ledger(paths, config, say)
    prober = Prober(paths, data, ledger=lambda: ledger)
    jobs = request.jobs(reference=config.compare.reference)
    first = jobs[: len(jobs) // len(request.seeds)]
    check_possible(paths, config, data, [job.method for job in first], say)
    configurations = [configuration(job.words, False) for job in first]
    for each in configurations:
        prober.probe(each)
    workers = side_by_side(config, _left(jobs, configuration, prober), data.folder, most=workers, say=say)

    terms = terms_of(request, config, data.folder)
    check_terms(request, data.folder, configurations)
    comparison_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    commit = git_commit(root)
    run_id = _open_run(ledger, request, config, comparison_id=comparison_id, data=data, commit=commit)
    try:
        finished = _run_jobs(
            paths,
            request,
            config,
            configuration,
            workers=workers,
            say=say,
            comparison_id=comparison_id,
            ledger=ledger,
            prober=prober,
            terms=terms,
        )
        facts = Facts(
            comparison_id=comparison_id,
            command=request.command,
            git_commit=commit,
            started=started,
            workers=workers,
            run_id=run_id,
            terms=terms,
        )
        result = write_page_of(paths, request, config, configuration, finished=finished, data=data, ledger=ledger, facts=facts)
    except BaseException as error:
        with suppress(Exception):  # the first error is the one to tell
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            fail_comparison(ledger, run_id, reason(error), status=status)
        raise
    if all(one.report for one in finished):  # logs are for whoever asks why a run failed
        shutil.rmtree(paths.store / "compare" / comparison_id, ignore_errors=True)
    return result


def _left(jobs: Iterable[Job], configuration: Callable[..., Config], prober: Prober) -> Iterator[Config]:
    """Yield the settings of each job that something is left to do of."""
    for job in jobs:
        config = configuration(job.words, False)
        if not prober.probe(config).is_cached:
            yield config


def _open_run(ledger: Ledger, request: Request, config: Config, *, comparison_id: str, data: DatasetVersion, commit: str) -> str:
    """Open the comparison's run in MLflow and return its id."""
    return start_comparison(
        ledger,
        comparison_id=comparison_id,
        dataset=data.name,
        data_md5=data.md5,
        methods=list(dict.fromkeys((config.compare.reference, *request.methods))),
        seeds=request.seeds,
        settings={**flat(config.compare), **dict(one.split("=", 1) for one in request.of_pipelines)},
        git_commit=commit,
        command=request.command,
        flow_run_id=str(flow_run.id),
    )


def _run_jobs(
    paths: Paths,
    request: Request,
    config: Config,
    configuration: Callable[..., Config],
    *,
    workers: int,
    say: Say,
    comparison_id: str,
    ledger: Ledger,
    prober: Prober,
    terms: Terms,
) -> Sequence[Finished]:
    """Return what came of each job that is compared, and of each at a smaller budget, in the order of asking.

    Raises:
        PosttrainError: no job finished.
    """
    jobs = request.jobs(reference=config.compare.reference)
    with Screen(say) as screen:
        board = Board(
            paths=paths,
            folder=paths.store / "compare" / comparison_id,
            prober=prober,
            configuration=lambda words: configuration(words, False),
            taken=FinishedReports(paths, ledger).of,
            workers=workers,
            is_far=config.compare.runner != "processes" and bool(config.compare.address),
            screen=screen,
        )

        def tell(trial: Trial, of_trial: Finished) -> None:
            tag_trial(ledger, trial.run_id, trial.tags(comparison_id))

        board.work(producers(paths, request, terms, jobs, board, configuration, tell=tell))
    order = {(job.method, job.seed): place for place, job in enumerate(jobs)}
    compared = [one for one in board.finished if one.job.purpose in ("report", "level")]
    compared.sort(key=lambda one: order[one.job.method, one.job.seed])
    if not any(one.report for one in compared if one.job.purpose == "report"):
        raise cause([one for one in compared if one.report is None], terms.left_out)
    say("every pipeline has ended; the page is made: statistics, best of k and figures")
    return compared
