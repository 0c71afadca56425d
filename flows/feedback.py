"""The stages between SFT and a method's own training: samples, who prefers which of them, and the reward model of that."""

from dataclasses import dataclass
from pathlib import Path

from flows.judging import judge_arguments, practise_judge
from flows.run import Run
from posttrain.errors import DataError, RequestError
from posttrain.records import Preference, Question
from posttrain.settings.config import Config
from tasks.feedback.store import read_store, store_files
from tasks.workspace.artifacts import Artifact, file_digest
from tasks.workspace.jsonl import has_rows, required
from tasks.workspace.keys import NotDeciding

FEEDBACK = ("preferences", "ratings", "rankings")
"""Roles of a dataset that labels can be made of."""
PAIRED = ("pairs", "pairs_per_prompt", "budget")
"""Settings of labels that decide which pairs are labelled, whoever labels them."""


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


def label_source(config: Config, data: Path) -> str:
    """Return who labels: `simulated`, `dataset`, `judge` or `people`.

    Raises:
        RequestError: another source is asked for than the method has, or a file without its name.
    """
    given, wanted = config.labels.source, config.row.learns_from.labels_by
    if wanted and given not in ("auto", wanted):
        raise RequestError(
            f"method {config.method} learns from a {wanted}, and labels.source={given} is none. For other labels: METHOD=rlhf"
        )
    if given == "people" and not config.labels.file:
        raise RequestError('labels.source=people needs the store of labels: SET="labels.source=people labels.file=labels.jsonl"')
    if given != "auto":
        return given
    return wanted or ("dataset" if _brings_labels(data) else "simulated")


def _brings_labels(data: Path) -> bool:
    return any(has_rows(data / f"{role}.jsonl") for role in FEEDBACK)


def question_share(config: Config, data: Path) -> float:
    """Return the share of the training questions that rewards leave to sampling and labels; the same under every method.

    0 where the dataset brings labels of its own and no judge is asked instead, since nothing is sampled then.
    """
    is_brought = config.labels.source in ("auto", "dataset") and _brings_labels(data)
    return 0.0 if is_brought and not config.row.learns_from.labels_by else config.sample.question_share


def check_feedback(config: Config, data: Path) -> None:
    """Refuse before training what would fail after it: labels that nobody can give."""
    source = label_source(config, data)
    if source == "dataset":
        if not _brings_labels(data):
            required(data, "preferences", Preference, why="labels.source=dataset takes labels from")
        return
    questions = required(data, "questions", Question, why="responses are sampled for")
    if source == "simulated" and not any(one.answers for one in questions):
        raise DataError(
            f"{config.data.name} has neither preferences nor answers, so nobody can tell which of two samples is better. "
            "Import preferences, or questions with answers"
        )
    if config.labels.file and source in ("people", "judge"):
        read_store(Path(config.labels.file), questions={one.id: one for one in questions}, responses=None)


def gather_feedback(run: Run, start: Artifact, base: Artifact) -> Feedback:
    """Run the stages from samples to labels, and to the reward model where the method has one."""
    source = label_source(run.config, run.data.path)
    samples = None if source == "dataset" else draw_samples(run, start)
    labels = make_labels(run, source, samples, start, base)
    is_judged = source == "judge" and samples is not None
    return Feedback(
        source=source,
        samples=samples,
        labels=labels,
        second_opinion=ask_others(run, labels, samples, start) if is_judged else None,
        self_preference=measure_self_preference(run, samples, start, base) if is_judged else None,
        reward_model=train_reward_model(run, labels, start) if run.config.row.learns_from.reward == "reward_model" else None,
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


def make_labels(run: Run, source: str, samples: Artifact | None, start: Artifact, base: Artifact) -> Artifact:
    """Take the dataset's feedback, a store that people filled, a judge's labels, or those of simulated annotators."""
    config = run.config
    if source == "dataset":
        return run.stage(
            "label", "tasks.feedback.labels:label_from_dataset", data=run.data, settings=config.labels.only("budget")
        )
    writer = NotDeciding(start.uri)
    if source == "judge":
        return run.stage(
            "label",
            "tasks.judges.judge:label_with_judge",
            **run.network,
            **judge_arguments(run, practise_judge(run, base), mode=None),
            samples=samples,
            labels=config.labels.only(*PAIRED),
            findings=NotDeciding(run.places.findings("judge", config.data.name)),
            model_uri=writer,
        )
    if source == "people":
        return run.stage(
            "label",
            "tasks.feedback.labels:label_from_file",
            read=_store_digests(config),
            samples=samples,
            data=run.data,
            settings=config.labels.only("file", "budget"),
            model_uri=writer,
        )
    return run.stage(
        "label",
        "tasks.feedback.labels:label_simulated",
        samples=samples,
        settings=config.labels.only(*PAIRED, "annotators", "flip_rate", "overlap", "ties"),
        model_uri=writer,
        seed=config.seed,
    )


def ask_others(run: Run, labels: Artifact, samples: Artifact | None, start: Artifact) -> Artifact | None:
    """Let people (`labels.file`), else simulated annotators, say what they think of the pairs that a judge labelled.

    None where there are neither: no file is named, and no training question has an answer to go by.
    """
    config = run.config
    questions = required(run.data.path, "questions", Question, why="responses are sampled for")
    if not config.labels.file and not any(one.answers for one in questions):
        return None
    return run.stage(
        "second_opinion",
        "tasks.feedback.second_opinion:give",
        read=_store_digests(config),
        labels=labels,
        samples=samples,
        data=run.data,
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
        **run.network,
        **judge_arguments(run, practise_judge(run, base), mode=None, also=("own_questions",)),
        samples=samples,
        max_new_tokens=config.evaluate.max_new_tokens,
        model_uri=NotDeciding(start.uri),
    )


def train_reward_model(run: Run, labels: Artifact, start: Artifact) -> Artifact:
    """Train a reward model on the labels; it starts from the model in `start`."""
    return run.stage(
        "reward_model",
        "tasks.training.reward_model:train",
        **run.network,
        labels=labels,
        data=run.data,
        start=start,
        settings=run.config.reward_model,
        findings=NotDeciding(run.places.findings("reward_model", run.config.data.name)),
    )


def _store_digests(config: Config) -> dict[str, str]:
    """Return the digests of the files that people's labels lie in, if any."""
    return {file.name: file_digest(file) for file in store_files(Path(config.labels.file))} if config.labels.file else {}
