"""Labels of an AI judge: soft ones, with everything that is known of it; and the judge as a reward (d-RLAIF)."""

import json
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

from models.load import check_base
from posttrain.annotators import Quality, gold_preference
from posttrain.errors import ContractError, DataError, RequestError
from posttrain.graders import Grader, Sample, build_grader
from posttrain.judge_figures import JudgedPair, JudgeFigures, check_judge, figures_of
from posttrain.judge_templates import Form
from posttrain.judges import Inquiry, Opinion, Usage, beats, both_orders, expected, inquiry, rescaled, shown
from posttrain.labels import Label, random_pairs
from posttrain.records import Message, Question
from posttrain.rewards import RewardFunction, Rewards
from posttrain.sections import JudgeSettings, LabelSettings, ModelSettings
from tasks.judge_cache import ReplyCache
from tasks.judge_files import BASE, digest_of_base, judge_digest, read_form
from tasks.judge_local import LocalJudge
from tasks.judge_remote import ServerJudge
from tasks.progress import bar
from tasks.records import read_rows, write_rows
from tasks.stage import Log, Outcome, keep_findings
from tasks.trainer import quiet_libraries
from tasks.weights import source_of

SUMMARY = "judge.json"


class Judge(Protocol):
    """Whoever answers inquiries."""

    name: str
    usage: Usage

    def ask(self, inquiries: Sequence[Inquiry], *, advance: Callable[[int], None] = ...) -> list[Opinion | None]:
        """Return an opinion each, None where the budget was spent before; `advance` is told how many were answered."""
        ...

    def close(self) -> None:
        """Let go of connections and of the cache."""
        ...


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
    if settings.kind == "openai":
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


@dataclass(frozen=True)
class _Pair:
    """Two responses to one question, in the order shown, and what a noise-free judge says of them."""

    question: Question
    first: str
    second: str
    gold: float | None


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
    form = read_form(settings, folder=templates)
    pairs = _pairs(samples, labels, Random(f"{seed}/judge"))
    with closing(open_judge(settings, base=base, tokenizer=tokenizer, model=model, context=context, cache=cache)) as judge:
        told = _asked(judge, pairs, form, settings)
    judged = [(pair, _judged(pair, opinions, form), opinions) for pair, opinions in told]
    if not judged:
        raise RequestError(f"judge.budget={settings.budget}: it does not buy the answers that one label takes. Raise it")
    figures = figures_of([one for _, one, _ in judged])
    summary = {
        "judge": judge.name,
        "form": form.name,
        "template": settings.template,
        "reasoning": settings.reasoning,
        **_how_asked([opinion for _, _, opinions in judged for opinion in opinions], settings),
        **figures.as_dict(),
        "unasked_pairs": len(pairs) - len(judged),
        "usage": vars(judge.usage),
        "cost": _price(judge, settings),
    }
    (out / SUMMARY).write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    try:
        check_judge(
            figures,
            name=judge.name,
            most_flips=settings.most_flips,
            least_conviction=settings.least_conviction,
            most_unreadable=settings.most_unreadable,
        )
    except ContractError as error:
        keep_findings(out, [SUMMARY], at=findings)
        raise ContractError(f"{error}. All figures: {findings / SUMMARY}") from None
    rows = (
        _label(number, pair, one.preference, opinions, judge=judge.name, form=form, model_uri=model_uri).model_dump(mode="json")
        for number, (pair, one, opinions) in enumerate(judged)
        if one.preference is not None
    )
    count = write_rows(out / "labels.jsonl", rows)
    return Outcome(
        metrics={"pairs": count, **_metrics(figures), "asked": judge.usage.asked, "cached": judge.usage.cached},
        costs={"labels": count, "judge": _price(judge, settings), "train_seconds": time.perf_counter() - started},
    )


def _pairs(samples: Path, settings: LabelSettings, random: Random) -> list[_Pair]:
    grader = build_grader("answer")
    pairs = [pair for row in read_rows(samples / "samples.jsonl") for pair in _of_question(row, grader, settings, random)]
    if not pairs:
        raise DataError(
            "judge: no question has two different responses, so there is nothing to compare. Sample more (sample.per_prompt), or "
            "hotter (sample.temperature)"
        )
    random.shuffle(pairs)
    return pairs[: settings.budget] if settings.budget else pairs


def _of_question(row: Mapping[str, Any], grader: Grader, settings: LabelSettings, random: Random) -> Iterator[_Pair]:
    question = Question.model_validate(row["question"])
    is_finished = dict(row["responses"])
    qualities: dict[str, Quality] = {}
    if question.answers:
        grades = grader.grade([Sample(text, {"id": question.id, "answers": question.answers}) for text in is_finished])
        qualities = {
            text: Quality(is_right=grade.is_right, is_finished=is_finished[text])
            for text, grade in zip(is_finished, grades, strict=True)
        }
    for first, second in random_pairs(is_finished, most=settings.pairs_per_prompt, random=random):
        gold = gold_preference(qualities[first], qualities[second]) if qualities else None
        yield _Pair(question=question, first=first, second=second, gold=gold)


