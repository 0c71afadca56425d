"""`make advise`: looks at data, base and machine, and says which methods are possible, in which order to try them and why."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.bases import locate_base
from flows.feedback import label_source, people_of, question_share
from flows.lengths import with_limits
from flows.plan import plan
from flows.profiles import require_profile
from flows.situation import known_situation, of_method, of_people
from flows.validation import Checked, checked_dataset
from models.encoding import prompt_ids
from models.load import load_tokenizer, prompt_text
from models.outline import outline
from posttrain.advice.advise import advise
from posttrain.advice.costs import Cost, labels_wanted, response_length, responses_wanted
from posttrain.advice.memory import memory_of
from posttrain.advice.power import NOISES, SEEDS, power_table, smallest_effect
from posttrain.advice.situation import Situation
from posttrain.advice.words import as_json, power_rows
from posttrain.errors import RequestError, did_you_mean
from posttrain.methods import METHODS, Method
from posttrain.settings.config import Config
from tasks.advice.look import look
from tasks.advice.machine import this_machine
from tasks.advice.past import comparisons, earlier_costs, earlier_stages
from tasks.advice.terminal import print_advice
from tasks.base_model.identity import TINY
from tasks.workspace.disk import storage_errors, write_whole
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
    locate_base(paths, config.model, say=say)  # before its tokenizer is asked for
    require_profile(config)
    if config.profile.sentence:
        say(config.profile.sentence)
    with checked_dataset(paths, config, say) as data:
        config = with_limits(config, data.lengths, context=data.context)
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
    locate_base(paths, config.model, say=say)
    reader = load_tokenizer(data.tokenizer)

    def count_tokens(texts: list[str]) -> list[int]:
        return [len(ids) for ids in prompt_ids(reader, texts)]

    known = replace(
        known_situation(paths, config, data.folder, data.version, say),
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
    return of_people(paths, config, data.folder, data.version, found)


def _cost(paths: Paths, config: Config, method: Method, data: Checked, situation: Situation) -> Cost:
    asked = of_method(config, method)
    labels_by = situation.labels_by(method)
    people = people_of(asked, paths, data.version) if labels_by else None
    is_sampled = method.is_sampled or (bool(labels_by) and label_source(asked, data.folder, people).is_sampled)
    sampled = round(question_share(asked, data.folder) * situation.questions) if is_sampled else 0
    sampled = min(sampled, asked.sample.max_questions or sampled)
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
        stages={name: before.get(name) for name in plan(asked, data.folder, people).names},
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
