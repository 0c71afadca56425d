"""When a difference between new prompts and those of training is a drift, and the sentence that says so with its figures."""

from dataclasses import dataclass
from math import hypot
from typing import Literal

from scipy.special import ndtri

from posttrain.drift.two_sample import TwoSample

Rule = Literal["drift", "alike", "small", "as held out"]


@dataclass(frozen=True)
class Verdict:
    """What was decided.

    Attributes:
        rule: `drift`; `alike`: not told apart; `small`: told apart, but below `monitor.min_auc`; `as held out`: told apart, but
            no further from the training prompts than the held-out prompts are.
        why: one or two sentences with the figures.
        smallest_auc: true AUC that so many prompts show with a chance of 80 %.
    """

    rule: Rule
    why: str
    smallest_auc: float

    @property
    def is_drift(self) -> bool:
        """Whether an alarm is raised."""
        return self.rule == "drift"


def decide(test: TwoSample, held_out: TwoSample | None, *, level: float, min_auc: float) -> Verdict:
    """Return whether the new prompts have drifted.

    They have where p is at most `level` and the AUC at least `min_auc`. Where the held-out prompts are told from the training
    prompts as well (p at most `level`), the dataset itself is uneven: then the new prompts must be further away than they are,

        AUC_new - AUC_held_out > z_{1 - level} √(sd_new² + sd_held_out²)

    Args:
        test: new prompts, the second sample, against those of training.
        held_out: held-out prompts against those of training; None where there are too few.
        level: chance of an alarm at most where nothing differs.
        min_auc: of a difference that matters.
    """
    smallest = test.smallest(level, least=min_auc)
    found = f"AUC {test.auc:.2f}, p = {test.p:.3f}"
    if test.p > level:
        seen = (
            f"{test.second:,} new prompts against {test.first:,} of training show an AUC of {smallest:.2f} in 80 % of the cases: "
            f"as if {_percent(foreign_share(smallest))} of them were unlike any of training"
        )
        return Verdict("alike", f"No drift is seen: {found}. {seen}", smallest)
    if test.auc < min_auc:
        why = f"The new prompts differ, but too little to act on: {found}, and monitor.min_auc is {min_auc:g}"
        return Verdict("small", why, smallest)
    if held_out is not None and held_out.p <= level and not _is_further(test, held_out, level=level):
        why = (
            f"The new prompts differ from those of training ({found}), but so do the held-out prompts of the dataset "
            f"(AUC {held_out.auc:.2f}, p = {held_out.p:.3f}), and the new ones are not further away"
        )
        return Verdict("as held out", why, smallest)
    why = (
        f"The prompts have drifted: a classifier ranks a new prompt above one of training in {_percent(test.auc)} of the pairs, "
        f"where half would be chance ({found}). That is as if {_percent(foreign_share(test.auc))} of them were unlike any of "
        "training"
    )
    return Verdict("drift", why, smallest)


def _is_further(test: TwoSample, held_out: TwoSample, *, level: float) -> bool:
    return bool(test.auc - held_out.auc > ndtri(1 - level) * hypot(test.sd, held_out.sd))


def foreign_share(auc: float) -> float:
    """Return the share of foreign prompts that would give an AUC, if they were always recognised and the others never.

    AUC = share · 1 + (1 - share) / 2,   so   share = 2 AUC - 1, at least 0
    """
    return max(0.0, 2 * auc - 1)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
