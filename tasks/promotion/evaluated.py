"""What the gate is given of a version: the tables of its evaluation, the curve of its training, the warnings of its data."""

import numpy as np

from posttrain.promotion.evaluated import Evaluated, RewardCurve
from posttrain.statistics.clusters import Array
from tasks.promotion.evaluations import Evaluation, Rows, families_of, reward_curve_of, warnings_of
from tasks.tracking.ledger import Ledger


def evaluated(ledger: Ledger, evaluation: Evaluation) -> Evaluated:
    """Return a version as `posttrain.promotion.gate.decide` takes it: one model, one seed."""
    rows = evaluation.rows
    has_answers = any(row["answers"] for row in rows)
    return Evaluated(
        name=evaluation.name,
        held_out=evaluation.held_out,
        scores=_table(rows, "is_right") if has_answers else None,
        metric="accuracy",
        finished=_of_samples(rows, "is_finished"),
        tokens=_of_samples(rows, "tokens"),
        seconds=seconds_a_response(evaluation),
        machine=evaluation.host,
        reference_loss=reference_losses(rows),
        families=families_of(ledger, evaluation),
        training=_training(ledger, evaluation),
        warnings=warnings_of(ledger, evaluation),
    )


def seconds_a_response(evaluation: Evaluation) -> float | None:
    """Return the seconds of the whole evaluation over its responses: one timing, no sample; None where it was not timed."""
    seconds = evaluation.metrics.get("cost/evaluate_seconds")
    responses = sum(1 + len(row["sampled"]) for row in evaluation.rows)
    return seconds / responses if seconds and responses else None


def reference_losses(rows: Rows) -> Array | None:
    """Return the loss of each question's completion, nats a token, NaN where it has none; None where no question has one."""
    if not any(row.get("reference") for row in rows):
        return None
    found = [row["reference"]["nats"] / row["reference"]["tokens"] if row.get("reference") else np.nan for row in rows]
    return np.array(found)


def accuracies(rows: Rows) -> Array:
    """Return 1 for each question that is answered right greedily, 0 for a wrong one, NaN for one without an answer."""
    return _table(rows, "is_right")


def _table(rows: Rows, name: str) -> Array:
    return np.array([float(row["greedy"][name]) if row["answers"] else np.nan for row in rows])


def _of_samples(rows: Rows, name: str) -> Array | None:
    if not all(row["sampled"] for row in rows):
        return None
    return np.array([np.mean([float(one[name]) for one in row["sampled"]]) for row in rows])


def _training(ledger: Ledger, evaluation: Evaluation) -> RewardCurve | None:
    found = reward_curve_of(ledger, evaluation)
    if found is None:
        return None
    rows, patience = found
    has_errors = all(row.get("ppo/gold_error") is not None for row in rows)
    return RewardCurve(
        reward=[row["ppo/reward"] for row in rows],
        gold=[row["ppo/gold"] for row in rows],
        gold_error=[row["ppo/gold_error"] for row in rows] if has_errors else None,
        patience=patience,
    )
