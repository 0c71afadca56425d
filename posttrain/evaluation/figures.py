"""What an evaluation says of a model: its rows as figures with the bounds of their intervals."""

from collections.abc import Sequence
from typing import Any

from posttrain.evaluation.reference_loss import reference_figures
from posttrain.feedback.annotators import Quality, gold_preference
from posttrain.statistics.figures import flattened, mean
from posttrain.statistics.intervals import Interval, clustered_mean, clustered_proportion, paired_gain, wilson, win_rate

NOTHING = Interval(0.0, 0.0, 0.0)
"""What a model gains on itself."""


def figures(
    rows: Sequence[dict[str, Any]], reference: Sequence[dict[str, Any]] | None, *, kl: Sequence[Sequence[float]] | None = None
) -> dict[str, float]:
    """Return the metrics of one model, each proportion with the bounds of its 95 % interval.

    Accuracy and win rate exist only where questions have answers, loss and perplexity only where they have reference completions:
    undefined is left out, never zero. So is KL, the mean over responses of the Rao–Blackwellised estimate of KL(model ‖ start),
    nats, where the two read different prompts (`kl` None).

    Args:
        rows: of the model's `problems.jsonl`.
        reference: the start's, of the same questions; None where the model is the start, whose KL is 0.
        kl: of each sampled response, (questions, samples), nats.
    """
    is_itself = reference is None
    pairs = zip(rows, rows if reference is None else reference, strict=True)
    checkable = [(row, other) for row, other in pairs if row["answers"]]
    found: dict[str, Interval | float | None] = {
        "response_tokens": mean([one["tokens"] for row in rows for one in row["sampled"]]),
        "finished": mean([one["is_finished"] for row in rows for one in row["sampled"]]),
        "questions": len(rows),
    }
    if checkable:
        found["accuracy"] = wilson(sum(row["greedy"]["is_right"] for row, _ in checkable), len(checkable))
        found["accuracy_sampled"] = clustered_proportion([[one["is_right"] for one in row["sampled"]] for row, _ in checkable])
        found["win_rate"] = Interval(0.5, 0.5, 0.5) if is_itself else win_rate([_wins(row, other) for row, other in checkable])
        for name, pick in (("accuracy_gain", _greedy_right), ("accuracy_sampled_gain", _sampled_right)):
            ours, theirs = [pick(row) for row, _ in checkable], [pick(other) for _, other in checkable]
            found[name] = NOTHING if is_itself else paired_gain(ours, theirs)
    if is_itself or kl is not None:
        found["kl"] = NOTHING if kl is None else clustered_mean(kl)
    return flattened({**found, **reference_figures(rows, reference)})


def _greedy_right(row: dict[str, Any]) -> float:
    return float(row["greedy"]["is_right"])


def _sampled_right(row: dict[str, Any]) -> float:
    return mean([one["is_right"] for one in row["sampled"]])


def _wins(row: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the share of this question's sample pairs that the gold judge decides for the model; ties count half."""
    ours, theirs = ([Quality(one["is_right"], one["is_finished"]) for one in each["sampled"]] for each in (row, other))
    return mean([gold_preference(mine, yours) for mine in ours for yours in theirs])
