"""The stages `judge-<model>`: whose held-out answers a judge finds better, the model's or those of the model it started from."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from posttrain.feedback.shown_pairs import Pair
from posttrain.graders import build_grader
from posttrain.judges.opinions import win_in_both_orders
from posttrain.judges.quality import figures_of
from posttrain.records import Question
from posttrain.statistics.intervals import win_rate
from tasks.feedback.pairs import gold_of
from tasks.judges.load import JudgeSource
from tasks.judges.pairs import Answered, ask_judge
from tasks.judges.summary import price_of, refusal, write_summary
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import PROBLEMS, read_rows, write_rows

COMPARISONS = "comparisons.jsonl"


def compare(
    out: Path,
    log: Log,
    *,
    results: Path,
    start_results: Path,
    judge: JudgeSource,
    model_uri: str,
    start_uri: str,
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
        judge: who is asked; the mode is pairwise whatever it says.
        model_uri: of the model.
        start_uri: of the model that it started from.

    Raises:
        RequestError: the template or the judge is none, or it cannot be asked.
    """
    judge = replace(judge, mode="pairwise")
    template, settings = judge.template(needed_by="evaluate.judge"), judge.settings
    rows = list(zip(read_rows(results / PROBLEMS), read_rows(start_results / PROBLEMS), strict=True))
    pairs = {ours["id"]: _pair(ours, theirs, model_uri, start_uri) for ours, theirs in rows if _text(ours) != _text(theirs)}
    with closing(judge.open()) as opened:
        answered = (
            {one.judged.question: one for one in ask_judge(opened, list(pairs.values()), template, settings)} if pairs else {}
        )
    told = _compared([ours["id"] for ours, _ in rows], pairs, answered)
    write_rows(out / COMPARISONS, told)
    wins = [row["win"] for row in told if row["win"] is not None]
    judged = figures_of([one.judged for one in answered.values()]) if answered else None
    refused = refusal(judged, opened, settings) if judged else ""
    write_summary(out, opened, settings, template, judged, refused=refused, questions=len(rows), compared=len(wins))
    metrics = {"judged": float(len(wins)), "unreadable": float(len(told) - len(wins))}
    if judged and judged.flip_share is not None:
        metrics["flip_share"] = judged.flip_share
    if len(wins) > 1:
        metrics["tied"] = wins.count(0.5) / len(wins)
    if len(wins) > 1 and not refused:
        found = win_rate(wins)
        metrics |= {"judge_win_rate": found.estimate, "judge_win_rate_low": found.low, "judge_win_rate_high": found.high}
    return Outcome(metrics=metrics, costs={"judge": price_of(opened, settings)})


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
