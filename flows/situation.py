"""What settings and data say of each method before anything runs: the facts of `posttrain.advice` that need no network.

`make advise` adds base, machine and lengths; `make compare` refuses by these what cannot run, in the same words.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from flows.feedback import label_source
from flows.judging import is_practising
from flows.memory import memory_asked
from flows.pipeline import check_settings
from flows.training import checked_reward
from posttrain.advice.barriers import impossible
from posttrain.advice.situation import Asked, Situation
from posttrain.errors import DataError, PosttrainError
from posttrain.methods import METHODS, Method
from posttrain.records import Question
from posttrain.settings.config import Config
from tasks.advice.look import counted
from tasks.feedback.sources.table import SOURCES
from tasks.feedback.store import read_store
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import local_path
from tasks.workspace.jsonl import has_rows, read_records
from tasks.workspace.paths import Paths

Say = Callable[[str], None]


def check_possible(paths: Paths, config: Config, folder: Path, methods: Sequence[str], say: Say) -> None:
    """Refuse methods that cannot run on a dataset, each as `make advise` says it.

    Memory is not asked: the workers of a cluster have their own. Rows that cannot be read are left to the data gate.

    Args:
        paths: of the repository.
        config: settings of the comparison.
        folder: of the dataset.
        methods: their names.
        say: prints a line.

    Raises:
        DataError: naming each method that cannot run, why, and what would make it possible.
    """
    try:
        found = of_store(config, folder, counted(folder, known_situation(paths, config, folder, say)))
    except (ValidationError, DataError):
        return
    reasons = [reason for name in dict.fromkeys(methods) if (reason := impossible(METHODS[name], found))]
    if reasons:
        raise DataError("\n".join(reasons))


def known_situation(paths: Paths, config: Config, folder: Path, say: Say) -> Situation:
    """Return what the settings say, and who would label; facts of rows, base and machine are not in it yet."""
    refused, labels_from = _settings_refused(paths, config, folder, say)
    return Situation(dataset=config.data.name, labels_from=labels_from, refused=refused, asked=_asked(paths, config, say))


def of_store(config: Config, folder: Path, situation: Situation) -> Situation:
    """Return the situation with the labels of people's store, where that is what methods learn from."""
    bought = _store_labels(config, folder)
    return situation if bought is None else replace(situation, labels=bought, annotators=0, shared_pairs=0, alpha=None)


def of_method(config: Config, method: Method) -> Config:
    """Return the settings of the same run by another method."""
    return config.model_copy(update={"method": method.name})


def _settings_refused(paths: Paths, config: Config, folder: Path, say: Say) -> tuple[dict[str, str], dict[str, str]]:
    """Return by method why its settings are refused, and who would label, from the checks of the pipeline themselves."""
    refused: dict[str, str] = {}
    labels_from: dict[str, str] = {}
    for method in METHODS.values():
        asked = of_method(config, method)
        try:
            check_settings(asked, paths)
            checked_reward(asked, registered=_registered(paths, config, say))
            if method.is_labelled:
                labels_from[method.name] = label_source(asked, folder)
                _check_store(asked, folder, labels_from[method.name])
        except PosttrainError as error:
            refused[method.name] = str(error).rstrip(".")
    return refused, labels_from


def _check_store(config: Config, folder: Path, source: str) -> None:
    if config.labels.file and (SOURCES[source].needs_file or SOURCES[source].is_ai) and has_rows(folder / "questions.jsonl"):
        questions = {one.id: one for one in read_records(folder / "questions.jsonl", Question)}
        read_store(Path(config.labels.file), questions=questions, responses=None)


def _store_labels(config: Config, folder: Path) -> int | None:
    """Return how many labels people's store holds, where it is what methods learn from; None where it is not."""
    if config.labels.source not in SOURCES or not SOURCES[config.labels.source].needs_file:
        return None
    if not config.labels.file or not has_rows(folder / "questions.jsonl"):
        return 0
    with suppress(PosttrainError):  # told as what makes methods impossible
        questions = {one.id: one for one in read_records(folder / "questions.jsonl", Question)}
        return len(read_store(Path(config.labels.file), questions=questions, responses=None))
    return 0


def _registered(paths: Paths, config: Config, say: Say) -> Callable[[str], Path]:
    return lambda uri: local_path(Ledger.open(paths, config.tracking), uri, say=say)


def _asked(paths: Paths, config: Config, say: Say) -> Asked:
    is_graded = False
    with suppress(PosttrainError):  # told as what makes methods impossible
        # of a method that takes any reward
        anything = next(row for row in METHODS.values() if row.learns_from.reward == "named")
        source = checked_reward(of_method(config, anything), registered=_registered(paths, config, say))
        is_graded = source is not None and source.is_checkable_by_program
    return Asked(
        reward=config.ppo.reward,
        is_graded=is_graded,
        partial_credit=config.ppo.partial_credit,
        judge=config.judge.model,
        is_practised=is_practising(config),
        max_questions=config.evaluate.max_questions,
        **memory_asked(config),
    )
