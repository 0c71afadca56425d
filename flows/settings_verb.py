"""`make settings`: every setting that a method reads, its value, and where that comes from.

What a method reads is what its stages are called with, found by the walk that runs none of them (flows/probe.py): the same
settings as its run has as parameters in MLflow, and beside them those that decide no result.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from flows.pipeline import check_settings
from flows.probe import Probed, Prober
from posttrain.settings.config import SECTION_NAMES, Config
from posttrain.settings.merging import setting_names
from posttrain.settings.section import Section
from tasks.data.dvc import bring_up_to_date
from tasks.tracking.ledger import Ledger
from tasks.tracking.parameters import parameters_from_stage, parameters_of_request, parameters_of_stage
from tasks.workspace.paths import Paths

SAME = {"question_share": "sample.question_share"}
"""The setting that an argument of stages repeats under a shorter name."""


def settings_lines(paths: Paths, config: Config, origins: Mapping[str, str], say: Callable[[str], None]) -> list[str]:
    """Return the lines: which profile, then a setting each.

    Args:
        paths: of the repository.
        config: of the method.
        origins: where each value comes from, by the setting's name.
        say: prints a note.

    Raises:
        PosttrainError: the pipeline would refuse before it trains.
    """
    check_settings(config, paths)
    data = bring_up_to_date(paths, config.data.name)
    probed = Prober(paths, data, ledger=lambda: Ledger.open(paths, config.tracking)).probe(config)
    if not probed.is_whole:
        say(f"note: rows of {data.name} cannot be read before the gate; the stages after {probed.stages[-1].name} are not listed")
    numbers = config.profile.numbers()
    rows = []
    for name in read_by(config, probed):
        place = origins[name]
        source = numbers[name].source if place.startswith("profile ") else ""
        rows.append((name, shown(attrgetter(name)(config)), place, source))
    head = config.profile.sentence or f"profile {config.profile.title}: the defaults, made for the tiny base"
    return [
        f"METHOD={config.method} DATA={config.data.name}; {head}",
        "",
        *_columns([("setting", "value", "from", "why"), *rows]),
    ]


def read_by(config: Config, probed: Probed) -> list[str]:
    """Return the names of the settings that a method reads, in the order of docs/settings.md."""
    method = config.row
    found = set(parameters_of_request(config))
    for stage in probed.stages:
        told = parameters_from_stage(parameters_of_stage(stage.settings, method))
        names = {SAME.get(name, name) for name in told}
        if stage.name == method.trainer and method.adjusts:
            names = {_adjusted(name, method.loop or method.trainer, method.adjusts) for name in names}
        found |= names
    found |= set(not_deciding({name.partition(".")[0] for name in found}))
    return [name for name in setting_names(Config) if name in found]


def _adjusted(name: str, trainer: str, adjusts: str) -> str:
    """Return the setting that stands in for a trainer's: `rlhf.kl_coef` for `ppo.kl_coef` under RLHF."""
    section, _, setting = name.partition(".")
    is_replaced = section == trainer and setting in type(getattr(Config(), adjusts)).model_fields
    return f"{adjusts}.{setting}" if is_replaced else name


def not_deciding(sections: Iterable[str]) -> list[str]:
    """Return the settings of sections that decide no result, and so enter no key: batch sizes of sampling, time limits."""
    kinds: dict[str, type[Section]] = {name: kind for kind, name in SECTION_NAMES.items()}
    return [
        f"{name}.{setting}"
        for name in sections
        if name in kinds
        for setting in kinds[name].model_fields
        if setting not in kinds[name].deciding()
    ]


def shown(value: Any) -> str:
    """Return a value as the command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return {None: "none", "": '""'}.get(value, str(value))


def _columns(rows: list[tuple[str, str, str, str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return ["  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3])).rstrip() for row in rows]
