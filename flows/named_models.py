"""What a user may call a model: a registered version, a stage of the last run, a packaged base, a file, a directory, a hub id."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.bases import locate_base
from flows.promotion import registry
from posttrain.errors import DataError, RequestError, did_you_mean
from posttrain.methods import METHODS
from posttrain.promotion.moves import CHALLENGER, CHAMPION, PREVIOUS
from posttrain.records import Question
from posttrain.settings.config import Config
from posttrain.settings.model import ModelSettings
from tasks.asking.answer import Named
from tasks.base_model.identity import TINY
from tasks.base_model.packaged import PACKAGES, SUFFIX
from tasks.data.stages import read_records
from tasks.promotion.evaluations import evaluation_of
from tasks.promotion.loading import check_loads
from tasks.promotion.moves import read_aliases
from tasks.tracking.registry import name_and_version
from tasks.workspace.artifacts import Artifact, glance
from tasks.workspace.paths import Paths
from tasks.workspace.weights import source_of

Say = Callable[[str], None]
ALIASES = (CHAMPION, CHALLENGER, PREVIOUS)
URI = "models:/"
STAGES = {method.name: method.trainer for method in METHODS.values()} | {"base": "base", "sft": "sft"}
"""The stage that makes a model, by what reports call the model."""
REMEMBERED = ("dtype", "prompt_format", "system")
"""Settings of the model, as far as there are such, that an evaluation used and an answer is to use again."""
NO_NUMBER = 256
"""Tokens of an answer whose limit is to follow from data that an answer to a stranger's question does not have."""
CAN_BE = (
    f"a version (3, {', '.join(ALIASES)}), a model of the last run (base, sft, dpo …), {', '.join(PACKAGES)}, a {SUFFIX} file, "
    "a Hugging Face directory, or a hub id (owner/name)"
)


@dataclass(frozen=True)
class LastRun:
    """A pipeline of a dataset, as its report has it.

    Attributes:
        pipeline_id: names the report.
        method: that it trained by.
        keys: of its stages, by name.
    """

    pipeline_id: str
    method: str
    keys: Mapping[str, str] = field(default_factory=dict)

    def artifact(self, paths: Paths, stage: str) -> Artifact | None:
        """Return what a stage left; None where it is gone, or the run had none."""
        return glance(paths, stage, self.keys[stage]) if stage in self.keys else None


def last_runs(paths: Paths, dataset: str) -> list[LastRun]:
    """Return the pipelines of a dataset whose reports lie here, the newest first."""
    found = []
    for file in paths.reports.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(file.read_text(encoding="utf-8"))
            if file.name != "latest.json" and told["dataset"] == dataset:
                keys = {str(stage["name"]): str(stage["key"]) for stage in told["stages"]}
                found.append((str(told["created"]), LastRun(str(told["pipeline_id"]), str(told["method"]), keys)))
    return [run for _, run in sorted(found, key=lambda one: one[0], reverse=True)]


def default_names(paths: Paths, config: Config) -> list[str]:
    """Return the champion, where there is one, else the model of the last run behind its base.

    Raises:
        RequestError: no pipeline has run here.
    """
    with suppress(RequestError), registry(paths, config) as (ledger, name):
        if read_aliases(ledger, name)[CHAMPION]:
            return [CHAMPION]
    runs = last_runs(paths, config.data.name)
    if not runs:
        raise RequestError(
            f"there is no model of {config.data.name}: no pipeline has run here. Make one: make pipeline "
            f"DATA={config.data.name}; or name one by MODELS: {CAN_BE}"
        )
    return ["base", runs[0].method]


def named_model(paths: Paths, config: Config, asked: str, say: Say, *, is_limit_given: bool = False) -> Named:
    """Return the model that a name stands for, and how it answers: as it was evaluated, where that is known.

    Args:
        paths: of the repository.
        config: its dataset names registered model and runs; `model` and `evaluate` say the rest.
        asked: the name.
        say: prints one line for the user.
        is_limit_given: `evaluate.max_new_tokens` was asked for, so that it counts more than that of the evaluation.

    Raises:
        RequestError: there is none of that name.
        StorageError: its files are gone or damaged.
    """
    limit = longest_answer(config) if is_limit_given else None
    if asked.isdecimal() or asked in ALIASES or asked.startswith(URI):
        return _version(paths, config, asked, say, limit)
    if asked in STAGES:
        return _of_run(paths, config, asked, say, limit)
    if asked == TINY:
        raise RequestError(f"{TINY} is made by a run: ask the base of the last one, MODELS=base")
    looks_local = asked.startswith(("./", "../", "/", "~")) or Path(asked).is_dir()
    if not (asked in PACKAGES or asked.endswith(SUFFIX) or looks_local or "/" in asked):
        known = [*ALIASES, *STAGES, *PACKAGES]
        raise RequestError(f"there is no model {asked}{did_you_mean(asked, known) or f'; it can be {CAN_BE}'}")
    return _elsewhere(paths, config, asked, say, limit)


def longest_answer(config: Config) -> int:
    """Return the tokens of an answer, at most, where no evaluation says it; `NO_NUMBER` where the settings give no number."""
    limit: object = config.evaluate.max_new_tokens
    return limit if isinstance(limit, int) else NO_NUMBER


def version_named(paths: Paths, config: Config, asked: str, say: Say) -> tuple[str, str, Path]:
    """Return the registered model, the number of the version that was asked for, and the folder of its files, which are whole.

    Raises:
        RequestError: there is no such version.
        StorageError: its files are gone or damaged.
    """
    with registry(paths, config) as (ledger, name):
        name, number = name_and_version(ledger, _uri(name, asked))
        return name, number, check_loads(ledger, name, number, say=say)


