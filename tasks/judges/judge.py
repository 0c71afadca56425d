"""Labels of an AI judge: soft ones, with everything that is known of it; and the judge as a reward (d-RLAIF)."""

import json
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.load import check_base
from posttrain.compute import Compute, Size, reading
from posttrain.errors import ContractError, RequestError
from posttrain.judges.opinions import Opinion, Usage, expected, inquiry, rescaled, shown
from posttrain.judges.quality import JudgeFigures, check_judge, figures_of
from posttrain.records import Message
from posttrain.rl.rewards import RewardFunction, Rewards
from posttrain.settings.feedback import LabelSettings
from posttrain.settings.judge import JudgeSettings
from posttrain.settings.model import ModelSettings
from tasks.feedback.labels import LABELS
from tasks.feedback.pairs import draw_pairs
from tasks.judges.cache import ReplyCache
from tasks.judges.identity import BASE, digest_of_base, judge_digest, read_template
from tasks.judges.local import LocalJudge
from tasks.judges.pairs import Judge, asked, labels_of
from tasks.judges.remote import ServerJudge
from tasks.workspace.artifacts import Log, Outcome, keep_findings
from tasks.workspace.jsonl import write_rows
from tasks.workspace.weights import source_of

SUMMARY = "judge.json"


def open_judge(settings: JudgeSettings, *, base: Path, tokenizer: Path, model: ModelSettings, context: int, cache: Path) -> Judge:
    """Return the judge that the settings name; nothing is loaded or asked yet.

    Args:
        settings: of the judge.
        base: artifact of the pipeline's base, for `judge.model=base`.
        tokenizer: of the base.
        model: how the base is loaded.
        context: tokens that a judge reads, at most.
        cache: folder of the answers.

    Raises:
        RequestError: there is no such judge.
    """
    is_base = settings.model == BASE
    identity = judge_digest(settings, base_digest=digest_of_base(base) if is_base else "")
    replies = ReplyCache(cache)
    if settings.backend == "openai":
        return ServerJudge(settings, cache=replies)
    if not is_base:
        check_base(settings.model, setting="judge.model", default=BASE)
    return LocalJudge(
        settings,
        source=source_of(base) if is_base else (settings.model, None),
        tokenizer=tokenizer if is_base else settings.model,
        model=model if is_base else ModelSettings(base=settings.model, context=model.context, dtype=model.dtype),
        context=context,
        identity=identity,
        cache=replies,
    )


# --- labels -------------------------------------------------------------------------------------------------------------


def label_with_judge(
    out: Path,
    log: Log,
    *,
    samples: Path,
    base: Path,
    tokenizer: Path,
    model: ModelSettings,
    labels: LabelSettings,
    settings: JudgeSettings,
    templates: Path,
    cache: Path,
    findings: Path,
    model_uri: str,
    context: int,
    seed: int,
) -> Outcome:
    """Write `labels.jsonl`, pairs of samples with the judge's soft labels, and `judge.json`, what is known of the judge.

    Args:
        out: the artifact.
        log: for curves, of which there are none.
        samples: artifact of the stage `sample`.
        base: artifact of the pipeline's base, for `judge.model=base`.
        tokenizer: of the base.
        model: how the base is loaded.
        labels: how many pairs.
        settings: of the judge.
        templates: folder of the templates that have a name.
        cache: folder of the judge's answers, which outlive the stage.
        findings: where `judge.json` stays of a judge that is refused.
        model_uri: of the model that wrote the samples.
        context: tokens that a judge reads, at most.
        seed: of the choice of pairs and of the order shown.

    Raises:
        DataError: no question has two different responses.
        RequestError: the template or the judge is none, it cannot be asked, or its budget does not buy one label.
        ContractError: the judge is not fit to label.
    """
    started = time.perf_counter()
    template = read_template(settings, folder=templates)
    pairs = draw_pairs(samples, labels, model_uri=model_uri, seed=seed)[: labels.budget or None]
    with closing(open_judge(settings, base=base, tokenizer=tokenizer, model=model, context=context, cache=cache)) as judge:
        answered = asked(judge, pairs, template, settings)
    if not answered:
        raise RequestError(f"judge.budget={settings.budget}: it does not buy the answers that one label takes. Raise it")
    figures = figures_of([one.judged for one in answered])
    summary = {
        "judge": judge.name,
        "mode": template.name,
        "template": settings.template,
        "reasoning": settings.reasoning,
        **_how_asked([opinion for one in answered for opinion in one.opinions], settings),
        **figures.as_dict(),
        "unasked_pairs": len(pairs) - len(answered),
        "usage": vars(judge.usage),
        "cost": _price(judge, settings),
    }
    (out / SUMMARY).write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    try:
        check_judge(
            figures,
            name=judge.name,
            max_flips=settings.max_flips,
            min_conviction=settings.min_conviction,
            max_unreadable=settings.max_unreadable,
        )
    except ContractError as error:
        keep_findings(out, [SUMMARY], at=findings)
        raise ContractError(f"{error}. All figures: {findings / SUMMARY}") from None
    given = labels_of(answered, judge=judge.name, template=template)
    count = write_rows(out / LABELS, (label.model_dump(mode="json") for label in given))
    return Outcome(
        metrics={"pairs": count, **_metrics(figures), "asked": judge.usage.asked, "cached": judge.usage.cached},
        costs={
            "labels": count,
            "judge": _price(judge, settings),
            "train_seconds": time.perf_counter() - started,
            **_read_by(judge, judge.usage).as_costs(),
        },
    )


