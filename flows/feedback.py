"""The stages between SFT and PPO or DPO: samples, who prefers which of them, and the reward model of what they say."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.course import Course
from posttrain.errors import DataError, RequestError
from posttrain.judges.reviews import reviewer
from posttrain.judges.templates import Mode
from posttrain.records import Preference, Question
from posttrain.report.audit import WHO
from posttrain.settings.config import Config, flat
from tasks.base_model.identity import TINY
from tasks.feedback.store import read_store, store_files
from tasks.judges.identity import BASE, judge_digest, read_template
from tasks.rewards.table import RewardSource
from tasks.workspace.artifacts import Artifact, file_digest
from tasks.workspace.jsonl import has_rows, required
from tasks.workspace.paths import Places

FEEDBACK = ("preferences", "ratings", "rankings")
"""Roles of a dataset that labels can be made of."""
WORLD = "world"
"""The dataset whose reviews can be written here."""
PRACTICE = ("practice_steps", "misread_verbs", "slip_share")
"""Settings of the judge that decide what its practice makes of it."""
TEMPLATES = "judges"
"""Folder of the judge's prompts that have a name, below `data/`."""


@dataclass(frozen=True)
class Feedback:
    """What annotators gave, and what was made of it; None where the method does not want it."""

    samples: Artifact | None = None
    labels: Artifact | None = None
    second_opinion: Artifact | None = None
    self_preference: Artifact | None = None
    reward_model: Artifact | None = None


def label_source(config: Config, data: Path) -> str:
    """Return who labels: `simulated`, `dataset`, `judge` or `file`.

    Raises:
        RequestError: another source is asked for than the method has, or a file without its name.
    """
    asked = config.labels.source
    if config.method == "rlaif" and asked not in ("auto", "judge"):
        raise RequestError(f"method rlaif learns from a judge, and labels.source={asked} is none. For other labels: METHOD=rlhf")
    if asked == "people" and not config.labels.file:
        raise RequestError('labels.source=people needs the store of labels: SET="labels.source=people labels.file=labels.jsonl"')
    if asked != "auto":
        return asked
    if config.method == "rlaif":
        return "judge"
    return "dataset" if any(has_rows(data / f"{role}.jsonl") for role in FEEDBACK) else "simulated"


def question_share(config: Config, data: Path) -> float:
    """Return the share of the training questions that PPO leaves to sampling and labels; the same under every method.

    0 where the dataset brings labels of its own and no judge is asked instead, since nothing is sampled then.
    """
    brings_labels = config.labels.source in ("auto", "dataset") and any(has_rows(data / f"{role}.jsonl") for role in FEEDBACK)
    return 0.0 if brings_labels and config.method != "rlaif" else config.sample.question_share


def check_feedback(config: Config, data: Path) -> None:
    """Refuse before training what would fail after it: labels that nobody can give."""
    source = label_source(config, data)
    if source == "dataset":
        if not any(has_rows(data / f"{role}.jsonl") for role in FEEDBACK):
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


def gathered(course: Course, start: Artifact, base: Artifact) -> Feedback:
    """Run the stages from samples to labels, and to the reward model where the method has one."""
    source = label_source(course.config, course.data)
    samples = None if source == "dataset" else draw_samples(course, start)
    labels = make_labels(course, source, samples, start, base)
    is_judged = source == "judge" and samples is not None
    return Feedback(
        samples=samples,
        labels=labels,
        second_opinion=ask_others(course, labels, samples, start) if is_judged else None,
        self_preference=compare_with_own(course, samples, start, base) if is_judged else None,
        reward_model=train_reward_model(course, labels, start) if course.config.method in ("rlhf", "rlaif") else None,
    )


def draw_samples(course: Course, start: Artifact) -> Artifact:
    """Sample responses to the training questions from the model in `start`."""
    longest = course.config.evaluate.max_new_tokens
    return course.run(
        "sample",
        "tasks.feedback.samples:sample",
        "sample",
        reads={"data": course.checked, "start": start},
        also={"evaluate.max_new_tokens": longest},
        data=course.data,
        start=start.path,
        settings=course.config.sample,
        max_new_tokens=longest,
    )