def version_uri(paths: Paths, config: Config, asked: str) -> str:
    """Return the URI of the version that a number or an alias stands for, by its number.

    Raises:
        RequestError: there is no such version.
    """
    with registry(paths, config) as (ledger, name):
        name, number = name_and_version(ledger, _uri(name, asked))
    return f"{URI}{name}/{number}"


def _uri(name: str, asked: str) -> str:
    if asked.startswith(URI):
        return asked
    if asked.isdecimal() and len(asked) < 10:  # more is no version, and no number that a database holds
        return f"{URI}{name}/{int(asked)}"
    if asked in ALIASES:
        return f"{URI}{name}@{asked}"
    raise RequestError(f"VERSION must be the number of a version of {name}, {', '.join(ALIASES)}, got {asked or 'nothing'}")


def _version(paths: Paths, config: Config, asked: str, say: Say, limit: int | None) -> Named:
    name, number, folder = version_named(paths, config, asked, say)
    recorded: Mapping[str, Any] = {}
    with registry(paths, config) as (ledger, _), suppress(DataError):  # what nobody measured may be asked all the same
        recorded = evaluation_of(ledger, name, number).settings
    called = f", {asked}" if asked in ALIASES else ""
    return named_folder(config, f"version {number} of {name}{called}", folder, recorded, limit=limit)


def named_folder(
    config: Config, title: str, folder: Path, recorded: Mapping[str, Any], *, limit: int | None, context: int = 0
) -> Named:
    """Return the model in a folder that holds its tokenizer too.

    Args:
        config: says what is not recorded.
        title: of the model.
        folder: with its files.
        recorded: settings of its evaluation, by dotted name.
        limit: tokens of an answer, at most; None: as recorded.
        context: tokens of prompt and answer; 0: as recorded, or what the model holds.
    """
    from models.load import context_length

    model = model_as_recorded(config, recorded)
    return Named(
        title=title,
        source=str(folder),
        tokenizer=str(folder),
        revision=None,
        model=model,
        context=context or int(recorded.get("context") or context_length(folder, model)),
        max_new_tokens=limit or int(recorded.get("evaluate.max_new_tokens") or longest_answer(config)),
    )


def model_as_recorded(config: Config, recorded: Mapping[str, Any]) -> ModelSettings:
    """Return how a model is loaded and prompted: as its evaluation did it, the rest as the settings say."""
    fields = [name for name in REMEMBERED if name in ModelSettings.model_fields]
    kept = {name: recorded[f"model.{name}"] for name in fields if recorded.get(f"model.{name}") not in (None, "None")}
    return ModelSettings.model_validate({**config.model.model_dump(), **kept})


def _of_run(paths: Paths, config: Config, asked: str, say: Say, limit: int | None) -> Named:
    dataset, stage = config.data.name, STAGES[asked]
    runs = last_runs(paths, dataset)
    for place, run in enumerate(runs):
        is_its_own = asked in ("base", "sft", run.method)  # reft and rlhf share the stage ppo
        made, tokenizer = run.artifact(paths, stage), run.artifact(paths, "tokenizer")
        if not is_its_own or made is None or tokenizer is None:
            continue
        if place:
            say(f"note: {asked} is of the run {run.pipeline_id}, the last one of {dataset} that has it")
        source, revision = source_of(made.path)
        recorded = _recorded(paths, run, asked)
        return Named(
            title=f"{asked}, stage {made.key[:8]}",
            source=source,
            tokenizer=str(tokenizer.path / "tokenizer"),
            revision=revision,
            model=model_as_recorded(config, recorded),
            context=int(tokenizer.metrics["context"]),
            max_new_tokens=limit or int(recorded.get("evaluate.max_new_tokens") or longest_answer(config)),
        )
    method = asked if asked in METHODS else "dpo"
    raise RequestError(
        f"no run of {dataset} here has a model {asked}{', or its stage is gone' if runs else ''}. "
        f"Make it: make pipeline METHOD={method} DATA={dataset}"
    )


def _recorded(paths: Paths, run: LastRun, model: str) -> Mapping[str, Any]:
    """Return the settings that a run's evaluation of a model was made with; none where it is gone."""
    artifact = run.artifact(paths, f"evaluate-{model}")
    if artifact is None:
        return {}
    settings: Mapping[str, Any] = json.loads((artifact.path / "stage.json").read_text(encoding="utf-8"))["settings"]
    return settings


def _elsewhere(paths: Paths, config: Config, asked: str, say: Say, limit: int | None) -> Named:
    """Return a model that no run of ours made."""
    from models.load import check_base, context_length, hub_commit

    base = str(Path(asked).expanduser()) if asked.startswith("~") else asked
    model = ModelSettings.model_validate({**config.model.model_dump(), "base": base})
    check_base(base if not (base in PACKAGES or base.endswith(SUFFIX)) else TINY, setting="model", default="a version")
    locate_base(paths, model, say=say)
    revision = None
    if not Path(model.source).is_dir():
        revision = config.model.revision if config.model.base == asked else None
        hub_commit(model.source, revision=revision, setting="model")
    return Named(
        title=asked,
        source=model.source,
        tokenizer=model.source,
        revision=revision,
        model=model,
        context=context_length(model.source, model, revision=revision),
        max_new_tokens=limit or longest_answer(config),
    )


def held_out_questions(paths: Paths, dataset: str) -> Sequence[Question]:
    """Return the held-out questions of the last run of a dataset whose data are still here; none where no run is."""
    for run in last_runs(paths, dataset):
        if (data := run.artifact(paths, "validate")) and (data.path / "held_out.jsonl").is_file():
            return list(_questions(data.path / "held_out.jsonl"))
    return []


def _questions(file: Path) -> Iterator[Question]:
    for record in read_records(file):
        if isinstance(record, Question):
            yield record
