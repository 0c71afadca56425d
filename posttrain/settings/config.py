"""The tree of settings: its sections (`posttrain.settings.section`), the methods, and how a request becomes a tree.

The tree is frozen. `Config` goes to a flow, a section (`config.dpo`) to a task, a number to the arithmetic: down only,
one name throughout. Merged as defaults ← `params.yaml` ← command line by `merge`.
"""

import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError

from posttrain.errors import RequestError, did_you_mean
from posttrain.settings.data import DataSettings, SplitSettings, ValidationSettings, WorldSettings
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.evaluation import EvaluateSettings, TrackingSettings
from posttrain.settings.feedback import LabelSettings, SampleSettings
from posttrain.settings.judge import JudgeSettings
from posttrain.settings.model import ModelSettings, PretrainSettings, TinySettings
from posttrain.settings.ppo import PPOSettings, RLAIFSettings, RLHFSettings
from posttrain.settings.reward_model import RewardModelSettings
from posttrain.settings.section import NotInKey, Section
from posttrain.settings.sft import SFTSettings

Method = Literal["sft", "reft", "rlhf", "rlaif", "dpo", "ppo"]

STAGES: dict[Method, tuple[str, ...]] = {
    "sft": ("sft",),
    "reft": ("sft", "ppo"),
    "rlhf": ("sft", "sample", "label", "reward_model", "ppo"),
    "rlaif": ("sft", "sample", "label", "reward_model", "ppo"),
    "dpo": ("sft", "sample", "label", "dpo"),
    "ppo": ("ppo",),
}
"""Training stages of a method, after data → tokenizer → validate → base and before evaluate → register → report."""


class Config(Section):
    """The whole tree."""

    method: Method = "dpo"
    """What to do after the base is there: `sft`; then `dpo` on preferences, `reft` (PPO on a grader), `rlhf` (PPO on a reward
    model of labels) or `rlaif` (the same with an AI judge's labels); or `ppo` without SFT."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of everything that training and sampling draw."""
    data: DataSettings = DataSettings()
    world: WorldSettings = WorldSettings()
    split: SplitSettings = SplitSettings()
    validation: ValidationSettings = ValidationSettings()
    model: ModelSettings = ModelSettings()
    tiny: TinySettings = TinySettings()
    pretrain: PretrainSettings = PretrainSettings()
    sft: SFTSettings = SFTSettings()
    sample: SampleSettings = SampleSettings()
    labels: LabelSettings = LabelSettings()
    judge: JudgeSettings = JudgeSettings()
    reward_model: RewardModelSettings = RewardModelSettings()
    rlhf: RLHFSettings = RLHFSettings()
    rlaif: RLAIFSettings = RLAIFSettings()
    dpo: DPOSettings = DPOSettings()
    ppo: PPOSettings = PPOSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    tracking: TrackingSettings = TrackingSettings()


def stages_of(config: Config) -> tuple[str, ...]:
    """Return the training stages of a pipeline: its method's, less the reward model where a judge scores directly."""
    if config.method == "rlaif" and config.rlaif.direct:
        return ("sft", "ppo")
    return STAGES[config.method]


VERSIONED_BY_DVC = ("world", "split")
"""Sections that only `params.yaml` may change: DVC reads them there, so a command line would change the data unseen."""


def setting_names(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Return the dotted name of every leaf of the tree, in the order of declaration."""
    names = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names += setting_names(inner, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def flat(config: Config, *sections: str) -> dict[str, Any]:
    """Return the settings of some sections by dotted name, for stage keys; those marked `NotInKey` are left out."""
    return {
        f"{section}.{name}": getattr(getattr(config, section), name)
        for section in sections
        for name, field in type(getattr(config, section)).model_fields.items()
        if not any(isinstance(mark, NotInKey) for mark in field.metadata)
    }


def merge(params: Mapping[str, Any], overrides: Iterable[str] = ()) -> Config:
    """Return defaults ← `params` (a nested mapping) ← `overrides` ("dpo.beta=0.2").

    Raises:
        RequestError: a name is unknown, a value has the wrong type or is out of range, or an override has no "=".
    """
    values = dict(_leaves(params))
    for override in overrides:
        name, equals, text = override.partition("=")
        name = name.strip()
        if not equals or not name:
            raise RequestError(f"{override!r} is not a setting: write name=value, for example dpo.beta=0.2")
        if name.split(".")[0] in VERSIONED_BY_DVC and name in setting_names():
            raise RequestError(
                f"{name} decides what the data are, which DVC versions: change it in params.yaml, then run make data"
            )
        values[name] = text.strip()
    known = setting_names()
    for name in values:
        if name not in known:
            inside = [setting for setting in known if setting.startswith(f"{name}.")]
            near = did_you_mean(name.lower(), known)
            hint = f"; {name} is a section, its settings are {', '.join(inside)}" if inside else near
            raise RequestError(f"there is no setting {name}{hint}{'' if hint else ' (all are listed in docs/settings.md)'}")
    tree: dict[str, Any] = {}
    for name, value in values.items():
        branch = tree
        *sections, leaf = name.split(".")
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = _plain(name, value)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise RequestError("\n".join(_sentence(problem) for problem in error.errors())) from None


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        if value is None and not prefix and _is_section(name):
            continue
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_section(name: str) -> bool:
    """Return whether a top-level name is a section; one whose lines are all commented out in params.yaml reads as None."""
    return any(setting.startswith(f"{name}.") for setting in setting_names())


def _annotation(name: str) -> Any:
    field_owner: type[BaseModel] = Config
    *sections, leaf = name.split(".")
    for section in sections:
        field_owner = field_owner.model_fields[section].annotation  # type: ignore[assignment]
    return field_owner.model_fields[leaf].annotation


def _accepts(name: str, wanted: type) -> bool:
    annotation = _annotation(name)
    if get_origin(annotation) in (Union, types.UnionType):
        return wanted in get_args(annotation)
    return annotation is wanted


def _plain(name: str, value: Any) -> Any:
    """Return `value` as its field wants it: YAML and shells hand over "1e-5" and "none" as text, and 2 for a name.

    Where a field is one of a few names, case does not matter: METHOD=DPO is dpo.
    """
    if isinstance(value, str) and get_origin(annotation := _annotation(name)) is Literal:
        return next((choice for choice in get_args(annotation) if str(choice).lower() == value.lower()), value)
    if isinstance(value, str) and value.lower() in ("none", "null") and _accepts(name, types.NoneType):
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and _accepts(name, str):
        return str(value)
    if isinstance(value, bool) and not _accepts(name, bool):
        return str(value).lower()
    return value


_RULES = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "literal_error": "must be one of {expected}",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "finite_number": "must be a finite number",
    "string_pattern_mismatch": "must start with a letter or digit, and go on with those, dot, underscore or hyphen",
}


def _sentence(problem: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    value = problem["input"]
    if problem["type"] == "value_error":
        return f"{name}: {problem['ctx']['error']}"
    rule = _RULES.get(problem["type"])
    if name == "method":
        return f"there is no method {value}{did_you_mean(str(value), STAGES)}; methods are {', '.join(STAGES)}"
    text = rule.format(**problem.get("ctx", {})) if rule else problem["msg"].lower()
    return f"{name} {text}, got {value}"
