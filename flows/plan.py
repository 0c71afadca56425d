"""Which stages a pipeline will run, in their order, and what each of them does, in words for whoever waits for it."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flows.elsewhere import tasks_of
from flows.feedback import label_source
from flows.judging import is_practising, judged_model
from posttrain.errors import PosttrainError
from posttrain.settings.config import Config
from tasks.base_model.identity import TINY
from tasks.feedback.given import GivenLabels
from tasks.feedback.sources.table import GIVEN, LabelSource
from tasks.workspace.jsonl import read_rows

LEARNING = {
    "": "",
    "demonstrations": "choosing {settings.few_shot.shots:,} demonstrations to put before each question",
    "labels": "learning from the labels",
    "reward": "{settings.ppo.updates:,} updates on {settings.ppo.episodes:,} responses each",
    "samples": "imitating up to {settings.self_training.per_question:,} right samples a question",
}
"""What a method's trainer does, by what its signal gives."""


@dataclass(frozen=True)
class Plan:
    """The stages to come.

    Attributes:
        config: of the pipeline.
        data: folder of the dataset.
        names: of the stages, in order.
        people: what people said of responses to the dataset's questions; None for nothing.
    """

    config: Config
    data: Path
    names: tuple[str, ...]
    people: GivenLabels | None = None

    def doing(self, name: str) -> str:
        """Return what a stage does, in a few words; "" for one that has none."""
        if name == "label" and _source(self.config, self.data, self.people) is GIVEN and self.people:
            return f"taking {len(self.people.labels):,} labels of people"
        return _doing(name, self.config, self.data, self.people)


def plan(config: Config, data: Path, people: GivenLabels | None = None) -> Plan:
    """Return the plan of a pipeline, from its settings, from what its dataset holds, and what people said (`people_of`)."""
    method, start = config.row, config.row.starts_from
    parted = ["part"] if config.evaluate.part != "all" else []
    made = method.models[: 2 if start != "base" else 1]
    others = [name for name in made if name != start]
    names = ["tokenizer", "validate", *parted, *made, *(f"evaluate-{name}" for name in (start, *others))]
    names += tasks_of([start, *others], asked=config.evaluate.tasks)
    if method.is_labelled:
        names += _feedback(config, data, people)
    elif method.is_sampled:
        names.append("sample")
    elif method.learns_from.reward == "judge" and is_practising(config):
        names.append("judge")
    names += [method.trainer, f"evaluate-{method.name}"] if method.trainer else []
    if config.evaluate.judge:
        names += ["judge"] if is_practising(config) and "judge" not in names else []
        names.append(f"judge-{judged_model(config)}")
    if method.trainer and not method.is_prompted:
        names += tasks_of([method.name], asked=config.evaluate.tasks)
    names += ["audit"] if method.is_rewarded else []
    return Plan(config=config, data=data, names=tuple(names), people=people)


def _feedback(config: Config, data: Path, people: GivenLabels | None) -> list[str]:
    """Return the stages from samples to labels, and to the reward model where the method has one."""
    source = _source(config, data, people)
    is_judged = source is not None and source.is_ai
    names = ["sample"] if source is None or source.is_sampled else []
    names += ["judge"] if is_judged and is_practising(config) else []
    names.append("label")
    has_others = bool(config.labels.file or people) or _has_answers(data / "questions.jsonl")
    names += ["second_opinion"] if is_judged and has_others else []
    names += ["self_preference"] if is_judged and config.judge.own_questions and not config.judge.budget else []
    return [*names, *(["reward_model"] if config.row.learns_from.reward == "reward_model" else [])]


def _source(config: Config, data: Path, people: GivenLabels | None) -> LabelSource | None:
    with suppress(PosttrainError):  # the stage itself says what is wrong
        return label_source(config, data, people)
    return None


def _has_answers(questions: Path) -> bool:
    with suppress(OSError, json.JSONDecodeError, AttributeError):  # the gate says what is wrong with a row
        return any(row.get("answers") for row in read_rows(questions))
    return False


def _doing(name: str, config: Config, data: Path, people: GivenLabels | None) -> str:
    if name.startswith("evaluate-"):
        count, most, part = _rows(data / "held_out.jsonl"), config.evaluate.max_questions, config.evaluate.part
        asked = f"{min(count, most) if most else count:,}" if part == "all" else f"the {part} ones of {count:,}"
        return f"{name.removeprefix('evaluate-')} answers {asked} held-out questions"
    if name.startswith("tasks-"):
        return f"{name.removeprefix('tasks-')} answers {config.evaluate.tasks}"
    if name.startswith("judge-"):
        return "the judge compares held-out answers with those before"
    words = {
        "tokenizer": "making the tokenizer" if config.model.base == TINY else "loading the tokenizer",
        "validate": "checking the data",
        "part": f"choosing the held-out questions that are {config.evaluate.part}",
        "base": f"pretraining for {config.pretrain.steps:,} steps" if config.model.base == TINY else config.model.base,
        "sft": f"imitating {_rows(data / 'demonstrations.jsonl'):,} demonstrations",
        "sample": f"drawing {config.sample.per_prompt} responses to {_sampled(config)}",
        "judge": f"practising the judge for {config.judge.practice_steps:,} steps",
        "label": source.doing if (source := _source(config, data, people)) else "",
        "second_opinion": "asking others about the judge's pairs",
        "self_preference": "does the judge prefer its own responses",
        "reward_model": "learning a score from the labels",
        config.row.trainer: LEARNING[config.row.learns_from.gives].format(settings=config),
        "audit": "holding the reward against gold",
    }
    return words.get(name, "")


def _sampled(config: Config) -> str:
    most = config.sample.max_questions
    return f"each of {most:,} questions at most" if most else "each question"


def _rows(path: Path) -> int:
    with suppress(OSError), path.open("rb") as lines:
        return sum(1 for _ in lines)
    return 0
