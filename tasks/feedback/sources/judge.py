"""Labels of an AI judge: soft ones, with everything that is known of it."""

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from posttrain.errors import ContractError, RequestError
from posttrain.feedback.shown_pairs import Pair
from posttrain.judges.opinions import Opinion
from posttrain.judges.quality import JudgeFigures, figures_of
from posttrain.settings.feedback import LabelSettings
from posttrain.settings.judge import JudgeSettings
from tasks.feedback.labels import LABELS
from tasks.feedback.pairs import draw_pairs, of_questions
from tasks.judges.load import JudgeSource
from tasks.judges.pairs import ask_judge, labels_of
from tasks.judges.summary import SUMMARY, compute_of, price_of, refusal, write_summary
from tasks.workspace.artifacts import Log, Outcome, keep_findings
from tasks.workspace.jsonl import write_rows


def label(
    out: Path,
    log: Log,
    *,
    samples: Path,
    judge: JudgeSource,
    settings: LabelSettings,
    findings: Path,
    model_uri: str,
    seed: int,
) -> Outcome:
    """Write `labels.jsonl`, pairs of samples with the judge's soft labels, and `judge.json`, what is known of the judge.

    Args:
        out: the artifact.
        log: for curves, of which there are none.
        samples: artifact of the stage `sample`.
        judge: who is asked, and how.
        settings: how many pairs, and which.
        findings: where `judge.json` stays of a judge that is refused.
        model_uri: of the model that wrote the samples.
        seed: of the choice of pairs and of the order shown.

    Raises:
        DataError: no question has two different responses.
        RequestError: the template or the judge is none, it cannot be asked, or its budget does not buy one label.
        ContractError: the judge is not fit to label.
    """
    started = time.perf_counter()
    template, how = judge.template(), judge.settings
    pairs = _asked_about(draw_pairs(samples, settings, model_uri=model_uri, seed=seed), settings, how)
    with closing(judge.open()) as opened:
        answered = ask_judge(opened, pairs, template, how)
    if not answered:
        raise RequestError(f"judge.budget={how.budget}: it does not buy the answers that one label takes. Raise it")
    figures = figures_of([one.judged for one in answered])
    known = {
        "reasoning": how.reasoning,
        **_how_asked([opinion for one in answered for opinion in one.opinions], how),
        "unasked_pairs": len(pairs) - len(answered),
    }
    write_summary(out, opened, how, template, figures, **known)
    if refused := refusal(figures, opened, how):
        keep_findings(out, [SUMMARY], at=findings)
        raise ContractError(f"{refused}. All figures: {findings / SUMMARY}")
    given = labels_of(answered, judge=opened.name, template=template)
    count = write_rows(out / LABELS, (one.model_dump(mode="json") for one in given))
    return Outcome(
        metrics={"pairs": count, **_metrics(figures), "asked": opened.usage.asked, "cached": opened.usage.cached},
        costs={
            "labels": count,
            "judge": price_of(opened, how),
            "train_seconds": time.perf_counter() - started,
            **compute_of(opened, opened.usage).as_costs(),
        },
    )


def _asked_about(pairs: Sequence[Pair], settings: LabelSettings, judge: JudgeSettings) -> list[Pair]:
    """Return the pairs that the judge is asked about: of some of the questions, and no more than labels are bought."""
    return of_questions(pairs, most=judge.max_questions)[: settings.budget or None]


def _how_asked(opinions: Sequence[Opinion], settings: JudgeSettings) -> dict[str, object]:
    counted = [opinion for opinion in opinions if opinion.counted]
    if not counted:
        return {"asked_for": "probabilities of the options"}
    told = f"{settings.samples} sampled answers a question, counted, since the server tells no log-probabilities"
    if settings.samples > 1 and not any(opinion.entropy for opinion in counted):
        told += "; all answers to a question are alike, as from a server that does not sample"
    return {"asked_for": told, "counted_share": len(counted) / len(opinions)}


def _metrics(figures: JudgeFigures) -> dict[str, float]:
    numbers = {name: value for name, value in vars(figures).items() if isinstance(value, int | float) and name != "pairs"}
    if figures.accuracy:
        bounds = figures.accuracy
        numbers |= {"accuracy": bounds.estimate, "accuracy_low": bounds.low, "accuracy_high": bounds.high}
    return numbers
