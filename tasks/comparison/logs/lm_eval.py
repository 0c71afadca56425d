"""`samples_<task>_<time>.jsonl` of lm-evaluation-harness, which `--log_samples` writes: a row a question and filter."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from posttrain.data.formats.items import Item
from posttrain.finite import shown_value
from tasks.comparison.logs.log import REMEDY, Log, Row, as_score, checked, group_of, one_of, unique

NAME = "lm-evaluation-harness"
ONLY_FILTER = "none"
"""What it calls the filter of a task that has none."""


def recognises(row: Mapping[str, Any]) -> bool:
    """Return whether a file begins with a row of this form."""
    return {"doc_id", "doc", "filtered_resps"} <= row.keys()


def read(items: Iterator[Item], *, path: Path, shown: str, metric: str) -> list[Log]:
    """Return the one log of a file.

    The file does not say which model it is of: its folder does, `<model>/samples_<task>_<time>.jsonl`. A task that scores in
    several ways has metrics named as the tool's own tables have them: `exact_match`, or `exact_match,strict-match`.

    Raises:
        RequestError: several metrics, or filters, and none was chosen.
        DataError: a row is wrong.
    """
    rows = [(item, checked(item)) for item in items]
    names = list(dict.fromkeys(name for item, row in rows for name in _metrics(item, row)))
    chosen = one_of(names, metric, shown=shown, what="metric")
    kept = ((item, _row(item, row, chosen)) for item, row in rows if chosen in _metrics(item, row))
    return [
        Log(
            shown=shown,
            form=NAME,
            system=path.resolve().parent.name.replace("__", "/") or path.stem,
            seed=None,
            setup=path.stem.removeprefix("samples_").rpartition("_")[0],
            metric=chosen,
            rows=unique(kept),
        )
    ]


def _metrics(item: Item, row: Mapping[str, Any]) -> list[str]:
    """Return the metrics of a row, with its filter behind each unless the task has none."""
    names = row.get("metrics")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        item.fail(f"metrics must be a list of names, got {shown_value(names)}", REMEDY)
    used = str(row.get("filter") or ONLY_FILTER)
    return [name if used == ONLY_FILTER else f"{name},{used}" for name in names]


def _row(item: Item, row: Mapping[str, Any], metric: str) -> Row:
    name = metric.partition(",")[0]
    if name not in row:
        item.fail(f"metrics names {name}, and there is no such field", REMEDY)
    if "doc_id" not in row:
        item.fail("there is no field doc_id", REMEDY)
    doc = row.get("doc")
    content = row.get("doc_hash") or json.dumps(doc, sort_keys=True, default=str)
    return Row(
        id=str(row["doc_id"]),
        prompt=_prompt(row, doc),
        answers=_answers(row, doc),
        group=group_of(doc),
        content=str(content),
        scores=(as_score(item, name, row[name]),),
        text=_text(row),
    )


def _prompt(row: Mapping[str, Any], doc: Any) -> str:
    """Return the question of the doc where it has one, which is shorter than a prompt with its shots, else the prompt."""
    if isinstance(doc, Mapping) and isinstance(doc.get("question"), str):
        return str(doc["question"])
    arguments = row.get("arguments")
    first = arguments.get("gen_args_0") if isinstance(arguments, Mapping) else None
    prompt = first.get("arg_0") if isinstance(first, Mapping) else None
    return prompt if isinstance(prompt, str) else json.dumps(doc, ensure_ascii=False, default=str)


def _answers(row: Mapping[str, Any], doc: Any) -> tuple[str, ...]:
    """Return the target; where it is the place of a choice, the choice."""
    target = row.get("target")
    choices = doc.get("choices") if isinstance(doc, Mapping) else None
    if isinstance(choices, list) and isinstance(target, str | int) and str(target).isdecimal() and int(target) < len(choices):
        target = choices[int(target)]
    if target is None:
        return ()
    return tuple(str(one) for one in target) if isinstance(target, list) else (str(target),)


def _text(row: Mapping[str, Any]) -> str | None:
    """Return the response itself; a task of choices has log-likelihoods in its place, and no text."""
    found: Any = row.get("resps")
    while isinstance(found, list) and found:
        found = found[0]
    is_likelihood = isinstance(row.get("arguments"), Mapping) and "gen_args_1" in row["arguments"]
    return found if isinstance(found, str) and not is_likelihood else None
