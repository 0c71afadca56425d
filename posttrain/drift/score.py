"""Whether a champion answers fresh questions as well as the held-out ones that it was promoted on.

Two models on the same questions are compared pair by pair. This is one model on two independent samples of questions, so its two
accuracies are compared: each with an interval over its questions, families of nearly equal ones as one draw, and the difference
with Newcombe's interval (posttrain/statistics/independent.py).
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy.special import ndtri

from posttrain.drift.check import FEWEST_QUESTIONS, LONGEST_SHOWN, families_in, text_of
from posttrain.drift.two_sample import POWER
from posttrain.records import Question
from posttrain.settings.monitor import MonitorSettings
from posttrain.statistics.figures import mean
from posttrain.statistics.independent import independent_difference
from posttrain.statistics.intervals import Interval, clustered_proportion

Rows = Sequence[Mapping[str, Any]]
"""Of an evaluation's `problems.jsonl`: a question each, with `answers` and the `greedy` response."""
Rule = Literal["fallen", "lower", "holds"]
WRONG_SHOWN = 10
"""Fresh questions that are shown with the wrong answer, the first of those drawn at random."""


@dataclass(frozen=True)
class Score:
    """What was decided; accuracies and differences are shares.

    Attributes:
        rule: `fallen`: shown to be lower by more than the margin; `lower`: shown to be lower, but not by more than the margin;
            `holds`: not shown to be lower.
        fresh: accuracy on the fresh questions.
        gate: accuracy on the held-out questions of the champion's evaluation.
        difference: fresh - gate; below 0: the champion answers fresh questions worse.
        smallest_fall: that raises an alarm in 80 % of the cases; None where none does.
    """

    rule: Rule
    fresh: Interval
    gate: Interval
    difference: Interval
    smallest_fall: float | None

    @property
    def is_alarm(self) -> bool:
        """Whether an alarm is raised."""
        return self.rule == "fallen"


@dataclass(frozen=True)
class Answers:
    """Which questions were answered right, and which of them belong together.

    Attributes:
        is_right: (questions,).
        family: of each question, (questions,); equal ones are one draw.
    """

    is_right: Sequence[bool]
    family: Sequence[Hashable]

    @property
    def families(self) -> int:
        """How many different ones there are."""
        return len(set(self.family))

    def accuracy(self, confidence: float) -> Interval:
        """Return the share of right answers with its interval."""
        return clustered_proportion([float(each) for each in self.is_right], list(self.family), confidence=confidence)


def compare(fresh: Answers, gate: Answers, *, level: float, margin: float) -> Score:
    """Return whether the accuracy on fresh questions is shown to be lower than that at the gate by more than a margin.

        fallen where   high(fresh - gate) < -margin,   `high` the upper bound at the confidence 1 - level

    So where nothing has changed an alarm comes in level / 2 of the checks, at a margin of 0. The smallest fall that is seen is
    margin + (1 + z_.8 / z_{1 - level/2}) times half the interval's width; a fall changes that width by little.

    Args:
        fresh, gate: of one model, at least two families each.
        level: 1 - confidence of the intervals.
        margin: how much lower is no alarm yet, a share.
    """
    ours, theirs = (one.accuracy(1 - level) for one in (fresh, gate))
    difference = independent_difference(ours, theirs)
    half = (difference.high - difference.low) / 2
    smallest = margin + half * (1 + float(ndtri(POWER) / ndtri(1 - level / 2)))
    rule: Rule = "holds" if difference.high >= 0 else "lower" if difference.high >= -margin else "fallen"
    # nothing falls below no right answer at all
    return Score(rule, ours, theirs, difference, smallest if smallest < theirs.estimate else None)


def answers_in(rows: Rows, families: Sequence[str | None] | None, near_duplicate: float) -> tuple[list[Question], Answers]:
    """Return the questions of rows that have an answer, and what became of them.

    Args:
        rows: of an evaluation.
        families: that the dataset names, of each row; None for none.
        near_duplicate: similarity from which two prompts are of one family.
    """
    named = families or [None] * len(rows)
    kept = [(row, family) for row, family in zip(rows, named, strict=True) if row["answers"]]
    questions = [Question(id=str(row["id"]), family=family, prompt=row["prompt"], answers=row["answers"]) for row, family in kept]
    is_right = [bool(row["greedy"]["is_right"]) for row, _ in kept]
    return questions, Answers(is_right, families_in(questions, near_duplicate).tolist())


