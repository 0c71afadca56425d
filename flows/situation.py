"""What settings and data say of each method before anything runs: the facts of `posttrain.advice` that need no network.

`make advise` adds base, machine and lengths; `make compare` refuses by these what cannot run, in the same words.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from flows.feedback import label_source, people_of
from flows.judging import is_practising
from flows.memory import memory_asked
from flows.pipeline import check_settings
from flows.training import checked_reward
from posttrain.advice.barriers import impossible
from posttrain.advice.situation import Asked, Situation
from posttrain.errors import DataError, PosttrainError
from posttrain.feedback.agreement import agreement_of
from posttrain.methods import METHODS, Method
from posttrain.records import Question
from posttrain.settings.config import Config
from tasks.advice.look import counted
from tasks.data.dvc import DatasetVersion
from tasks.feedback.sources.table import SOURCES, LabelSource
from tasks.feedback.store import read_store
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import local_path
from tasks.workspace.jsonl import has_rows, read_records
from tasks.workspace.paths import Paths

Say = Callable[[str], None]


def check_possible(paths: Paths, config: Config, data: DatasetVersion, methods: Sequence[str], say: Say) -> None:
    """Refuse methods that cannot run on a dataset, each as `make advise` says it.

    Memory is not asked: the workers of a cluster have their own. Rows that cannot be read are left to the data gate.

    Args:
        paths: of the repository.
        config: settings of the comparison.
        data: the dataset.
        methods: their names.
        say: prints a line.

    Raises:
        DataError: naming each method that cannot run, why, and what would make it possible.
    """
    try:
        known = known_situation(paths, config, data.folder, data, say)
        found = of_people(paths, config, data.folder, data, counted(data.folder, known))
    except (ValidationError, DataError):
        return
    reasons = [reason for name in dict.fromkeys(methods) if (reason := impossible(METHODS[name], found))]
    if reasons:
        raise DataError("\n".join(reasons))


def known_situation(paths: Paths, config: Config, folder: Path, version: DatasetVersion, say: Say) -> Situation:
    """Return what the settings say, and who would label; facts of rows, base and machine are not in it yet.

    Args:
        paths: of the repository.
        config: settings of the run.
        folder: of the dataset's rows, such as those behind the data gate.
        version: of the dataset, beside which people's labels lie.
        say: prints a line.
    """
    refused, labels_from = _settings_refused(paths, config, folder, version, say)
    return Situation(dataset=config.data.name, labels_from=labels_from, refused=refused, asked=_asked(paths, config, say))


def of_people(paths: Paths, config: Config, folder: Path, version: DatasetVersion, situation: Situation) -> Situation:
    """Return the situation with the labels of people, of the dataset or of a store, where that is what methods learn from."""
    anybodys = next(row for row in METHODS.values() if row.is_labelled and not row.learns_from.labels_by)
    with suppress(PosttrainError):  # told as what makes methods impossible
        if people := people_of(of_method(config, anybodys), paths, version):
            found = agreement_of(people.labels)
            return replace(
                situation,
                labels=len(people.labels),
                annotators=len(found.annotators),
                shared_pairs=found.shared_pairs,
                alpha=found.alpha,
            )
    bought = _store_labels(config, folder)
    return situation if bought is None else replace(situation, labels=bought, annotators=0, shared_pairs=0, alpha=None)


def of_method(config: Config, method: Method) -> Config:
    """Return the settings of the same run by another method."""
    return config.model_copy(update={"method": method.name})


def _settings_refused(
    paths: Paths, config: Config, folder: Path, version: DatasetVersion, say: Say
) -> tuple[dict[str, str], dict[str, str]]:
    """Return by method why its settings are refused, and who would label, from the checks of the pipeline themselves."""
    refused: dict[str, str] = {}
    labels_from: dict[str, str] = {}
    for method in METHODS.values():
        asked = of_method(config, method)
        try:
            check_settings(asked, paths)
            checked_reward(asked, registered=_registered(paths, config, say))
            if method.is_labelled:
                source = label_source(asked, folder, people_of(asked, paths, version))
                labels_from[method.name] = source.name
                _check_store(asked, folder, source)
        except PosttrainError as error:
            refused[method.name] = str(error).rstrip(".")
    return refused, labels_from


def _check_store(config: Config, folder: Path, source: LabelSource) -> None:
    if config.labels.file and (source.needs_file or source.is_ai) and has_rows(folder / "questions.jsonl"):
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