def make_labels(course: Course, source: str, samples: Artifact | None, start: Artifact, base: Artifact) -> Artifact:
    """Take the dataset's feedback, a store that people filled, a judge's labels, or those of simulated annotators."""
    config, stages = course.config, course.stages
    if samples is None:
        return stages.run(
            "label",
            "tasks.feedback.labels:label_from_dataset",
            key_settings={"labels.source": source, "labels.budget": config.labels.budget},
            key_inputs={"data": course.checked.digest},
            data=course.data,
            settings=config.labels,
        )
    written_by = _writer(start)
    if source == "judge":
        return judged(course, samples, base, written_by)
    if source == "people":
        return stages.run(
            "label",
            "tasks.feedback.labels:label_from_file",
            key_settings={"labels.source": source, "labels.budget": config.labels.budget},
            key_inputs={
                "samples": samples.digest,
                "data": course.checked.digest,
                **_store_digests(config),
            },
            samples=samples.path,
            data=course.data,
            settings=config.labels,
            model_uri=written_by,
        )
    return stages.run(
        "label",
        "tasks.feedback.labels:label_simulated",
        key_settings={"seed": config.seed, **flat(config, "labels"), "labels.source": source},
        key_inputs={"samples": samples.digest},
        samples=samples.path,
        settings=config.labels,
        model_uri=written_by,
        seed=config.seed,
    )


def ask_others(course: Course, labels: Artifact, samples: Artifact, start: Artifact) -> Artifact | None:
    """Let people (`labels.file`), else simulated annotators, say what they think of the pairs that a judge labelled.

    None where there are neither: no file is named, and no training question has an answer to go by.
    """
    config = course.config
    questions = required(course.data, "questions", Question, why="responses are sampled for")
    if not config.labels.file and not any(one.answers for one in questions):
        return None
    return course.stages.run(
        "second_opinion",
        "tasks.feedback.second_opinion:give",
        key_settings={"seed": config.seed, **flat(config, "labels"), "labels.source": "judge"},
        key_inputs={"labels": labels.digest, "samples": samples.digest, "data": course.checked.digest, **_store_digests(config)},
        labels=labels.path,
        samples=samples.path,
        data=course.data,
        settings=config.labels,
        model_uri=_writer(start),
        seed=config.seed,
    )


def compare_with_own(course: Course, samples: Artifact, start: Artifact, base: Artifact) -> Artifact | None:
    """Let the judge compare responses of its own with the samples; None where it may not be asked that much."""
    config, places = course.config, course.stages.places
    if not config.judge.own_questions or config.judge.budget:
        return None
    judge = practised(course, base)
    longest = config.evaluate.max_new_tokens
    return course.run(
        "self_preference",
        "tasks.feedback.self_preference:measure",
        reads={"samples": samples, "judge": _judge_key(course, judge, mode=None)},
        also={
            "judge.own_questions": config.judge.own_questions,
            "evaluate.max_new_tokens": longest,
            **_deciding(config),
        },
        samples=samples.path,
        base=judge.path,
        settings=config.judge,
        templates=places.data / TEMPLATES,
        cache=places.store / "judge",
        max_new_tokens=longest,
        model_uri=_writer(start),
    )


def train_reward_model(course: Course, labels: Artifact, start: Artifact) -> Artifact:
    """Train a reward model on the labels; it starts from the model in `start`."""
    return course.run(
        "reward_model",
        "tasks.training.reward_model:train",
        "reward_model",
        reads={"labels": labels, "data": course.checked, "start": start},
        labels=labels.path,
        data=course.data,
        start=start.path,
        settings=course.config.reward_model,
        findings=course.stages.places.findings("reward_model", course.config.data.name),
    )


def of_reward_model(reward_model: Artifact) -> RewardSource:
    """Return the reward that the pipeline's own reward model gives."""
    return RewardSource(kind="model", name="the reward model", digest=reward_model.digest, path=str(reward_model.path / "model"))


