"""The champion's score on the fresh questions of a check, against that of its evaluation: the second half of `make monitor`."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from posttrain.data.lengths import WITHOUT_REFERENCES
from posttrain.drift.check import draw
from posttrain.drift.questions import Labels, fresh_questions
from posttrain.drift.score import answers_in, score_record, too_few
from posttrain.errors import DataError
from posttrain.promotion.moves import CHAMPION
from posttrain.records import Question, Record
from posttrain.settings.config import Config
from posttrain.settings.evaluation import EvaluateSettings
from posttrain.settings.model import ModelSettings
from tasks.data.stages import as_line
from tasks.promotion.evaluations import Evaluation, evaluation_of, families_of
from tasks.promotion.moves import read_aliases
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import WEIGHTS_TAG, digest_of_files, local_path
from tasks.workspace.artifacts import file_digest
from tasks.workspace.disk import storage_errors
from tasks.workspace.jsonl import PROBLEMS, read_rows
from tasks.workspace.keys import Contents, NotDeciding
from tasks.workspace.paths import Paths

STAGE, COMPUTE = "evaluate-fresh", "tasks.evaluation.version:evaluate_version"
HELD_OUT = "held_out.jsonl"
"""What an evaluation reads its questions from."""
Say = Callable[[str], None]


class NoScoreError(Exception):
    """There is no score, for a reason that is no error; its text goes on from "no score: "."""


@dataclass(frozen=True)
class Champion:
    """The version that serves, as it was measured.

    Attributes:
        model: its registered model.
        version: its number.
        evaluation: the newest.
        families: that the dataset names, of each row of the evaluation; None for none.
    """

    model: str
    version: str
    evaluation: Evaluation
    families: Sequence[str | None] | None


def score_champion(
    paths: Paths,
    config: Config,
    ledger: Ledger,
    *,
    labels: Labels,
    read: Callable[[], Iterator[Record]],
    known: Collection[int],
    say: Say,
) -> tuple[dict[str, Any] | None, str]:
    """Return the champion's score on fresh questions as the record has it, and "", or None and why there is none.

    Args:
        paths: of the repository.
        config: its dataset names the model; `monitor` says how many questions and what counts as a fall.
        ledger: of the registry.
        labels: what the rows of the file bring.
        read: yields the rows of the file, once more.
        known: numbers of the dataset's prompts, which are no fresh ones.
        say: prints one line for the user.

    Raises:
        StorageError: the champion's files are gone or damaged, or the disk refuses.
    """
    if not config.monitor.score_questions:
        return None, "monitor.score_questions is 0"
    if labels.missing:
        return None, labels.missing
    try:
        champion = champion_of(ledger, config)
        questions = _drawn(config, labels, read, known)
    except NoScoreError as reason:
        return None, str(reason)
    rows = _answers(paths, config, ledger, champion, questions, say)
    found = score_record(
        rows,
        champion.evaluation.rows,
        fresh_families=[one.family for one in questions],
        gate_families=champion.families,
        name=champion.evaluation.name,
        settings=config.monitor,
        near_duplicate=config.split.near_duplicate,
    )
    facts = {
        "model": champion.model,
        "version": champion.version,
        "pipeline_id": champion.evaluation.pipeline_id,
        "data_md5": champion.evaluation.data_md5,
        "answered": labels.answered,
        "known": labels.known,
    }
    return {**facts, **found}, ""


def champion_of(ledger: Ledger, config: Config) -> Champion:
    """Return the champion of a dataset.

    Raises:
        NoScoreError: there is none, or its accuracy is not known.
    """
    name = f"posttrain-{config.data.name}"
    known = {model.name for model in ledger.client.search_registered_models()}
    version = read_aliases(ledger, name)[CHAMPION] if name in known else None
    if version is None:
        raise NoScoreError(f"{name} has no champion. Make one: make promote VERSION=… DATA={config.data.name} WHY=…")
    try:
        evaluation = evaluation_of(ledger, name, version)
    except DataError as error:
        raise NoScoreError(str(error)) from None
    families = families_of(ledger, evaluation) if evaluation.parent else None
    questions, _ = answers_in(evaluation.rows, families, config.split.near_duplicate)
    what = f"the held-out questions with an answer that {evaluation.name} was measured on"
    if reason := too_few(what, questions, config.split.near_duplicate):
        raise NoScoreError(reason)
    return Champion(name, version, evaluation, families)


def _drawn(config: Config, labels: Labels, read: Callable[[], Iterator[Record]], known: Collection[int]) -> list[Question]:
    """Return the questions that the champion is asked.

    Raises:
        NoScoreError: there are too few.
    """
    fresh = fresh_questions(read(), known, labels)
    sample = draw(fresh, name="score", most=config.monitor.score_questions, seed=config.seed)
    questions = [one for one in sample.records if isinstance(one, Question)]
    if reason := too_few("the questions with an answer that the dataset does not have", questions, config.split.near_duplicate):
        raise NoScoreError(reason)
    return questions


def _answers(
    paths: Paths, config: Config, ledger: Ledger, champion: Champion, questions: Sequence[Question], say: Say
) -> list[dict[str, Any]]:
    """Return the champion's answers to questions, a row each as in its evaluation, from the store where it gave them before."""
    # Prefect, which flows.run brings, takes seconds to import
    from flows.run import made_alone

    folder = local_path(ledger, f"models:/{champion.model}/{champion.version}", say=say)
    tags = ledger.client.get_model_version(champion.model, champion.version).tags
    paths.store.mkdir(parents=True, exist_ok=True)
    with storage_errors("the fresh questions", paths.store), TemporaryDirectory(dir=paths.store) as scratch:
        asked = Path(scratch) / HELD_OUT
        asked.write_bytes(b"".join(map(as_line, questions)))
        arguments: dict[str, Any] = {
            "title": NotDeciding(f"{champion.evaluation.name} answers"),
            "data": Contents(Path(scratch), file_digest(asked)),
            "part": None,
            "version": Contents(folder, tags.get(WEIGHTS_TAG) or digest_of_files(folder)),
            **as_measured(champion.evaluation, config),
        }
        artifact = made_alone(paths, STAGE, COMPUTE, say=say, **arguments)
    return list(read_rows(artifact.path / PROBLEMS))


def as_measured(evaluation: Evaluation, config: Config) -> dict[str, Any]:
    """Return how the champion answers: what decides a greedy answer as in its evaluation, the rest as the settings say.

    One sampled response a question, the fewest there can be: the score is of greedy answers.
    """
    kept, limit = evaluation.settings, config.evaluate.max_new_tokens
    return {
        "model": ModelSettings.model_validate({"dtype": kept.get("model.dtype", config.model.dtype)}),
        "settings": EvaluateSettings(
            samples=1,
            max_new_tokens=int(kept.get("evaluate.max_new_tokens", WITHOUT_REFERENCES if limit == "auto" else limit)),
            batch_size=config.evaluate.batch_size,
        ),
        "context": int(kept.get("context", config.model.context)),
        "seed": config.seed,
    }
