"""Whether the version that a pipeline has just made takes `challenger` from the one that has it."""

from posttrain.errors import DataError
from posttrain.evaluation.reference_loss import per_completion
from posttrain.promotion.standing import Gain, Standing, holder, standing
from posttrain.statistics.clusters import Array
from posttrain.statistics.intervals import paired_difference, paired_gain
from tasks.promotion.evaluations import Evaluation, Rows, evaluation_of
from tasks.promotion.moves import ROLLED_BACK_TAG, read_aliases
from tasks.tracking.ledger import Ledger


def standing_of(ledger: Ledger, name: str, version: str, ours: Evaluation) -> Standing:
    """Return whether a version is, or becomes, challenger; `ours` is its evaluation in the pipeline that is about to end."""
    now = read_aliases(ledger, name)
    gain, unmeasured = None, ""
    if against := holder(now, version):
        try:
            theirs = evaluation_of(ledger, name, against[1], like=ours)
            gain, unmeasured = gain_over(ours, theirs)
        except DataError:
            unmeasured = "has no evaluation any more"
    is_rolled_back = ROLLED_BACK_TAG in ledger.client.get_model_version(name, version).tags
    return standing(now, version, gain=gain, unmeasured=unmeasured, is_rolled_back=is_rolled_back)


def gain_over(ours: Evaluation, theirs: Evaluation) -> tuple[Gain | None, str]:
    """Return the paired gain of one model over another on the same held-out questions; else None, and why nothing compares."""
    if ours.unlike(theirs):
        return None, "was not measured on the same held-out questions"
    places = [place for place, row in enumerate(ours.rows) if row["answers"]]
    if len(places) > 1:
        right = [[float(rows[place]["greedy"]["is_right"]) for place in places] for rows in (ours.rows, theirs.rows)]
        return Gain(paired_gain(*right), is_share=True), ""
    places = [place for place, row in enumerate(ours.rows) if row.get("reference") and theirs.rows[place].get("reference")]
    if len(places) > 1:
        losses = [_losses(rows, places) for rows in (ours.rows, theirs.rows)]
        return Gain(paired_difference(-losses[0], -losses[1]), is_share=False), ""
    return None, "has neither answers nor completions to be compared by"


def _losses(rows: Rows, places: list[int]) -> Array:
    found = [rows[place]["reference"] for place in places]
    return per_completion([one["nats"] for one in found], [one["tokens"] for one in found])
