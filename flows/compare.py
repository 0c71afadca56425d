"""`make compare`: several methods over several seeds, each a pipeline of its own, and the page that says which one to use.

What is asked for is checked here before anything runs; the flow itself is in flows/compare_flow.py.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.clusters import check_runner
from flows.compare_request import Request, read_request
from flows.jobs import Finished
from flows.nodes import refuse_nodes
from flows.start import Start
from posttrain.comparison.groups import WAYS
from posttrain.errors import ContractError, PosttrainError, RequestError, did_you_mean
from posttrain.methods import METHODS
from posttrain.printable import printable
from posttrain.settings.config import Config
from tasks.workspace.paths import Paths

METRICS = ("accuracy", "accuracy_sampled", "reference_loss")
"""That pipelines have; what each is: tasks/comparison/gather.py."""
Say = Callable[[str], None]
Configuration = Callable[[Sequence[str]], Config]


def compare(paths: Paths, words: Sequence[str], start: Start) -> None:
    """Compare methods, or results of other tools, and print the verdict and where the page is.

    Raises:
        PosttrainError: the request is wrong, nothing finished, or some runs failed and the page compares the others.
    """
    request = read_request(words)
    config = start.configuration(request.settings)
    if request.logs:
        start.prepare(config)
        _compare_logs(paths, request, config)
        return
    _check(config)
    methods = dict.fromkeys((config.compare.reference, *request.methods))
    configurations = {method: start.configuration((f"method={method}", *request.settings), False) for method in methods}
    start.prepare(config)
    check_runner(config.compare)
    if request.is_dry:
        _print_plan(paths, request, config, start)
        return
    _run(paths, request, config, configurations, start)


def _check(config: Config) -> None:
    """Refuse a reference that is no method, a metric that no pipeline has, or a grouping that is none.

    Raises:
        RequestError: naming the setting.
    """
    refuse_nodes(config, "a comparison")
    choices: dict[str, tuple[str, Iterable[str]]] = {
        "reference": (config.compare.reference, METHODS),
        "metric": (config.compare.metric, ("auto", *METRICS)),
        "groups": (config.compare.groups, ("auto", "none", *WAYS)),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise RequestError(f"compare.{name} must be one of {', '.join(known)}, got {value}{did_you_mean(value, known)}")


def _run(paths: Paths, request: Request, config: Config, configurations: dict[str, Config], start: Start) -> None:
    from flows.aftermath import accountable, settle
    from flows.server import starting_server
    from tasks.workspace.disk import storage_errors

    with storage_errors("the comparison", paths.root):
        with starting_server(paths):
            from flows.compare_flow import comparison
            from flows.pipeline import check
            from flows.runners import task_runner
            from tasks.tracking.store import load_store

            if not config.tracking.uri:
                load_store()
            # a method at a time: what one cannot do is told before anything runs
            for note in dict.fromkeys(note for each in configurations.values() for note in check(each, paths)):
                start.say(note)
        settle(paths, start.say)
        workers = workers_of(config)
        with accountable(paths, config, request.command):
            runs = comparison.with_options(task_runner=task_runner(config.compare, workers=workers, root=paths.root))
            result = runs(request, config, paths.root, start.configuration, workers, start.say)
    _tell(result["record"], result["page"], paths.root)
    failed = result["record"]["failed"]
    if failed:
        names = ", ".join(f"{one['method']} seed {one['seed']}" for one in failed)
        raise ContractError(
            f"{len(failed)} of {result['jobs']} runs failed ({names}); the page compares the others and says why. Finished "
            "stages are kept, so the same command runs only what is missing"
        )


def workers_of(config: Config) -> int:
    """Return how many pipelines run at a time."""
    from tasks.base_model.identity import device_type

    if config.compare.workers:
        return config.compare.workers
    if device_type() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tell(record: dict[str, Any], page: Path, root: Path) -> None:
    """Print the verdict, a short table and the page's path."""
    from tasks.comparison.terminal import print_comparison

    print_comparison(record, page=page.relative_to(root) if page.is_relative_to(root) else page)


def _print_plan(paths: Paths, request: Request, config: Config, start: Start) -> None:
    """Print what a comparison would run, what is there already, and about what it would take."""
    from flows.compare_plan import plan_lines

    for line in plan_lines(paths, request, config, start.configuration, workers=workers_of(config), say=start.say):
        print(printable(line))


def _compare_logs(paths: Paths, request: Request, config: Config) -> None:
    """Compare what other tools measured: no training, no server."""
    from flows.compare_logs import write_logs

    record, page = write_logs(paths, request, config)
    _tell(record, page, paths.root)


def cause(failed: Sequence[Finished], left_out: Mapping[str, str]) -> PosttrainError:
    """Return the error of a comparison of which no run finished: of the kind, and so with the exit code, of the first one's.

    Args:
        failed: the runs.
        left_out: why a method had none, by method.
    """
    if not failed:
        return ContractError(f"no method is left to compare. {next(iter(left_out.values()), '')}".rstrip())
    first = failed[0]
    kind = {each.__name__: each for each in PosttrainError.__subclasses__()}.get(first.kind, ContractError)
    return kind(f"no run finished, so there is nothing to compare. {first.job.title}: {first.error}")
