"""The stage `self_preference`: whether a judge prefers its own responses beyond what they are worth; nothing is trained on it."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from posttrain.feedback.bias import label_figures
from posttrain.feedback.shown_pairs import Pair
from posttrain.graders import build_grader
from posttrain.records import Question
from tasks.feedback.labels import LABELS
from tasks.feedback.pairs import gold_of
from tasks.judges.interface import Written
from tasks.judges.load import JudgeSource
from tasks.judges.pairs import ask_judge, labels_of
from tasks.judges.summary import price_of
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import read_rows, write_rows
from tasks.workspace.quiet import quiet_libraries


def measure(
    out: Path, log: Log, *, samples: Path, judge: JudgeSource, questions: int, max_new_tokens: int, model_uri: str, seed: int
) -> Outcome:
    """Write `labels.jsonl`: a judge's soft labels of pairs of one response of its own and one of the samples.

    Metrics: `labels`, and where they are defined `own`, the share of labels that decide for the judge's own response, `own_gold`,
    the same of gold, and `own_beyond_gold`, their difference (arXiv:2404.13076), with intervals.

    Args:
        out: the artifact.
        log: for curves, of which there are none.
        samples: artifact of the stage `sample`.
        judge: who is asked, and how.
        questions: that it answers itself, at most (`judge.own_questions`).
        max_new_tokens: of a response.
        model_uri: of the model that wrote the samples.
        seed: of the choice of questions and samples, of the order shown, and of a local judge's responses.

    Raises:
        RequestError: the template or the judge is none, or it cannot be asked.
    """
    random = Random(f"{seed}/self-preference")
    rows = list(read_rows(samples / "samples.jsonl"))
    chosen = random.sample(rows, min(questions, len(rows)))
    template = judge.template()
    with closing(judge.open()) as opened:
        answered = [Question.model_validate(row["question"]) for row in chosen]
        with quiet_libraries():
            written = opened.write([one.prompt for one in answered], max_new_tokens=max_new_tokens, seed=seed)
        pairs = _pairs(answered, written, chosen, judge=opened.name, model_uri=model_uri, random=random)
        labels = labels_of(ask_judge(opened, pairs, template, judge.settings), judge=opened.name, template=template)
        found = label_figures(labels, model=opened.name) if labels else {"labels": 0.0}
    write_rows(out / LABELS, (label.model_dump(mode="json") for label in labels))
    own = {name: value for name, value in found.items() if name == "labels" or name.startswith("own")}
    return Outcome(metrics=own, costs={"judge": price_of(opened, judge.settings)})


def _pairs(
    questions: Sequence[Question],
    written: Sequence[Written],
    rows: Sequence[Mapping[str, Any]],
    *,
    judge: str,
    model_uri: str,
    random: Random,
) -> list[Pair]:
    """Return a pair a question, in an order drawn; none where the judge wrote nothing, or what was sampled too."""
    grader = build_grader("answer")
    pairs = []
    for question, own, row in zip(questions, written, rows, strict=True):
        sampled = dict(row["responses"])
        if not own.text.strip() or own.text in sampled:
            continue
        other = random.choice(list(sampled))
        gold = gold_of(question, {own.text: own.is_finished, other: sampled[other]}, grader)
        first, second = (own.text, judge, own.is_finished), (other, model_uri, sampled[other])
        if random.random() < 0.5:
            first, second = second, first
        pairs.append(
            Pair(
                question=question,
                first=first[0],
                second=second[0],
                gold=gold(first[0], second[0]),
                first_model=first[1],
                second_model=second[1],
                first_finished=first[2],
                second_finished=second[2],
            )
        )
    return pairs