def practises(config: Config) -> bool:
    """Return whether the judge that is called `base` practises on reviews first: on the tiny world, with the tiny base."""
    is_tiny_world = config.data.name == WORLD and config.model.base == TINY
    return is_tiny_world and config.judge.backend == "local" and config.judge.model == BASE and config.judge.practice_steps > 0


def practised(course: Course, base: Artifact) -> Artifact:
    """Return the judge that is called `base`: the base itself, or on the tiny world the base after practice on reviews."""
    config = course.config
    if not practises(config):
        return base
    return course.run(
        "judge",
        "tasks.judges.practice:practise_judging",
        reads={"data": course.checked, "base": base},
        also={f"judge.{name}": getattr(config.judge, name) for name in PRACTICE},
        data=course.data,
        base=base.path,
        settings=config.judge,
    )


def judged(course: Course, samples: Artifact, base: Artifact, written_by: str) -> Artifact:
    """Let the judge label pairs of samples."""
    config, places = course.config, course.stages.places
    judge = practised(course, base)
    labels = config.labels
    return course.run(
        "label",
        "tasks.judges.judge:label_with_judge",
        reads={"samples": samples, "judge": _judge_key(course, judge, mode=None)},
        also={
            "labels.source": "judge",
            "labels.pairs": labels.pairs,
            "labels.pairs_per_prompt": labels.pairs_per_prompt,
            "labels.budget": labels.budget,
            **_deciding(config),
        },
        samples=samples.path,
        base=judge.path,
        labels=labels,
        settings=config.judge,
        templates=places.data / TEMPLATES,
        cache=places.store / "judge",
        findings=places.findings("judge", config.data.name),
        model_uri=written_by,
    )


def of_judge(course: Course, base: Artifact) -> RewardSource:
    """Return the reward that the judge itself gives (d-RLAIF)."""
    config, places = course.config, course.stages.places
    judge = practised(course, base)
    return RewardSource(
        kind="judge",
        name=f"the judge {config.judge.model}",
        digest=_judge_key(course, judge, mode="pointwise"),
        judge={
            "settings": config.judge,
            "base": judge.path,
            "tokenizer": course.tokenizer.path / "tokenizer",
            "model": config.model,
            "templates": places.data / TEMPLATES,
            "cache": places.store / "judge",
            "context": int(course.tokenizer.metrics["context"]),
        },
    )


def compared_by_judge(
    course: Course, models: Mapping[str, Artifact], results: Mapping[str, Artifact], *, start: str
) -> dict[str, Artifact]:
    """Let the judge compare held-out answers with those of the model in `start`, where `evaluate.judge` asks for it.

    Compared is the method's own model; where that is the start itself (`METHOD=sft`), the base is.
    """
    config, places = course.config, course.stages.places
    if not config.evaluate.judge:
        return {}
    judge = practised(course, models["base"])
    final = list(models)[-1]
    return {
        name: course.run(
            f"judge-{name}",
            "tasks.evaluation.judge_win_rate:compare",
            reads={
                "results": results[name],
                "start_results": results[start],
                "judge": _judge_key(course, judge, mode="pairwise"),
            },
            also=_deciding(config),
            results=results[name].path,
            start_results=results[start].path,
            base=judge.path,
            settings=config.judge,
            templates=places.data / TEMPLATES,
            cache=places.store / "judge",
            model_uri=_writer(models[name]),
            start_uri=_writer(models[start]),
        )
        for name in ([final] if final != start else [other for other in models if other != start])
    }


