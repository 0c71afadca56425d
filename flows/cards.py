"""The card of the model that a pipeline has made: what the report does not say of it, and where it is put."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.judging import WORLD
from flows.outcomes import Outcomes
from flows.prompts import is_chat, system_of
from flows.run import Run
from posttrain.promotion.card import Origin, model_card
from posttrain.settings.config import Config
from tasks.base_model.identity import TINY
from tasks.promotion.card_files import usage_of, write_card
from tasks.tracking.registry import RegisteredModel


def put_card(run: Run, model: RegisteredModel, report: Mapping[str, Any], outcomes: Outcomes) -> None:
    """Write the card beside a version's files; a pipeline that has come so far does not fail of it.

    On a server only a new version gets one: it keeps its first.
    """
    if not model.version or not (model.is_new or run.ledger.is_local):
        return
    try:
        origin = origin_of(run.config, str(report["dataset"]), outcomes)
        if is_chat(run):
            origin = replace(origin, is_chat=True, system=system_of(run))
        write_card(run.ledger, model.name, model.version, model_card(report, origin))
    except Exception as error:  # such as a full disk, or a server that takes no more files of a model
        run.say(f"note: the card of {model.uri} could not be written: {error}")


def origin_of(config: Config, dataset: str, outcomes: Outcomes) -> Origin:
    """Return what the card must say beside the report."""
    base = config.model.base
    is_of_hub = base != TINY and not Path(base).is_dir() and re.fullmatch(r"[\w.-]+/[\w.-]+", base) is not None
    final = outcomes.models[config.method]
    return Origin(
        base=base,
        hub_id=base if is_of_hub else "",
        license=config.tracking.model_license,
        simulated=simulated(config, dataset, outcomes),
        usage=usage_of(final.path / "model"),
    )


def simulated(config: Config, dataset: str, outcomes: Outcomes) -> list[str]:
    """Return a sentence on each thing that stood in for data, a base or people (docs/simulated.md)."""
    told = []
    if dataset == WORLD:
        told.append(
            "The dataset is made up: arithmetic stories that a program writes. The figures say how methods compare there, and "
            "nothing of other data."
        )
    if config.model.base == TINY:
        told.append("The base is a very small network that was pretrained for this, on the dataset's own corpus.")
    if outcomes.feedback.labels and outcomes.feedback.source == "simulated":
        told.append(
            f"Preferences come from {config.labels.annotators} simulated annotators, who know the right answers and get some "
            "labels wrong. No person was asked."
        )
    return told
