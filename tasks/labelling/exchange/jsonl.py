"""Labels as JSON lines: our own form (docs/feedback.md), and plain preferences, of which one text is chosen, one rejected."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from posttrain.errors import did_you_mean
from posttrain.feedback.labels import Label, in_fixed_order
from tasks.labelling.exchange.interface import Bad, Draft, Form, Found, digest_of, shortened

OF_PLAIN = {
    "id",
    "kind",
    "family",
    "prompt",
    "question",
    "chosen",
    "rejected",
    "annotator",
    "margin",
    "at",
    "seconds",
    "chosen_model",
    "rejected_model",
    "chosen_finished",
    "rejected_finished",
}
"""Fields of a plain preference."""


def write(labels: Sequence[Label]) -> str:
    """Return one label a line, with all of its fields."""
    return "".join(json.dumps(label.model_dump(mode="json"), ensure_ascii=False) + "\n" for label in labels)


def read(text: str) -> Iterator[Found]:
    """Yield what each line says; a line with `chosen` is a plain preference."""
    for number, line in enumerate(text.split("\n"), 1):
        where = f"line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = str(error).partition(":")[0]
            yield Bad(where, f"broken JSON ({reason}). Each line is one whole JSON object; correct or drop the line")
            continue
        if not isinstance(row, dict):
            yield Bad(where, f"a label is a JSON object, got {shortened(row)}. docs/feedback.md shows its form")
        elif "chosen" in row:
            yield _plain(where, row)
        else:
            yield Draft(where, row)


def _plain(where: str, row: Mapping[str, Any]) -> Found:
    """Return a plain preference as a label: nobody knows the order shown, so the texts stand in that of their digests."""
    if unknown := [name for name in row if name not in OF_PLAIN]:
        remedy = did_you_mean(unknown[0], OF_PLAIN) or f". Its fields are {', '.join(sorted(OF_PLAIN))}"
        return Bad(where, f"a preference has no field {unknown[0]}{remedy}")
    chosen, rejected = row["chosen"], row.get("rejected")
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        return Bad(
            where,
            f"chosen and rejected must be texts, got {shortened(chosen)} and {shortened(rejected)}. Write the response alone; "
            "the prompt stands in prompt",
        )
    first, _ = in_fixed_order(chosen, rejected)
    is_first = first == chosen
    names = {"chosen": "first" if is_first else "second", "rejected": "second" if is_first else "first"}
    fields = {name: value for name, value in row.items() if name not in ("kind", "chosen", "rejected") and value is not None}
    for side, name in names.items():
        for part in ("model", "finished"):
            if (value := fields.pop(f"{side}_{part}", None)) is not None:
                fields[f"{name}_{part}"] = value
        fields[name] = row[side]
    fields["preference"] = 1.0 if is_first else 0.0
    # without an id of its own a preference is named by what it says, so that the same file read twice counts once
    fields.setdefault("id", f"preference-{digest_of(fields)}")
    return Draft(where, fields)


FORM = Form(
    name="jsonl",
    says="our own form, one label a line (docs/feedback.md); plain preferences are read too",
    loses="nothing",
    write=write,
    read=read,
)