def audited(course: Course, ppo: Artifact, feedback: Feedback) -> Artifact:
    """Hold what PPO was rewarded by against gold, over how far it went."""
    config = course.config
    return course.stages.run(
        "audit",
        "tasks.evaluation.audit:audit",
        key_settings={
            "seed": config.seed,
            "title": audit_title(config),
            "proxy_name": proxy_name(config, feedback),
            "ppo.patience": config.ppo.patience,
        },
        key_inputs={
            "ppo": ppo.key,  # its curve is read, which is not among the files that its digest is of
            "tokenizer": course.tokenizer.digest,
            "samples": feedback.samples.digest if feedback.samples else "",
            "labels": feedback.labels.digest if feedback.labels else "",
            "reward_model": feedback.reward_model.digest if feedback.reward_model else "",
        },
        title=audit_title(config),
        proxy_name=proxy_name(config, feedback),
        samples=feedback.samples and feedback.samples.path,
        labels=feedback.labels and feedback.labels.path,
        reward=feedback.reward_model and feedback.reward_model.path,
        ppo=ppo.path,
        tokenizer=course.tokenizer.path / "tokenizer",
        settings=config.ppo,
        seed=config.seed,
    )


def audit_title(config: Config) -> str:
    """Return what stands over the audit's picture."""
    return f"{config.method} on {config.data.name}, seed {config.seed}"


def proxy_name(config: Config, feedback: Feedback) -> str:
    """Return what PPO was rewarded by, in words; what is simulated is called so."""
    if config.method == "rlaif" and not feedback.reward_model:
        return f"the AI judge ({config.judge.model})"
    if not feedback.reward_model or not feedback.labels:
        return config.ppo.reward
    return f"reward model of {WHO[source_of_labels(feedback.labels)]}"


def source_of_labels(labels: Artifact) -> str:
    """Return who gave the labels of a stage, as `labels.source` names them."""
    return str(json.loads((labels.path / "stage.json").read_text(encoding="utf-8"))["settings"]["labels.source"])


def is_learnt_from_judge(config: Config) -> bool:
    """Return whether a method learns from what a judge says."""
    return config.method == "rlaif" or config.labels.source == "judge"


def check_judge_settings(config: Config, places: Places) -> None:
    """Refuse before anything runs a template that is none, or a judge that cannot be meant.

    Raises:
        RequestError: naming the setting.
    """
    settings = config.judge
    reviewer(settings.misread_verbs, slip_share=settings.slip_share)
    is_direct = config.method == "rlaif" and config.rlaif.direct
    if is_learnt_from_judge(config):
        read_template(settings, folder=places.data / TEMPLATES, mode="pointwise" if is_direct else None)
    if config.evaluate.judge:
        read_template(settings, folder=places.data / TEMPLATES, mode="pairwise", needed_by="evaluate.judge")
    if settings.backend == "local" and settings.model != BASE:
        from models.load import check_base

        check_base(settings.model, setting="judge.model", default=BASE)
    judge_digest(settings, base_digest="")


def check_judge_server(config: Config, places: Places) -> list[str]:
    """Ask the judge's server for its model, where the judge is one, and return notes for the user.

    Raises:
        RequestError: it cannot be asked.
    """
    if config.judge.backend != "openai":
        return []
    from tasks.judges.check import check_server

    return check_server(config.judge, cache=places.store / "judge")


def _writer(start: Artifact) -> str:
    """Return the URI of the model that samples are drawn from."""
    return f"stage:{start.stage}/{start.key}"


def _store_digests(config: Config) -> dict[str, str]:
    """Return the digests of the files that people's labels lie in, if any."""
    return {file.name: file_digest(file) for file in store_files(Path(config.labels.file))} if config.labels.file else {}


def _judge_key(course: Course, judge: Artifact, *, mode: Mode | None) -> str:
    """Return a digest of who is asked, and how."""
    settings = course.config.judge
    template = read_template(settings, folder=course.stages.places.data / TEMPLATES, mode=mode)
    told = [judge_digest(settings, base_digest=judge.digest), template.digest, _deciding(course.config)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _deciding(config: Config) -> dict[str, Any]:
    """Return the judge's settings that decide what it says; patience, prices and speed do not."""
    names = ("backend", "model", "mode", "reasoning", "samples", "max_tokens", "budget")
    limits = ("max_flips", "min_conviction", "max_unreadable")
    return {f"judge.{name}": getattr(config.judge, name) for name in (*names, *limits)}
