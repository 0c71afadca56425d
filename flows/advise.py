"""`make advise`: looks at data, base and machine, and says which methods are possible, in which order to try them and why."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.feedback import label_source, question_share
from flows.judging import is_practising
from flows.pipeline import check_settings
from flows.plan import plan
from flows.training import checked_reward
from flows.validation import Checked, checked_dataset
from models.load import check_base, load_tokenizer, prompt_text
from models.outline import outline
from posttrain.advice.advise import advise
from posttrain.advice.costs import Cost, labels_wanted, response_length, responses_wanted
from posttrain.advice.memory import memory_of
from posttrain.advice.power import NOISES, SEEDS, power_table, smallest_effect
from posttrain.advice.situation import Asked, Situation
from posttrain.advice.words import as_json, power_rows
from posttrain.errors import PosttrainError, RequestError, did_you_mean
from posttrain.methods import METHODS, Method
from posttrain.records import Question
from posttrain.settings.config import Config
from tasks.advice.look import look
from tasks.advice.machine import this_machine
from tasks.advice.past import comparisons, earlier_costs, earlier_stages
from tasks.advice.terminal import print_advice
from tasks.base_model.identity import TINY
from tasks.feedback.sources.table import SOURCES
from tasks.feedback.store import read_store
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import local_path
from tasks.workspace.disk import storage_errors, write_whole
from tasks.workspace.jsonl import has_rows, read_records
from tasks.workspace.paths import Paths

Say = Callable[[str], None]


def give_advice(paths: Paths, config: Config, say: Say, *, methods: Sequence[str] = (), out: str = "") -> dict[str, Any]:
    """Print the advice, write it as JSON, and return that.

    Args:
        paths: of the repository.
        config: which data, base and settings.
        say: prints a line beside the answer.
        methods: names of those to speak of; empty: all.
        out: file for the JSON; empty: `reports/advice/<dataset>.json`.

    Raises:
        RequestError: there is no such dataset, base or method.
        DataError: the data gate is closed.
    """
    rows = rows_of(methods)
    file = Path(out) if out else paths.reports / "advice" / f"{config.data.name}.json"
    if file.is_dir() or (out and not file.absolute().parent.is_dir()):
        raise RequestError(f"OUT={out} must be a file in a folder that is there. Leave it out for reports/advice/<dataset>.json")
    _check_base(config)  # before its tokenizer is asked for
    with checked_dataset(paths, config, say) as data:
        situation = situation_of(paths, config, data, say)
        advice = advise(situation, rows)
        costs = {method.name: _cost(paths, config, method, data, situation) for method in rows}
    needed, seen = power_table(), _seen(situation)
    version = data.version
    compared = comparisons(paths, dataset=version.name, base=config.model.base, data_md5=version.md5)
    told = as_json(advice, costs, needed, seen, compared, data_md5=version.md5)
    with storage_errors("advise", file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, (json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
    print_advice(advice, costs, power_rows(needed, seen), compared)
    say(f"everything as JSON: {file}")
    return told


def _check_base(config: Config) -> None:
    if config.model.base != TINY:
        check_base(config.model.base)


def rows_of(names: Sequence[str]) -> list[Method]:
    """Return the rows of methods, all where none is named.

    Raises:
        RequestError: there is none of a name.
    """
    for name in names:
        if name not in METHODS:
            raise RequestError(f"there is no method {name}{did_you_mean(name, METHODS)}; methods are {', '.join(METHODS)}")
    return [METHODS[name] for name in dict.fromkeys(names)] or list(METHODS.values())


def situation_of(paths: Paths, config: Config, data: Checked, say: Say) -> Situation:
    """Return the facts of validated data, base, machine and settings: what `posttrain.advice` speaks of.

    Raises:
        RequestError: the base cannot be used.
    """
    _check_base(config)
    reader = load_tokenizer(data.tokenizer)

    def count_tokens(texts: list[str]) -> list[int]:
        return [len(ids) for ids in reader(texts, return_attention_mask=False, return_token_type_ids=False)["input_ids"]]

    refused, labels_from = _settings_refused(paths, config, data, say)
    known = Situation(
        dataset=config.data.name,
        labels_from=labels_from,
        refused=refused,
        asked=_asked(paths, config, say),
        base=outline(
            config.model, config.tiny if config.model.base == TINY else None, vocabulary=len(reader), context=data.context
        ),
        machine=this_machine(config.model),
    )
    found = look(
        data.folder,
        known,
        count_tokens=count_tokens,
        prompt_text=lambda prompt: prompt_text(reader, prompt),
        near_duplicate=config.split.near_duplicate,
    )
    bought = _store_labels(config, data.folder)
    return found if bought is None else replace(found, labels=bought, annotators=0, shared_pairs=0, alpha=None)


def of_method(config: Config, method: Method) -> Config:
    """Return the settings of the same run by another method."""
    return config.model_copy(update={"method": method.name})


def _settings_refused(paths: Paths, config: Config, data: Checked, say: Say) -> tuple[dict[str, str], dict[str, str]]:
    """Return by method why its settings are refused, and who would label, from the checks of the pipeline themselves."""
    refused: dict[str, str] = {}
    labels_from: dict[str, str] = {}
    for method in METHODS.values():
        asked = of_method(config, method)
        try:
            check_settings(asked, paths)
            checked_reward(asked, registered=_registered(paths, config, say))
            if method.is_labelled:
                labels_from[method.name] = label_source(asked, data.folder)
                _check_store(asked, data.folder, labels_from[method.name])
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
    trainers = {row.trainer or "sft": row.loop or row.trainer or "sft" for row in METHODS.values()}
    return Asked(
        reward=config.ppo.reward,
        is_graded=is_graded,
        partial_credit=config.ppo.partial_credit,
        judge=config.judge.model,
        is_practised=is_practising(config),
        max_questions=config.evaluate.max_questions,
        max_new_tokens=config.evaluate.max_new_tokens,
        lora_rank=config.model.lora_rank,
        has_shared_critic=config.ppo.critic == "shared",
        reward_models=config.reward_model.ensemble,
        device_rows={trainer: _rows(getattr(config, section)) for trainer, section in trainers.items()},
    )


def _rows(section: Any) -> int:
    """Return how many sequences a device takes at once; 1 for what trains nothing."""
    limits = [getattr(section, name, None) for name in ("device_batch_size", "mini_batch_size", "batch_size")]
    return min((int(limit) for limit in limits if limit is not None), default=1)


def _cost(paths: Paths, config: Config, method: Method, data: Checked, situation: Situation) -> Cost:
    asked = of_method(config, method)
    labels_by = situation.labels_by(method)
    is_sampled = method.is_sampled or (bool(labels_by) and SOURCES[labels_by].is_sampled)
    sampled = round(question_share(asked, data.folder) * situation.questions) if is_sampled else 0
    responses = responses_wanted(asked, method, sampled, is_sampled=is_sampled)
    needed = memory_of(method, situation)
    where = {"dataset": data.version.name, "base": config.model.base}
    before = earlier_stages(paths, **where)
    return Cost(
        labels=labels_wanted(asked, sampled, labels_by=labels_by),
        labels_by=labels_by,
        responses=responses,
        tokens=round(responses * response_length(situation)),
        memory_least=needed.least,
        memory_likely=needed.likely,
        stages={name: before.get(name) for name in plan(asked, data.folder).names},
        earlier=earlier_costs(paths, **where).get(method.name, {}),
    )


def _seen(situation: Situation) -> dict[tuple[int, str], float]:
    """Return the smallest effect that the held-out questions at hand show, by seeds and noise; nothing without two of them."""
    if situation.measured < 2:
        return {}
    return {
        (seeds, name): smallest_effect(seeds, situation.measured, noise=noise)
        for seeds in SEEDS
        for name, noise in NOISES.items()
    }
