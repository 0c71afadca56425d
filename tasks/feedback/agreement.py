"""What the stage `label` says of its labels: how far its annotators agree, and each of them by name (docs/feedback.md)."""

import json
from collections.abc import Sequence
from pathlib import Path

from posttrain.feedback.agreement import agreement_of, as_json
from posttrain.feedback.labels import Label
from tasks.feedback.labels import LABELS
from tasks.workspace.artifacts import Outcome
from tasks.workspace.jsonl import write_rows


def write_labels(out: Path, labels: Sequence[Label]) -> Outcome:
    """Write `labels.jsonl` and `agreement.json`; return the figures of the agreement, and as cost how many labels there are.

    Where it is known how long annotators took, `annotator_seconds` is the sum of it, over the labels that tell.
    """
    write_rows(out / LABELS, (each.model_dump(mode="json") for each in labels))
    agreement = agreement_of(labels)
    (out / "agreement.json").write_text(json.dumps(as_json(agreement), indent=1, ensure_ascii=False), encoding="utf-8")
    took = [label.seconds for label in labels if label.seconds is not None]
    paid = {"annotator_seconds": sum(took)} if took else {}
    return Outcome(metrics={**agreement.figures(), **paid}, costs={"labels": len(labels)})
