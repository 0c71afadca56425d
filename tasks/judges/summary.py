"""What is known of a judge that was asked: its figures in `judge.json`, whether it keeps its limits, and what it took."""

import json
from pathlib import Path
from typing import Any

from posttrain.compute import Compute, reading
from posttrain.errors import ContractError
from posttrain.judges.opinions import Usage
from posttrain.judges.quality import JudgeFigures, check_judge
from posttrain.judges.templates import Template
from posttrain.settings.judge import JudgeSettings
from tasks.judges.interface import Judge

SUMMARY = "judge.json"


def write_summary(
    out: Path, judge: Judge, settings: JudgeSettings, template: Template, figures: JudgeFigures | None, **more: Any
) -> None:
    """Write `judge.json`: who was asked and how, `more`, its figures where it was asked anything, its usage and its price."""
    summary = {
        "judge": judge.name,
        "mode": template.name,
        "template": settings.template,
        **more,
        **(figures.as_dict() if figures else {}),
        "usage": vars(judge.usage),
        "cost": price_of(judge, settings),
    }
    (out / SUMMARY).write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def refusal(figures: JudgeFigures, judge: Judge, settings: JudgeSettings) -> str:
    """Return why what the judge says counts for nothing; empty where it keeps its limits."""
    try:
        check_judge(
            figures,
            name=judge.name,
            max_flips=settings.max_flips,
            min_conviction=settings.min_conviction,
            max_unreadable=settings.max_unreadable,
        )
    except ContractError as error:
        return str(error)
    return ""


def price_of(judge: Judge, settings: JudgeSettings) -> float:
    """Return what the judge has cost so far, in the currency of `judge.price_prompt` and `judge.price_completion`."""
    return judge.usage.price(prompt=settings.price_prompt, completion=settings.price_completion)


def compute_of(judge: Judge, usage: Usage) -> Compute:
    """Return what reading so much took; the operations of a server are its own, and not known."""
    return reading(judge.size, usage.prompt_tokens + usage.completion_tokens)
