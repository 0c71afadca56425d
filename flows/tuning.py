"""Equal tuning in a comparison: every method gets the same number of trials, on a seed and on questions that nobody reports.

A search is not stored: its sampler is seeded, trials are pipelines whose stages stay in the store, and the same figures lead to
the same next trial. A search that was interrupted is asked for again and arrives where it was.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.jobs import Finished, Job, RunJob
from posttrain.comparison.tuning import LEAST_QUESTIONS, Range, Trial, Tuned, Value, ranges_of, readable
from posttrain.data.parts import is_development
from posttrain.errors import DataError
from posttrain.methods import METHODS
from posttrain.records import Question
from posttrain.settings.config import Config
from tasks.workspace.jsonl import required

if TYPE_CHECKING:  # it takes half a second to import, and most comparisons search nothing
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

REPORTED = ("evaluate.part=reported",)
"""What the reported runs of a tuned comparison have besides."""
DEVELOPMENT = ("evaluate.part=development",)
"""What its trials have besides."""
AT_RANDOM = 4
"""Of so many trials one is drawn at random, before the sampler goes by what it has seen; two at least."""
ValueOf = Callable[[Mapping[str, Any]], float | None]


def accuracy(report: Mapping[str, Any]) -> float | None:
    """Return the share of questions answered right by greedy decoding; None where no program can check."""
    value: float | None = report["metrics"].get("eval/accuracy")
    return value


def check_tuning(data: Path, configs: Sequence[Config]) -> int:
    """Refuse before anything runs what no search can choose by; return how many held-out questions are for development.

    Args:
        data: folder of the dataset.
        configs: of every method, with the request's settings.

    Raises:
        DataError: there are too few questions to choose settings by, or they cannot be parted.
        RequestError: a setting has no range around it.
    """
    for each in configs:
        _space(ranges_of(each.row), each)
    config = configs[0]
    questions = required(data, "held_out", Question, why="models are evaluated on")
    found = int(is_development(questions, share=config.evaluate.development_share).sum())
    most = config.evaluate.max_questions
    asked = min(found, most) if most else found
    if asked < LEAST_QUESTIONS:
        limit = f", of which {asked} are asked (evaluate.max_questions)" if asked < found else ""
        raise DataError(
            f"TUNE chooses settings on {found} of the {len(questions)} held-out questions of {config.data.name} "
            f"(evaluate.development_share={config.evaluate.development_share:g}){limit}; fewer than {LEAST_QUESTIONS} choose by "
            "chance. Hold more questions out, raise that share, or run without TUNE"
        )
    return found


def tune(
    method: str,
    run_job: RunJob,
    trials: int,
    *,
    config: Config,
    seed: int,
    value_of: ValueOf = accuracy,
    is_loss: bool = False,
    overrides: tuple[str, ...] = (),
    tell: Callable[[Trial, Finished], None] = lambda trial, finished: None,
) -> Tuned:
    """Try settings of a method and return what was found; the first trial has the request's own.

    Args:
        method: its name.
        run_job: runs a trial.
        trials: how many, the first included; a method without ranges gets none.
        config: of the method with the request's settings.
        seed: of the trials and of the sampler; none that is reported.
        value_of: the figure that decides, of a report; higher is better, None where it is undefined.
        is_loss: that figure is a loss turned round, and is told as a loss.
        overrides: settings of the whole comparison, and those that keep the method within its budget.
        tell: is told each trial with what came of it, to tag its run or to print a line.
    """
    row, ranges = METHODS[method], ranges_of(METHODS[method])
    if not ranges or not trials:
        return Tuned(method, seed, is_loss=is_loss)
    from optuna.trial import TrialState

    start, space = _space(ranges, config)
    study = _study(seed, trials)
    done: list[Trial] = []
    for number in range(trials):
        asked = study.ask(space) if number else None
        values = _values(asked.params) if asked else {}
        own = tuple(f"{name}={value}" for name, value in values.items())
        finished = run_job(Job(row.name, seed, (*overrides, *own, *DEVELOPMENT), "trial", str(number)))
        trial = _trial(number, values, finished, value_of)
        done.append(trial)
        tell(trial, finished)
        if asked:  # one that failed counts as a trial, and as worse than all that did not
            state = TrialState.PRUNED if trial.development is None else TrialState.COMPLETE
            study.tell(asked, trial.development, state=state)
        elif trial.development is not None:
            _add_start(study, trial.development, start, space)
    return Tuned(method, seed, tuple(done), start, is_loss)


def _trial(number: int, values: Mapping[str, Value], finished: Finished, value_of: ValueOf) -> Trial:
    if finished.report is None:
        return Trial(number, values, None, error=finished.error or f"exit code {finished.code}")
    value = value_of(finished.report)
    run_id = (finished.report.get("mlflow") or {}).get("run_id", "")
    return Trial(number, values, value, error="" if value is not None else "its figure is undefined", run_id=run_id)


def _study(seed: int, trials: int) -> "Study":
    """Return a search by the tree-structured Parzen estimator (Bergstra et al. 2011), seeded, in memory."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(2, trials // AT_RANDOM))
    return optuna.create_study(direction="maximize", sampler=sampler)


def _add_start(study: "Study", value: float, start: Mapping[str, Value], space: Mapping[str, "BaseDistribution"]) -> None:
    """Tell the sampler of the request's own settings, unless one lies where no range can hold it (0 on a logarithmic one)."""
    from optuna.trial import create_trial

    with suppress(ValueError):
        study.add_trial(create_trial(value=value, params=dict(start), distributions=dict(space)))


def _space(ranges: Sequence[Range], config: Config) -> tuple[dict[str, Value], dict[str, "BaseDistribution"]]:
    """Return the request's own values, and what the search draws from, by the setting's full name."""
    start: dict[str, Value] = {one.setting: attrgetter(one.setting)(config) for one in ranges}
    return start, {one.setting: _distribution(one, start[one.setting]) for one in ranges}


def _distribution(searched: Range, start: Value) -> "BaseDistribution":
    """Return what Optuna draws from; it holds the request's own value where it can, since that is the first trial."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if searched.choices:
        return CategoricalDistribution(tuple(dict.fromkeys((*searched.choices, start))))
    low, high = searched.around(float(start))
    if not searched.is_log or float(start) > 0:
        low, high = min(low, float(start)), max(high, float(start))
    return FloatDistribution(low, high, log=searched.is_log)


def _values(drawn: Mapping[str, Any]) -> dict[str, Value]:
    return {name: readable(value) if isinstance(value, float) else value for name, value in drawn.items()}
