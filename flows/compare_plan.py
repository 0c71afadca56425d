"""`make compare … DRY_RUN=1`: what would be run, what is there already, and about what it would take; nothing is run."""

from collections.abc import Callable, Sequence

from flows.compare_request import Request
from flows.equal import check_terms
from flows.estimate import Earlier, Estimate
from flows.expected import expected_jobs, not_known
from flows.jobs import Job
from flows.memory import side_by_side
from flows.order import Order
from flows.probe import ProbedStage, Prober
from flows.situation import check_possible
from posttrain.printable import counted
from posttrain.settings.config import Config
from tasks.data.dvc import bring_up_to_date
from tasks.tracking.ledger import Ledger
from tasks.workspace.paths import Paths
from tasks.workspace.progress import duration

HEAD = ("job", "stages", "cached", "to run", "about", "labels", "tokens")


def plan_lines(
    paths: Paths,
    request: Request,
    config: Config,
    configuration: Callable[..., Config],
    *,
    workers: int,
    say: Callable[[str], None],
) -> list[str]:
    """Return the lines of the plan: a job each, in the order in which they would start, and what all of them take.

    A stage that several jobs share is counted at the first of them.

    Raises:
        PosttrainError: a job would refuse before it trains.
    """
    data = bring_up_to_date(paths, config.data.name)
    for note in data.notes:
        say(note)
    prober = Prober(paths, data, ledger=lambda: Ledger.open(paths, config.tracking))
    asked = request.jobs(reference=config.compare.reference)
    check_possible(paths, config, data, [job.method for job in asked], say)
    check_terms(request, data.folder, [configuration(job.words, False) for job in asked if job.seed == request.seeds[0]])
    jobs = expected_jobs(request, asked, configuration)
    runs = {job: configuration(job.words, False) for job in jobs}
    probed = {job: prober.probe(each) for job, each in runs.items()}
    left = (runs[job] for job, found in probed.items() if not found.is_cached)
    workers = side_by_side(config, left, data.folder, most=workers, say=say)
    earlier = Earlier(paths)
    missing = {job: {stage.key: stage for stage in found.missing} for job, found in probed.items()}
    rows, counted = [], set[str]()
    for job in _in_order(missing, earlier):
        new = [stage for key, stage in missing[job].items() if key not in counted]
        counted |= missing[job].keys()
        stages = probed[job].stages
        rows.append(
            (job.title, str(len(stages)), str(len(stages) - len(missing[job])), _names(new), *_costs(earlier.estimate(new)))
        )
    everything = {stage.key: stage for found in probed.values() for stage in found.missing}
    totals = _totals(earlier.estimate(everything.values()), len(everything), workers=workers)
    return [*_table([HEAD, *rows]), "", *totals, *not_known(request)]


def _in_order(missing: dict[Job, dict[str, ProbedStage]], earlier: Earlier) -> list[Job]:
    """Return the jobs in the order in which one worker would start them."""
    seconds = earlier.seconds(stage for stages in missing.values() for stage in stages.values())
    order, found = Order(), list[Job]()
    for job, stages in missing.items():
        order.add(job, stages)
    while (chosen := order.next(seconds=seconds)) is not None:
        order.start(chosen)
        order.end(chosen, is_whole=True)
        found.append(chosen)
    return found


def _names(stages: Sequence[ProbedStage]) -> str:
    return " ".join(stage.name for stage in stages) or "–"


def _costs(found: Estimate) -> tuple[str, str, str]:
    """Return seconds, labels and tokens as the table has them; "?" where a stage has never been made here."""
    if found.unknown:
        return "?", "?", "?"
    tokens = found.costs["generated_tokens"] + found.costs["trained_tokens"]
    return duration(found.seconds) if found.seconds else "–", f"{found.costs['labels']:,.0f}", f"{tokens:,.0f}"


def _totals(found: Estimate, stages: int, *, workers: int) -> list[str]:
    if not stages:
        return ["everything is there: no stage would run"]
    told = f"{counted(stages, 'stage')} would run, {counted(workers, 'pipeline')} at a time"
    lines = [f"{told}; one that several jobs share is counted once"]
    if found.unknown:
        lines.append(f"no estimate: this store has not made {', '.join(found.unknown)} yet, so nothing says how long that takes")
    if found.seconds:
        known = "the others take" if found.unknown else "together they take"
        tokens = f"{found.costs['generated_tokens']:,.0f} sampled and {found.costs['trained_tokens']:,.0f} trained tokens"
        lines.append(
            f"{known} about {duration(found.seconds)} of computing, {duration(found.seconds / workers)} on "
            f"{counted(workers, 'worker')}, "
            f"{found.costs['labels']:,.0f} labels, {tokens}, as stages like them did before in this store"
        )
    return lines


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as text in columns; the names of stages come last, since they are long."""
    order = (0, 1, 2, 4, 5, 6, 3)
    cells = [[row[column] for column in order] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(order) - 1)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=True)), row[-1]]
        )
        for row in cells
    ]
