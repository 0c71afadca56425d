"""What a method takes of so many GPUs, by settings and a base: the lines of `make scale`, and the tables of docs/scale.md."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flows.bases import locate_base, to_stderr
from flows.environment import quieten
from flows.memory import memory_asked
from flows.params import params_of
from posttrain.advice.situation import Asked, Base
from posttrain.errors import RequestError
from posttrain.scale.page import memory_table, planned, plans_of, rates_table, report
from posttrain.scale.rates import Device, Loop
from posttrain.scale.shapes import base_of, weights_in
from posttrain.settings.config import Config, merge, model_of, renamed
from posttrain.settings.model import ModelSettings
from posttrain.settings.profiles import Profile, name_for
from tasks.base_model.identity import TINY
from tasks.workspace.paths import Paths

EXAMPLE = "make scale MODEL=7e9 METHOD=reft GPUS=8"
GPUS = (1, 8, 64)
"""Of the tables in docs/scale.md."""
RANK = 16
"""Of the adapters in tables, where the settings have none."""


def lines_of(paths: Paths, model: str, settings: Sequence[str], *, gpus: int, device: Device) -> list[str]:
    """Return what `make scale` prints.

    Args:
        paths: of the repository.
        model: a number of weights, or a base as `model.base` takes it; "" for that of the settings.
        settings: `method` among them asks for one method.
        gpus: that share the weights.
        device: a GPU.

    Raises:
        RequestError: as `run_scale` says.
    """
    params, words = params_of(paths), list(settings)
    count = weights_in(model)
    if model and count is None:
        words.append(f"model.base={model}")
    for notice in renamed(params, words):
        to_stderr(notice)
    # of a base its own configuration tells more than a number of weights
    weights = count or _outlined(paths, model_of(params, words)).weights
    config = _config(params, words, weights=weights)
    base = base_of(weights, context=config.model.context)
    if count is None:
        base = replace(_outlined(paths, config.model), context=config.model.context)
    loop = _loop(config)
    lengths = {"prompt": loop.prompt, "response": loop.response}
    if not any(word.startswith("method=") for word in words):
        plans = plans_of(_with_and_without(params, words, weights))
        return memory_table(base, plans, gpus=[gpus], device=device, **lengths).splitlines()
    asked = Asked(**memory_asked(config))
    return report(config.row, planned(base, asked, gpus=gpus, device=device, **lengths), loop, device)


def paper() -> str:
    """Return the tables of docs/scale.md: 7 B and 70 B weights in the proportions of Llama 3, with the settings of `large`.

    Activations are computed again in the backward pass: without that they are the first limit of all.
    """
    told, settings = [], ["model.gradient_checkpointing=on"]
    for name, weights in (("7 B", 7_000_000_000), ("70 B", 70_000_000_000)):
        config = _config({}, settings, weights=weights)
        base, loop = base_of(weights, context=config.model.context), _loop(config)
        asked = _with_and_without({}, settings, weights)
        told += [
            f"**{name}**",
            memory_table(base, plans_of(asked), gpus=GPUS, prompt=loop.prompt, response=loop.response),
            rates_table(base, asked, loop, gpus=GPUS),
        ]
    return "\n\n".join(told)


def _with_and_without(params: Mapping[str, Any], settings: Sequence[str], weights: int) -> dict[bool, Asked]:
    """Return what the settings ask for with all weights trained, and with adapters."""
    rank = model_of(params, settings).lora_rank or RANK
    configs = {
        is_lora: _config(params, [*settings, f"model.lora_rank={rank * is_lora}"], weights=weights) for is_lora in (False, True)
    }
    return {is_lora: Asked(**memory_asked(config)) for is_lora, config in configs.items()}


def _config(params: Mapping[str, Any], settings: Sequence[str], *, weights: int) -> Config:
    """Return the settings with the profile of so many weights on GPUs, whatever this machine has."""
    model = model_of(params, settings)
    name = name_for(weights) if model.profile == "auto" else model.profile
    return merge(params, settings, profile=Profile(name, is_lora=model.lora_rank > 0, has_gpu=True, weights=weights))


def _loop(config: Config) -> Loop:
    """Return what an update asks for; rows are as long as the context."""
    limit, context = config.ppo.max_new_tokens, config.model.context
    response = min(memory_asked(config)["max_new_tokens"] if limit == "auto" else limit, context - 1)
    return Loop(
        episodes=config.ppo.episodes,
        epochs=config.ppo.epochs,
        prompt=context - response,
        response=response,
        reward_models=config.reward_model.ensemble if config.row.learns_from.reward == "reward_model" else 0,
        checkpointed=config.model.gradient_checkpointing == "on",
    )


def _outlined(paths: Paths, model: ModelSettings) -> Base:
    """Return the sizes of a base by its own configuration."""
    if model.base == TINY:
        raise RequestError(
            f"scale needs MODEL, a number of weights or a base that exists, and the tiny base is made by a run: {EXAMPLE}"
        )
    quieten()
    from models.outline import outline

    locate_base(paths, model)
    return outline(model, None, vocabulary=0, context=model.context)
