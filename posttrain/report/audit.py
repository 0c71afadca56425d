"""The audit as a reader has it: which figure of which stage stands in which line of a report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Form = Literal["share", "points", "number", "signed", "count"]
WHO = {
    "simulated": "simulated annotators",
    "dataset": "the dataset's annotators",
    "judge": "an AI judge",
    "people": "people",
}
"""Who labelled, by `labels.source`; what is simulated is called so."""


@dataclass(frozen=True)
class AuditRow:
    """A line: the part of the audit and the key in it, what people call it, and how it is written.

    `share` is per cent and `points` a signed difference of shares, both 100 times the figure. Where the part has `<key>_low`
    and `<key>_high` too, the interval stands behind. A label's `{name}` is the part's figure of that name.
    """

    part: str
    key: str
    label: str
    form: Form


PARTS = ("labels", "second_opinion", "self_preference", "reward_model", "proxy")
"""Of an audit: figures of the stages of that name, `proxy` of the stage `audit`."""
AUDIT_ROWS: Mapping[str, tuple[AuditRow, ...]] = {
    "labels": (
        AuditRow("labels", "labels", "labels", "count"),
        AuditRow("labels", "pairs", "pairs they are of", "count"),
        AuditRow("labels", "annotators", "annotators", "count"),
        AuditRow("labels", "annotator_seconds", "seconds that they took", "count"),
        AuditRow("proxy", "labels_agreement_gold", "gold agrees (%)", "share"),
        AuditRow("labels", "accuracy", "gold agrees (%)", "share"),
        AuditRow("labels", "flipped_share", "flipped by the simulation (%)", "share"),
        AuditRow("labels", "agreement", "two annotators agree (%)", "share"),
        AuditRow("labels", "seconded", "the better one is named by another, too (%)", "share"),
        AuditRow("labels", "kappa", "Cohen's κ", "number"),
        AuditRow("labels", "alpha", "Krippendorff's α", "number"),
        AuditRow("second_opinion", "people_agreement", "people decide alike (%)", "share"),
        AuditRow("second_opinion", "simulated_agreement", "simulated annotators decide alike (%)", "share"),
        AuditRow("labels", "equal_share", "that say equal (%)", "share"),
        AuditRow("labels", "contradictions", "pairs labelled both ways by one annotator", "count"),
        AuditRow("labels", "cycles", "prompts with preferences in a circle", "count"),
        AuditRow("labels", "flip_share", "another winner when the order is swapped (%)", "share"),
        AuditRow("labels", "position_bias", "the judge's lean to the first place (points)", "points"),
        AuditRow("labels", "longer_share", "the judge prefers the longer (%)", "share"),
        AuditRow("labels", "conviction", "conviction (distance from ½)", "number"),
        AuditRow("labels", "unreadable_share", "replies that could not be read (%)", "share"),
        AuditRow("labels", "asked", "questions to the judge", "count"),
        AuditRow("labels", "judge", "price of its answers", "number"),
        AuditRow("proxy", "labels_first_beyond_gold", "lean to the first shown, beyond gold (points)", "points"),
        AuditRow("proxy", "labels_longer_beyond_gold", "lean to the longer, beyond gold (points)", "points"),
        AuditRow("proxy", "labels_longer_of_equals", "longer preferred of what gold calls equal (%)", "share"),
        AuditRow("self_preference", "own", "the judge prefers its own responses (%)", "share"),
        AuditRow("self_preference", "own_beyond_gold", "lean to the judge's own, beyond gold (points)", "points"),
    ),
    "reward model": (
        AuditRow("reward_model", "accuracy", "accuracy against labels (%)", "share"),
        AuditRow("reward_model", "accuracy_gold", "accuracy against gold (%)", "share"),
        AuditRow("reward_model", "seconded", "beside it: that of a second annotator (%)", "share"),
        AuditRow("reward_model", "ece", "expected calibration error", "number"),
        AuditRow("reward_model", "length_correlation", "correlation of score and length", "signed"),
    ),
    "proxy and gold": (
        AuditRow("proxy", "end_proxy_start", "proxy before PPO (own unit)", "number"),
        AuditRow("proxy", "end_proxy", "proxy after PPO (own unit)", "number"),
        AuditRow("proxy", "end_gold_start", "gold before PPO (%)", "share"),
        AuditRow("proxy", "end_gold", "gold after PPO (%)", "share"),
        AuditRow("proxy", "best_of_n_gold", "gold of the best of {best_of_n:.0f} by proxy (%)", "share"),
        AuditRow("proxy", "end_kl", "KL after PPO (nats)", "number"),
        AuditRow("proxy", "end_proxy_gain", "proxy gained (deviations)", "signed"),
        AuditRow("proxy", "end_gold_gain", "gold gained (deviations)", "signed"),
        AuditRow("proxy", "end_gap", "gap between them (deviations)", "signed"),
    ),
}
"""By heading, in order. A figure that is undefined has no line; how often gold agrees is told by a judge's stage, or else by
the audit's."""


def audit_rows(audit: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """Return the audit as text: by heading its lines of label and value, headings without any left out.

    Args:
        audit: as `posttrain.report.pipeline.build_report` takes it.
    """
    parts: dict[str, Mapping[str, float]] = {part: audit.get(part) or {} for part in PARTS}
    found = {}
    for heading, rows in AUDIT_ROWS.items():
        defined = [row for row in rows if row.key in parts[row.part]]
        lines = [[row.label.format(**parts[row.part]), _written(parts[row.part], row.key, row.form)] for row in defined]
        who = f" of {WHO[audit['source']]}" if heading == "labels" and audit.get("source") else ""
        if lines:
            found[f"{heading}{who}"] = lines
    return found


def _written(figures: Mapping[str, float], key: str, form: Form) -> str:
    scale = 100 if form in ("share", "points") else 1
    spec = {"share": ".1f", "points": "+.1f", "number": ".2f", "signed": "+.2f", "count": ",.0f"}[form]
    low, high = f"{key}_low", f"{key}_high"
    text = f"{scale * figures[key]:{spec}}"
    if low not in figures or high not in figures:
        return text
    between = " to " if form in ("points", "signed") else "–"  # a dash before a minus cannot be read
    return f"{text} [{scale * figures[low]:{spec}}{between}{scale * figures[high]:{spec}}]"
