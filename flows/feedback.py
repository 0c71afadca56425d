"""The stages between SFT and a method's own training: samples, who prefers which of them, and the reward model of that."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.judging import judge_source
from flows.run import Run
from posttrain.errors import DataError, RequestError
from posttrain.records import Preference, Question
from posttrain.settings.config import Config
from tasks.data.dvc import DatasetVersion
from tasks.data.labels_file import labels_of_version
from tasks.feedback.given import GivenLabels
from tasks.feedback.sources.table import GIVEN, PAIRED, SOURCES, LabelSource
from tasks.feedback.store import read_store, store_files
from tasks.workspace.artifacts import Artifact, file_digest
from tasks.workspace.jsonl import has_rows, required
from tasks.workspace.keys import NotDeciding
from tasks.workspace.paths import Paths

FEEDBACK = ("preferences", "ratings", "rankings")
"""Roles of a dataset that labels can be made of."""


@dataclass(frozen=True)
class Feedback:
    """What annotators gave, and what was made of it; None where the method does not want it.

    Attributes:
        source: who labelled, as `labels.source` names them; "" for nobody.
        samples: drawn from the model that the method starts from.
        labels: who prefers what.
        second_opinion: what others say of the pairs that a judge labelled.
        self_preference: whether the judge prefers its own responses.
        reward_model: of the labels.
    """

    source: str = ""
    samples: Artifact | None = None
    labels: Artifact | None = None
    second_opinion: Artifact | None = None
    self_preference: Artifact | None = None
    reward_model: Artifact | None = None


def people_of(config: Config, paths: Paths, data: DatasetVersion) -> GivenLabels | None:
    """Return what people said of responses to the dataset's questions, where a pipeline reads it; None where it does not.

    A method that nobody labels for does not read it, nor does one whose labels come from elsewhere by name.

    Raises:
        DataError: the labels are damaged.
    """
    if not config.row.is_labelled or config.labels.source in ("simulated", "dataset"):
        return None
    is_store_named = config.labels.file and (config.row.learns_from.labels_by or config.labels.source != "auto")
    return None if is_store_named else labels_of_version(paths, data)


def label_source(config: Config, data: Path, people: GivenLabels | None) -> LabelSource:
    """Return who labels.

    Args:
        config: of the pipeline.
        data: folder of the dataset.
        people: what people said of responses to its questions (`people_of`).

    Raises:
        RequestError: another source is asked for than the method has, or labels of people that are nowhere.
    """
    given, wanted = config.labels.source, config.row.learns_from.labels_by
    if wanted and given not in ("auto", wanted):
        raise RequestError(
            f"method {config.method} learns from a {wanted}, and labels.source={given} is none. For other labels: METHOD=rlhf"
        )
    chosen = given if given != "auto" else wanted or ("people" if people else "dataset" if _brings_labels(data) else "simulated")
    if chosen != "people" or (given == "people" and config.labels.file):
        return SOURCES[chosen]
    if people is None:
        raise RequestError(
            f'labels.source=people needs the store of labels: SET="labels.source=people labels.file=labels.jsonl"; or labels of '
            f"the dataset's questions beside it (data/{config.data.name}/labels.jsonl): make label DATA={config.data.name}"
        )
    return GIVEN


def _brings_labels(data: Path) -> bool:
    return any(has_rows(data / f"{role}.jsonl") for role in FEEDBACK)


def question_share(config: Config, data: Path) -> float:
    """Return the share of the training questions that rewards leave to sampling and labels; the same under every method.

    0 where the dataset brings labels of its own and no judge is asked instead, since nothing is sampled then. What people say
    later changes nothing here: PPO asks the same questions under every method before and after, but for those that a reward
    model has learnt from (docs/decisions/0018-equal-feedback.md).
    """
    is_brought = config.labels.source in ("auto", "dataset") and _brings_labels(data)
    return 0.0 if is_brought and not config.row.learns_from.labels_by else config.sample.question_share


def check_feedback(config: Config, data: Path, people: GivenLabels | None) -> None:
    """Refuse before training what would fail after it: labels that nobody can give."""
    source = label_source(config, data, people)
    if source is GIVEN:
        required(data, "questions", Question, why="labels are given on")
        return
    if not source.is_sampled:
        if not _brings_labels(data):
            required(data, "preferences", Preference, why="labels.source=dataset takes labels from")
        return
    questions = required(data, "questions", Question, why="responses are sampled for")
    if source.needs_answers and not any(one.answers for one in questions):
        raise DataError(
            f"{config.data.name} has neither preferences nor answers, so nobody can tell which of two samples is better. "
            "Import preferences, or questions with answers"
        )
    if config.labels.file and (source.needs_file or source.is_ai):
        read_store(Path(config.labels.file), questions={one.id: one for one in questions}, responses=None)


def gather_feedback(run: Run, start: Artifact, base: Artifact) -> Feedback:
    """Run the stages from samples to labels, and to the reward model where the method has one; or as few of them as it wants."""
    method = run.config.row
    if not method.is_labelled:
        return Feedback(samples=draw_samples(run, start) if method.is_sampled else None)
    source = label_source(run.config, run.data.path, run.people)
    samples = draw_samples(run, start) if source.is_sampled else None
    labels = make_labels(run, source, samples, start, base)
    return Feedback(
        source=source.name,
        samples=samples,
        labels=labels,
        second_opinion=ask_others(run, labels, samples, start) if source.is_ai else None,
        self_preference=measure_self_preference(run, samples, start, base) if source.is_ai else None,
        reward_model=train_reward_model(run, labels, start) if method.learns_from.reward == "reward_model" else None,
    )


def draw_samples(run: Run, start: Artifact) -> Artifact:
    """Sample responses to the training questions from the model in `start`."""
    return run.stage(
        "sample",
        "tasks.feedback.samples:sample",
        **run.network,
        data=run.data,
        start=start,
        settings=run.config.sample,
        max_new_tokens=run.config.evaluate.max_new_tokens,
    )


def make_labels(run: Run, source: LabelSource, samples: Artifact | None, start: Artifact, base: Artifact) -> Artifact:
    """Take the labels of a source; it gets what its row says that it takes."""
    config = run.config
    offered: dict[str, Any] = {
        "samples": samples,
        "data": run.data,
        "people": run.people,
        "settings": config.labels.only(*source.settings),
        "findings": NotDeciding(run.paths.findings("judge", config.data.name)),
        "model_uri": NotDeciding(start.uri),
        "seed": config.seed,
        **({"judge": judge_source(run, base)} if "judge" in source.takes else {}),
    }
    read = _store_digests(config) if source.needs_file else {}
    return run.stage("label", source.compute, read=read, **{name: offered[name] for name in source.takes})


def ask_others(run: Run, labels: Artifact, samples: Artifact | None, start: Artifact) -> Artifact | None:
    """Let people, else simulated annotators, say what they think of the pairs that a judge labelled.

    People's labels are those of `labels.file`, else the dataset's. None where there are neither: nobody labelled, and no training
    question has an answer to go by.
    """
    config = run.config
    questions = required(run.data.path, "questions", Question, why="responses are sampled for")
    if not config.labels.file and not run.people and not any(one.answers for one in questions):
        return None
    return run.stage(
        "second_opinion",
        "tasks.feedback.second_opinion:give",
        read=_store_digests(config),
        labels=labels,
        samples=samples,
        data=run.data,
        people=run.people,
        settings=config.labels.only(*PAIRED, "file", "annotators", "flip_rate", "overlap", "ties"),
        model_uri=NotDeciding(start.uri),
        seed=config.seed,
    )


def measure_self_preference(run: Run, samples: Artifact | None, start: Artifact, base: Artifact) -> Artifact | None:
    """Let the judge compare responses of its own with the samples; None where it may not be asked that much."""
    config = run.config
    if not config.judge.own_questions or config.judge.budget:
        return None
    return run.stage(
        "self_preference",
        "tasks.feedback.self_preference:measure",
        samples=samples,
        judge=judge_source(run, base),
        questions=config.judge.own_questions,
        max_new_tokens=config.evaluate.max_new_tokens,
        model_uri=NotDeciding(start.uri),
        seed=config.seed,
    )


def train_reward_model(run: Run, labels: Artifact, start: Artifact) -> Artifact:
    """Train a reward model on the labels; it starts from the model in `start`."""
    return run.stage(
        "reward_model",
        "tasks.training.reward_model:train",
        trains=True,
        **run.network,
        labels=labels,
        data=run.data,
        start=start,
        settings=run.config.reward_model,
        findings=NotDeciding(run.paths.findings("reward_model", run.config.data.name)),
    )


def _store_digests(config: Config) -> dict[str, str]:
    """Return the digests of the files that people's labels lie in, if any."""
    return {file.name: file_digest(file) for file in store_files(Path(config.labels.file))} if config.labels.file else {}
