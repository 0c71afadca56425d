"""The tree of settings: its sections, each in a file of its own, and how a request becomes a tree.

The tree is frozen. `Config` goes to a flow, a section (`config.dpo`) to a task, a number to the arithmetic: down only,
one name throughout. Merged as defaults ← profile ← `params.yaml` ← command line by `merge`.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr

from posttrain.errors import RequestError, did_you_mean
from posttrain.methods import METHODS, Method
from posttrain.settings.compare import CompareSettings
from posttrain.settings.data import DataSettings, SplitSettings, ValidationSettings, WorldSettings
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.evaluation import EvaluateSettings, TrackingSettings
from posttrain.settings.feedback import LabelSettings, SampleSettings
from posttrain.settings.few_shot import FewShotSettings
from posttrain.settings.grpo import GRPOSettings
from posttrain.settings.judge import JudgeSettings
from posttrain.settings.kto import KTOSettings
from posttrain.settings.labelling import LabellingSettings
from posttrain.settings.launch import LaunchSettings
from posttrain.settings.merging import setting_names, tree_of, written
from posttrain.settings.model import ModelSettings, PretrainSettings, TinySettings
from posttrain.settings.monitor import MonitorSettings
from posttrain.settings.ppo import PPOSettings, RLHFSettings
from posttrain.settings.profiles import Profile
from posttrain.settings.promotion import PromotionSettings
from posttrain.settings.renamed import current
from posttrain.settings.retraining import RetrainingSettings
from posttrain.settings.reward_model import RewardModelSettings
from posttrain.settings.rloo import RLOOSettings
from posttrain.settings.section import Part, Section
from posttrain.settings.self_training import SelfTrainingSettings
from posttrain.settings.servers import ServersSettings
from posttrain.settings.sft import SFTSettings
from posttrain.settings.store import StoreSettings


def _known_method(value: object) -> str:
    name = str(value).lower()
    if name not in METHODS:
        raise ValueError(f"there is no method {value}{did_you_mean(name, METHODS)}; methods are {', '.join(METHODS)}")
    return name


class Config(Section):
    """The whole tree."""

    method: Annotated[str, BeforeValidator(_known_method), Field(json_schema_extra={"methods": True})] = "dpo"
    """What to do after the base is there: the table of methods in docs/methods.md."""
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
    few_shot: FewShotSettings = FewShotSettings()
    sample: SampleSettings = SampleSettings()
    self_training: SelfTrainingSettings = SelfTrainingSettings()
    labels: LabelSettings = LabelSettings()
    labelling: LabellingSettings = LabellingSettings()
    judge: JudgeSettings = JudgeSettings()
    reward_model: RewardModelSettings = RewardModelSettings()
    rlhf: RLHFSettings = RLHFSettings()
    dpo: DPOSettings = DPOSettings()
    kto: KTOSettings = KTOSettings()
    ppo: PPOSettings = PPOSettings()
    grpo: GRPOSettings = GRPOSettings()
    rloo: RLOOSettings = RLOOSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    compare: CompareSettings = CompareSettings()
    promotion: PromotionSettings = PromotionSettings()
    monitor: MonitorSettings = MonitorSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    tracking: TrackingSettings = TrackingSettings()
    servers: ServersSettings = ServersSettings()
    store: StoreSettings = StoreSettings()
    launch: LaunchSettings = LaunchSettings()
    _profile: Profile = PrivateAttr(default=Profile())

    @property
    def profile(self) -> Profile:
        """Which defaults it was merged with: no setting of its own, but what `model.profile` and the base led to."""
        return self._profile

    @property
    def row(self) -> Method:
        """The method's row."""
        return METHODS[self.method]


VERSIONED_BY_DVC = ("world", "split")
"""Sections that only `params.yaml` may change: DVC reads them there, so a command line would change the data unseen."""


SECTION_NAMES: dict[type[Section], str] = {
    field.annotation: name
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
"""What the tree calls a section, by its class."""


def flat(section: Section | Part) -> dict[str, Any]:
    """Return the deciding settings of a section, or of a part of one, by dotted name, for stage keys."""
    whole, names = (section.section, section.names) if isinstance(section, Part) else (section, type(section).deciding())
    return {f"{SECTION_NAMES[type(whole)]}.{name}": getattr(whole, name) for name in names}


def merge(params: Mapping[str, Any], overrides: Iterable[str] = (), *, profile: Profile | None = None) -> Config:
    """Return defaults ← profile ← `params` ← `overrides` ("dpo.beta=0.2"); old names of settings are taken as well.

    Args:
        params: a nested mapping, what `params.yaml` holds.
        overrides: of the command line.
        profile: of the base; None for the defaults, which were made for the tiny base.

    Raises:
        RequestError: a name is unknown, a value has the wrong type or is out of range, or an override has no "=".
    """
    overrides, profile = list(overrides), profile or Profile()
    for name in _by_name({}, overrides):
        if name.split(".")[0] in VERSIONED_BY_DVC and name in setting_names(Config):
            raise RequestError(
                f"{name} decides what the data are, which DVC versions: change it in params.yaml, then run make data"
            )
    fitting = {name: number.value for name, number in profile.numbers().items()}
    config = tree_of(Config, fitting | _by_name(params, overrides))
    config._profile = profile
    return config


def model_of(params: Mapping[str, Any], overrides: Iterable[str] = ()) -> ModelSettings:
    """Return which base a request names, before its profile, and so before most of its settings, can be known.

    Raises:
        RequestError: a setting of `model` has the wrong type or is out of range, or an override has no "=".
    """
    given = _by_name(params, overrides)
    names = (name for name in setting_names(Config) if name.startswith("model."))
    return tree_of(Config, {name: given[name] for name in names if name in given}).model


def origins(params: Mapping[str, Any], overrides: Iterable[str] = (), *, profile: Profile) -> dict[str, str]:
    """Return where each value of a merged tree comes from, by dotted name, as `make settings` says it.

    Raises:
        RequestError: an override has no "=".
    """
    places = {f"profile {profile.title}": profile.numbers(), "params.yaml": _by_name(params, ())}
    places["command line"] = _by_name({}, overrides)
    return dict.fromkeys(setting_names(Config), "default") | {name: place for place, names in places.items() for name in names}


def _by_name(params: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return values by the names of today."""
    return current(written(params, overrides, sections=Config.model_fields))[0]


def renamed(params: Mapping[str, Any], overrides: Iterable[str] = ()) -> list[str]:
    """Return a line for each old name in a request that `merge` takes."""
    return current(written(params, overrides, sections=Config.model_fields))[1]
