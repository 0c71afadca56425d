"""The stages `judge-<model>`: whose held-out answers a judge finds better, the model's or those of the model it started from."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from posttrain.errors import ContractError
from posttrain.graders import build_grader
from posttrain.judges.opinions import win_in_both_orders
from posttrain.judges.quality import JudgeFigures, check_judge, figures_of
from posttrain.records import Question
from posttrain.settings.judge import JudgeSettings
from posttrain.settings.model import ModelSettings
from posttrain.statistics.figures import flattened
from posttrain.statistics.intervals import win_rate
from tasks.feedback.pairs import Pair, gold_of
from tasks.judges.identity import read_template
from tasks.judges.judge import SUMMARY, open_judge
from tasks.judges.pairs import Answered, asked
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import PROBLEMS, read_rows, write_rows

COMPARISONS = "comparisons.jsonl"


def compare(
    out: Path,
    log: Log,
    *,
    results: Path,
    start_results: Path,
    base: Path,
    tokenizer: Path,
    model: ModelSettings,
    settings: JudgeSettings,
    templates: Path,
    cache: Path,
    model_uri: str,
    start_uri: str,
    context: int,
    seed: int,
) -> Outcome:
    """Write `comparisons.jsonl`, a row a question that was compared, and `judge.json`, what is known of the judge.

    The greedy answers of two models to each held-out question are compared pairwise, in both orders (`win_in_both_orders`); equal
    answers are a tie that nobody is asked about. Metrics: `judge_win_rate` with its interval, `judged` and `unreadable`
    questions, and the shares `tied` (of questions) and `flip_share` (of pairs that the judge was asked about). The win rate is
    left out where the judge is not fit by its limits: `refused` in `judge.json` then says why, and nothing fails, as nothing was
    trained on it.

    Args:
        out: the artifact.
        log: for curves, of which there are none.
        results: evaluation of the model.
        start_results: evaluation of the model that it started from, on the same questions.
        base: artifact of the pipeline's base, or of the judge that practised, for `judge.model=base`.
        tokenizer: of the base.
        model: how the base is loaded.
        settings: of the judge; the mode is pairwise whatever `judge.mode` says.
        templates: folder of the templates that have a name.
        cache: folder of the judge's answers, which outlive the stage.
        model_uri: of the model.
        start_uri: of the model that it started from.
        context: tokens that a judge reads, at most.
        seed: unused: greedy answers are what they are.

    Raises:
        RequestError: the template or the judge is none, or it cannot be asked.
    """
    template = read_template(settings, folder=templates, mode="pairwise", needed_by="evaluate.judge")
    rows = list(zip(read_rows(results / PROBLEMS), read_rows(start_results / PROBLEMS), strict=True))
    pairs = {ours["id"]: _pair(ours, theirs, model_uri, start_uri) for ours, theirs in rows if _text(ours) != _text(theirs)}
    with closing(open_judge(settings, base=base, tokenizer=tokenizer, model=model, context=context, cache=cache)) as judge:
        answered = {one.judged.question: one for one in asked(judge, list(pairs.values()), template, settings)} if pairs else {}
    told = _compared([ours["id"] for ours, _ in rows], pairs, answered)
    write_rows(out / COMPARISONS, told)
    wins = [row["win"] for row in told if row["win"] is not None]
    judged = figures_of([one.judged for one in answered.values()]) if answered else None
    refused = _refusal(judged, judge.name, settings) if judged else ""
    price = judge.usage.price(prompt=settings.price_prompt, completion=settings.price_completion)
    summary = {
        "judge": judge.name,
        "template": settings.template,
        "mode": template.name,
        "refused": refused,
        "questions": len(rows),
        "compared": len(wins),
        **(judged.as_dict() if judged else {}),
        "usage": vars(judge.usage),
        "cost": price,
    }
    (out / SUMMARY).write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    metrics = {"judged": float(len(wins)), "unreadable": float(len(told) - len(wins))}
    if judged and judged.flip_share is not None:
        metrics["flip_share"] = judged.flip_share
    if len(wins) > 1:
        metrics["tied"] = wins.count(0.5) / len(wins)
    if len(wins) > 1 and not refused:
        found = win_rate(wins)
        metrics |= flattened({"judge_win_rate": found})
    return Outcome(metrics=metrics, costs={"judge": price})


def _refusal(judged: JudgeFigures, name: str, settings: JudgeSettings) -> str:
    """Return why the judge's verdicts count for nothing; empty where it keeps its limits."""
    try:
        check_judge(
            judged,
            name=name,
            max_flips=settings.max_flips,
            min_conviction=settings.min_conviction,
            max_unreadable=settings.max_unreadable,
        )
    except ContractError as error:
        return str(error)
    return ""


def _text(row: Mapping[str, Any]) -> str:
    return str(row["greedy"]["text"])


def _pair(ours: Mapping[str, Any], theirs: Mapping[str, Any], model_uri: str, start_uri: str) -> Pair:
    """Return the two greedy answers to a question, the model's first, with what the checker says of them where it can."""
    question = Question.model_validate({name: ours[name] for name in ("id", "prompt", "answers")})
    first, second = _text(ours), _text(theirs)
    is_finished = {first: ours["greedy"]["is_finished"], second: theirs["greedy"]["is_finished"]}
    gold = gold_of(question, is_finished, build_grader("answer"))
    return Pair(
        question=question,
        first=first,
        second=second,
        gold=gold(first, second),
        first_model=model_uri,
        second_model=start_uri,
        first_finished=is_finished[first],
        second_finished=is_finished[second],
    )


def _compared(ids: Sequence[str], pairs: Mapping[str, Pair], answered: Mapping[str, Answered]) -> list[dict[str, Any]]:
    """Return a row a question, `win` None where a reply could not be read; up to where `judge.budget` ended.

    Ties of equal answers cost nothing. Were those behind the budget's end counted, there would be too many of them.
    """
    rows = []
    for name in ids:
        if name not in pairs:
            rows.append({"id": name, "win": 0.5, "forward": None, "backward": None, "why": "the answers are equal"})
            continue
        if name not in answered:
            break
        judged = answered[name].judged
        if judged.forward is None or judged.backward is None:
            win, why = None, "a reply could not be read"
        else:
            win = win_in_both_orders(judged.forward, judged.backward)
            why = "the verdict changes with the order" if win == 0.5 else ""
        rows.append({"id": name, "win": win, "forward": judged.forward, "backward": judged.backward, "why": why})
    return rows