def _asked(judge: Judge, pairs: Sequence[_Pair], form: Form, settings: JudgeSettings) -> list[tuple[_Pair, list[Opinion]]]:
    """Return the pairs with the judge's opinions; those that the budget did not reach are left out."""
    inquiries = [_inquiries(pair, form, reasoning=settings.reasoning) for pair in pairs]
    together = [one for both in inquiries for one in both]
    with quiet_libraries(), bar("judge", len(set(together))) as advance:
        answers = iter(judge.ask(together, advance=lambda replies: advance(replies, "")))
    told = [(pair, [next(answers) for _ in both]) for pair, both in zip(pairs, inquiries, strict=True)]
    return [(pair, [one for one in given if one]) for pair, given in told if all(given)]


def _inquiries(pair: _Pair, form: Form, *, reasoning: bool) -> tuple[Inquiry, Inquiry]:
    """Return what is asked of a pair: it in both orders, or each response by itself."""
    prompt = shown(pair.question.prompt)
    if form.name == "pairwise":
        return (
            inquiry(form, reasoning=reasoning, prompt=prompt, first=pair.first, second=pair.second),
            inquiry(form, reasoning=reasoning, prompt=prompt, first=pair.second, second=pair.first),
        )
    return (
        inquiry(form, reasoning=reasoning, prompt=prompt, response=pair.first),
        inquiry(form, reasoning=reasoning, prompt=prompt, response=pair.second),
    )


def _judged(pair: _Pair, opinions: Sequence[Opinion], form: Form) -> JudgedPair:
    one, other = (opinion.shares for opinion in opinions)
    preference = forward = backward = None
    if one and other and form.name == "pairwise":
        forward, backward = one[0], other[0]
        preference = both_orders(forward, backward)
    elif one and other:
        preference = beats(one, other, list(form.options.values()))
    return JudgedPair(
        question=pair.question.id,
        first_length=len(pair.first),
        second_length=len(pair.second),
        preference=preference,
        forward=forward,
        backward=backward,
        entropies=tuple(opinion.entropy for opinion in opinions if opinion.shares),
        masses=tuple(opinion.mass for opinion in opinions),
        gold=pair.gold,
    )


def _label(
    number: int, pair: _Pair, preference: float, opinions: Sequence[Opinion], *, judge: str, form: Form, model_uri: str
) -> Label:
    return Label(
        id=f"{pair.question.id}-judge-{number}",
        family=pair.question.family,
        prompt=pair.question.prompt,
        question=pair.question.id,
        group=pair.question.id,
        first=pair.first,
        second=pair.second,
        preference=min(1.0, max(0.0, preference)),
        annotator=judge,
        source="judge",
        at=max(opinion.at for opinion in opinions),
        prompt_version=form.digest,
        first_model=model_uri,
        second_model=model_uri,
        gold=pair.gold,
    )


def _how_asked(opinions: Sequence[Opinion], settings: JudgeSettings) -> dict[str, object]:
    counted = [opinion for opinion in opinions if opinion.counted]
    if not counted:
        return {"asked_for": "probabilities of the options"}
    told = f"{settings.samples} sampled answers a question, counted, since the server tells no log-probabilities"
    if settings.samples > 1 and not any(opinion.entropy for opinion in counted):
        told += "; all answers to a question are alike, as from a server that does not sample"
    return {"asked_for": told, "counted_share": len(counted) / len(opinions)}


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
        settings: of the judge; the form is pointwise whatever `judge.form` says.
        base: artifact of the pipeline's base, for `judge.model=base`.
        tokenizer: of the base.
        model: how the base is loaded.
        templates: folder of the templates that have a name.
        cache: folder of the judge's answers.
        context: tokens that a judge reads, at most.

    Raises:
        RequestError: the template or the judge is none.
    """
    form = read_form(settings, folder=templates, form="pointwise")
    judge = open_judge(settings, base=base, tokenizer=tokenizer, model=model, context=context, cache=cache)
    scores = list(form.options.values())

    def reward(prompts: Sequence[str], completions: Sequence[str], records: Sequence[Mapping[str, Any]]) -> Rewards:
        asked = [
            inquiry(form, reasoning=settings.reasoning, prompt=_prompt(prompt, record), response=completion)
            for prompt, completion, record in zip(prompts, completions, records, strict=True)
        ]
        opinions = judge.ask(asked)
        if any(opinion is None for opinion in opinions):
            raise RequestError(
                f"judge.budget={settings.budget} is spent, and PPO asks the judge about each response: raise it, or learn from a "
                "reward model (rlaif.direct=false)"
            )
        return _rewards([opinion for opinion in opinions if opinion], scores, settings, judge.name)

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
    if not read or unreadable > settings.most_unreadable * len(given):
        raise ContractError(
            f"the judge {name}: {unreadable} of {len(given)} replies are none of the options, allowed are "
            f"{settings.most_unreadable:.1%} (judge.most_unreadable). Correct the template (judge.template), or take another "
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
