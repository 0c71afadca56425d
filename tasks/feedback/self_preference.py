"""The stage `self_preference`: whether a judge prefers its own responses beyond what they are worth; nothing is trained on it."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from posttrain.feedback.bias import label_figures
from posttrain.graders import build_grader
from posttrain.records import Question
from posttrain.settings.judge import JudgeSettings
from posttrain.settings.model import ModelSettings
from tasks.feedback.labels import LABELS
from tasks.feedback.pairs import Pair, gold_of
from tasks.judges.identity import read_template
from tasks.judges.judge import open_judge
from tasks.judges.pairs import Written, asked, labels_of
from tasks.workspace.artifacts import Log, Outcome
from tasks.workspace.jsonl import read_rows, write_rows
from tasks.workspace.quiet import quiet_libraries


def measure(
    out: Path,
    log: Log,
    *,
    samples: Path,
    base: Path,
    tokenizer: Path,
    model: ModelSettings,
    settings: JudgeSettings,
    templates: Path,
    cache: Path,
    max_new_tokens: int,
    model_uri: str,
    context: int,
    seed: int,
) -> Outcome:
    """Write `labels.jsonl`: a judge's soft labels of pairs of one response of its own and one of the samples.

    Metrics: `labels`, and where they are defined `own`, the share of labels that decide for the judge's own response, `own_gold`,
    the same of gold, and `own_beyond_gold`, their difference (arXiv:2404.13076), with intervals.

    Args:
        out: the artifact.
        log: for curves, of which there are none.
        samples: artifact of the stage `sample`.
        base: artifact of the pipeline's base, or of the judge that practised, for `judge.model=base`.
        tokenizer: of the base.
        model: how the base is loaded.
        settings: of the judge.
        templates: folder of the templates that have a name.
        cache: folder of the judge's answers, which outlive the stage.
        max_new_tokens: of a response.
        model_uri: of the model that wrote the samples.
        context: tokens that a judge reads, at most.
        seed: of the choice of questions and samples, of the order shown, and of a local judge's responses.

    Raises:
        RequestError: the template or the judge is none, or it cannot be asked.
    """
    random = Random(f"{seed}/self-preference")
    rows = list(read_rows(samples / "samples.jsonl"))
    chosen = random.sample(rows, min(settings.own_questions, len(rows)))
    template = read_template(settings, folder=templates)
    with closing(open_judge(settings, base=base, tokenizer=tokenizer, model=model, context=context, cache=cache)) as judge:
        questions = [Question.model_validate(row["question"]) for row in chosen]
        with quiet_libraries():
            written = judge.write([one.prompt for one in questions], max_new_tokens=max_new_tokens, seed=seed)
        pairs = _pairs(questions, written, chosen, judge=judge.name, model_uri=model_uri, random=random)
        labels = labels_of(asked(judge, pairs, template, settings), judge=judge.name, template=template)
        price = judge.usage.price(prompt=settings.price_prompt, completion=settings.price_completion)
        found = label_figures(labels, model=judge.name) if labels else {"labels": 0.0}
    write_rows(out / LABELS, (label.model_dump(mode="json") for label in labels))
    own = {name: value for name, value in found.items() if name == "labels" or name.startswith("own")}
    return Outcome(metrics=own, costs={"judge": price})


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