def too_few(what: str, questions: Sequence[Question], near_duplicate: float) -> str:
    """Return why so few questions say nothing, a sentence on `what` they are; "" where there are enough."""
    families = len(set(families_in(questions, near_duplicate).tolist()))
    if families >= FEWEST_QUESTIONS:
        return ""
    return (
        f"{what} are {len(questions):,} with {families:,} different prompts, near-duplicates counted once, and "
        f"{FEWEST_QUESTIONS} are needed"
    )


def score_record(
    fresh_rows: Rows,
    gate_rows: Rows,
    *,
    fresh_families: Sequence[str | None] | None,
    gate_families: Sequence[str | None] | None,
    name: str,
    settings: MonitorSettings,
    near_duplicate: float,
) -> dict[str, Any]:
    """Return the statistical part of `score` in the record `posttrain.monitor/1` (docs/monitoring.md has every field).

    Args:
        fresh_rows: the champion's answers to the fresh questions.
        gate_rows: its answers to the held-out questions of its evaluation.
        fresh_families, gate_families: that the data name, of each row; None for none.
        name: what the champion is called in sentences, as "version 7".
        settings: level and margin.
        near_duplicate: similarity from which two prompts are of one family.
    """
    asked, fresh = answers_in(fresh_rows, fresh_families, near_duplicate)
    _, gate = answers_in(gate_rows, gate_families, near_duplicate)
    score = compare(fresh, gate, level=settings.level, margin=settings.score_margin)
    wrong = [
        {"prompt": text_of(question), "answers": ", ".join(question.answers), "response": str(row["greedy"]["text"])}
        for question, row in zip(asked, (row for row in fresh_rows if row["answers"]), strict=True)
        if not row["greedy"]["is_right"]
    ]
    return {
        "rule": score.rule,
        "is_alarm": score.is_alarm,
        "says": says(score, len(fresh.is_right), len(gate.is_right), name=name, margin=settings.score_margin),
        "fresh": _side(score.fresh, fresh, fresh_rows),
        "gate": _side(score.gate, gate, gate_rows),
        "difference": score.difference.as_dict(),
        "smallest_fall": score.smallest_fall,
        "wrong": [{part: text[:LONGEST_SHOWN] for part, text in one.items()} for one in wrong[:WRONG_SHOWN]],
        "warnings": _warnings(fresh_rows),
    }


def _side(accuracy: Interval, answers: Answers, rows: Rows) -> dict[str, Any]:
    return {
        "questions": len(answers.is_right),
        "families": answers.families,
        "accuracy": accuracy.as_dict(),
        "finished": mean([float(row["greedy"]["is_finished"]) for row in rows if row["answers"]]),
    }


def _warnings(rows: Rows) -> list[str]:
    without = sum(row["greedy"]["tokens"] == 0 and not row["greedy"]["is_finished"] for row in rows)
    if not without:
        return []
    return [f"{without:,} of the fresh questions fill the model's context, so they have no answer, and count as wrong"]


def says(score: Score, fresh: int, gate: int, *, name: str, margin: float) -> str:
    """Return what was decided in one sentence with the figures, without its full stop.

    Args:
        score: the decision.
        fresh, gate: questions of each side.
        name: what the champion is called.
        margin: of the decision.
    """
    found = score.difference
    figures = (
        f"{name} answers {_percent(score.fresh.estimate)} of {fresh:,} fresh questions right, where it had "
        f"{_percent(score.gate.estimate)} of {gate:,} held-out ones: {_points(found.estimate, '+')} points "
        f"[{_points(found.low)}, {_points(found.high)}]"
    )
    if score.is_alarm:
        return f"The champion's score has fallen: {figures}, beyond the margin of {_points(margin)}"
    if score.rule == "lower":
        return f"The champion's score is lower, but not shown to be so by more than the margin of {_points(margin)}: {figures}"
    smallest = score.smallest_fall
    seen = "no fall would be seen" if smallest is None else f"a fall of {_points(smallest)} would be seen in 80 % of the cases"
    return f"No fall of the champion's score is seen: {figures}; {seen}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float, sign: str = "") -> str:
    """Return a difference of shares in points: "-3.1"; never "-0.0"."""
    return f"{round(100 * share, 1) + 0.0:{sign}.1f}"