def _how_asked(opinions: Sequence[Opinion], settings: JudgeSettings) -> dict[str, object]:
    counted = [opinion for opinion in opinions if opinion.counted]
    if not counted:
        return {"asked_for": "probabilities of the options"}
    told = f"{settings.samples} sampled answers a question, counted, since the server tells no log-probabilities"
    if settings.samples > 1 and not any(opinion.entropy for opinion in counted):
        told += "; all answers to a question are alike, as from a server that does not sample"
    return {"asked_for": told, "counted_share": len(counted) / len(opinions)}


def _read_by(judge: Judge, usage: Usage) -> Compute:
    """Return what reading so much took; the operations of a server are its own, and not known."""
    size = judge.size if isinstance(judge, LocalJudge) else Size()
    return reading(size, usage.prompt_tokens + usage.completion_tokens)


def _price(judge: Judge, settings: JudgeSettings) -> float:
    return judge.usage.price(prompt=settings.price_prompt, completion=settings.price_completion)


def _metrics(figures: JudgeFigures) -> dict[str, float]:
    numbers = {name: value for name, value in vars(figures).items() if isinstance(value, int | float) and name != "pairs"}
    if figures.accuracy:
        bounds = figures.accuracy
        numbers |= {"accuracy": bounds.estimate, "accuracy_low": bounds.low, "accuracy_high": bounds.high}
    return numbers


# --- reward -------------------------------------------------------------------------------------------------------------


def judge_reward(
    settings: JudgeSettings,
    *,
    base: Path,
    tokenizer: Path,
    model: ModelSettings,
    templates: Path,
    cache: Path,
    context: int,
) -> RewardFunction:
    """Return the judge as a reward of single responses: its expected score of 1 to 10, rescaled to -1 to 1 (d-RLAIF).

        r = (2 Σ i·P(i) - 11) / 9

    Section 2.2 of arXiv:2309.00267. Parts: `judge_score` (1 to 10), `judge_entropy` (nats), `judge_unreadable` (1 where the
    reply could not be read; the reward is then the mean of the others, which neither pushes nor pulls).

    Args:
        settings: of the judge; the mode is pointwise whatever `judge.mode` says.
        base: artifact of the pipeline's base, for `judge.model=base`.
        tokenizer: of the base.
        model: how the base is loaded.
        templates: folder of the templates that have a name.
        cache: folder of the judge's answers.
        context: tokens that a judge reads, at most.

    Raises:
        RequestError: the template or the judge is none.
    """
    template = read_template(settings, folder=templates, mode="pointwise")
    judge = open_judge(settings, base=base, tokenizer=tokenizer, model=model, context=context, cache=cache)
    scores = list(template.options.values())

    def reward(prompts: Sequence[str], completions: Sequence[str], records: Sequence[Mapping[str, Any]]) -> Rewards:
        inquiries = [
            inquiry(template, reasoning=settings.reasoning, prompt=_prompt(prompt, record), response=completion)
            for prompt, completion, record in zip(prompts, completions, records, strict=True)
        ]
        before = judge.usage
        opinions = judge.ask(inquiries)
        if any(opinion is None for opinion in opinions):
            raise RequestError(
                f"judge.budget={settings.budget} is spent, and PPO asks the judge about each response: raise it, or learn from a "
                "reward model (METHOD=rlaif)"
            )
        rewards = _rewards([opinion for opinion in opinions if opinion], scores, settings, judge.name)
        return replace(rewards, compute=_read_by(judge, judge.usage.since(before)))

    weakref.finalize(reward, judge.close)
    return reward


def _prompt(prompt: str, record: Mapping[str, Any]) -> str:
    """Return a question as the judge reads it: the record's own, without what a chat template puts around it."""
    told = record.get("prompt", prompt)
    return shown(told if isinstance(told, str) else tuple(Message.model_validate(message) for message in told))


def _rewards(opinions: Sequence[Opinion], scores: Sequence[float], settings: JudgeSettings, name: str) -> Rewards:
    given = [expected(opinion.shares, scores) if opinion.shares else None for opinion in opinions]
    read = [score for score in given if score is not None]
    unreadable = len(given) - len(read)
    if not read or unreadable > settings.max_unreadable * len(given):
        raise ContractError(
            f"the judge {name}: {unreadable} of {len(given)} replies are none of the options, allowed are "
            f"{settings.max_unreadable:.1%} (judge.max_unreadable). Correct the template (judge.template), or take another "
            "judge (judge.model)"
        )
    mean = sum(read) / len(read)
    return Rewards(
        values=[rescaled(mean if score is None else score) for score in given],
        parts={
            "judge_score": [mean if score is None else score for score in given],
            "judge_entropy": [opinion.entropy for opinion in opinions],
            "judge_unreadable": [float(score is None) for score in given],
        },
        reasons=[
            "the judge's reply could not be read" if score is None else f"the judge gives {score:.2f} of 10" for score in given
        ],
    )
