"""The profile of a request: which defaults fit its base. Every verb gets its settings by way of it.

`flows.__main__.configuration` asks for it. The base is named by settings that the profile may not change: those are read first.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from flows.environment import quieten
from posttrain.errors import RequestError
from posttrain.settings.config import Config, model_of
from posttrain.settings.model import ModelSettings
from posttrain.settings.profiles import Profile, name_for
from tasks.base_model.counting import count_weights
from tasks.base_model.identity import TINY, device_type, multiplies_bfloat16

REMEDY = 'Name the profile yourself: SET="model.profile=small" (to 1 B weights) or SET="model.profile=large"'


def profile_for(params: Mapping[str, Any], overrides: Iterable[str]) -> Profile:
    """Return the profile of a request: the one that it names, else the one that fits the weights of its base.

    A base that cannot be counted gives the defaults with `trouble`, which stops a run (`require_profile`): what reads no setting
    of training, such as a rollback, must go on without it.

    Raises:
        RequestError: a setting of `model` is wrong.
    """
    return _fitting(model_of(params, overrides))


def _fitting(model: ModelSettings) -> Profile:
    name, weights, is_lora = model.profile, 0, model.lora_rank > 0
    if name == "auto" and model.base == TINY:
        name = "tiny"
    elif name == "auto":
        quieten()  # a hub id needs the hub's library
        try:
            weights = count_weights(model.base, revision=model.revision)
        except RequestError as error:
            return Profile(is_lora=is_lora, trouble=str(error))
        name = name_for(weights)
    if name == "tiny":
        return Profile(is_lora=is_lora)
    quieten()  # only torch knows whether it finds a GPU, where its build can use one
    has_gpu = device_type() != "cpu"
    return Profile(name, is_lora=is_lora, has_gpu=has_gpu, weights=weights, has_bfloat16=not has_gpu and multiplies_bfloat16())


def require_profile(config: Config) -> None:
    """Refuse to train with the defaults of the tiny base because nobody could count the weights.

    Raises:
        RequestError: they could not be counted, and no profile is named.
    """
    if config.profile.trouble:
        raise RequestError(f"{config.profile.trouble.rstrip('.')}. So nothing tells which defaults fit it. {REMEDY}")
