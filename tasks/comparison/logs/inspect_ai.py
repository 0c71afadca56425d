"""Logs of inspect_ai, `.eval` (a zip archive) and `.json`: a system on a task, several epochs of each question."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from posttrain.data.formats.items import Item
from posttrain.errors import DataError
from posttrain.finite import shown_value
from tasks.comparison.logs.archive import Archive, opened
from tasks.comparison.logs.log import REMEDY, Log, Row, as_score, checked, group_of, one_of, unique

NAME = "inspect_ai"
HEADER = "header.json"
START = "_journal/start.json"
SAMPLES = "samples/"
FINISHED = "success"


def recognises(row: Mapping[str, Any]) -> bool:
    """Return whether a file begins with an object of this form."""
    return isinstance(row.get("eval"), Mapping) and "status" in row


def read(items: Iterator[Item], *, path: Path, shown: str, metric: str) -> list[Log]:
    """Return the log of a `.json` file.

    Raises:
        RequestError: several scorers and none was chosen, or several values of one.
        DataError: the run did not finish, or a sample is wrong.
    """
    whole = [checked(item) for item in items]
    if len(whole) != 1:
        raise DataError(f"{shown} holds {len(whole)} objects, and a log of inspect_ai is one. {REMEDY}")
    samples = whole[0].get("samples")
    if not isinstance(samples, list):
        raise DataError(f"{shown} has no samples, only the header of a log. Write the log whole: --log-samples")
    numbered = (Item(one, source=shown, unit="sample", number=number) for number, one in enumerate(samples, 1))
    return [_log(whole[0], numbered, shown=shown, metric=metric)]


def read_archive(path: Path, *, shown: str, metric: str) -> list[Log]:
    """Return the log of an `.eval` file; errors as in `read`, and for a damaged archive."""
    with opened(path, shown=shown) as archive:
        if HEADER not in archive.names and START in archive.names:
            raise _unfinished(shown, "started")
        header = checked(_member(archive, HEADER))
        names = sorted(name for name in archive.names if name.startswith(SAMPLES) and name.endswith(".json"))
        return [_log(header, (_member(archive, name) for name in names), shown=shown, metric=metric)]


def _member(archive: Archive, name: str) -> Item:
    item = Item(None, source=archive.shown, unit="member", number=0)
    try:
        item.row = json.loads(archive.read(name))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{archive.shown}: {name} is no JSON ({error}). {REMEDY}") from None
    return item


def _unfinished(shown: str, status: object) -> DataError:
    return DataError(
        f"{shown} is the log of a run that did not finish (status {status}), so its questions are not all there. "
        "Finish it: inspect eval-retry"
    )


def _log(header: Mapping[str, Any], samples: Iterable[Item], *, shown: str, metric: str) -> Log:
    about = header.get("eval")
    if not isinstance(about, Mapping):
        raise DataError(f"{shown} has no field eval, so it does not say what it is a log of. {REMEDY}")
    if header.get("status") != FINISHED:
        raise _unfinished(shown, header.get("status"))
    rows = [(item, checked(item)) for item in samples]
    if not rows:
        raise DataError(f"{shown} has no samples. Check that it is the file you meant and was written to its end")
    names = list(dict.fromkeys(name for item, row in rows for name in _scores(item, row)))
    chosen = one_of(names, metric, shown=shown, what="metric")
    plan = header.get("plan")
    config = plan.get("config") if isinstance(plan, Mapping) else None
    settings = {**config} if isinstance(config, Mapping) else {}
    seed = settings.pop("seed", None)
    setup = [about.get(name) for name in ("task", "task_args", "model_args", "solver", "solver_args")]
    return Log(
        shown=shown,
        form=NAME,
        system=str(about.get("model") or Path(shown).stem),
        seed=seed if isinstance(seed, int) else None,
        setup=json.dumps([*setup, settings], sort_keys=True, default=str),
        metric=chosen,
        rows=_by_question(rows, chosen),
    )


def _scores(item: Item, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sample's scores by name: the scorer's, with the value's own behind it where a scorer gives several."""
    found: dict[str, Any] = {}
    scores = row.get("scores")
    if not isinstance(scores, Mapping) or not scores:
        why = f" ({shown_value(row['error'])})" if row.get("error") else ""
        item.fail(f"question {shown_value(row.get('id'))} has no score{why}", "Finish the run: inspect eval-retry")
    for name, score in scores.items():
        value = score.get("value") if isinstance(score, Mapping) else None
        if isinstance(value, Mapping):
            found |= {f"{name}.{part}": inner for part, inner in value.items()}
        else:
            found[str(name)] = value
    return found


def _by_question(samples: Iterable[tuple[Item, Mapping[str, Any]]], metric: str) -> dict[str, Row]:
    """Return a row a question, its epochs in order as its scores.

    Raises:
        DataError: an epoch of a question stands twice, or the epochs of one question ask different things.
    """
    by_epoch: list[tuple[str, int, Item, Row]] = []
    for item, row in samples:
        scores = _scores(item, row)
        if metric not in scores:
            item.fail(f"question {shown_value(row.get('id'))} has no score {metric}", REMEDY)
        epoch = row.get("epoch", 1)
        if not isinstance(epoch, int) or isinstance(epoch, bool):
            item.fail(f"epoch must be a whole number, got {shown_value(epoch)}", REMEDY)
        item.number = epoch
        by_epoch.append((str(row.get("id")), epoch, item, _row(item, row, as_score(item, metric, scores[metric]))))
    # each epoch is a table of its own, in which a question may stand once
    epochs = sorted({epoch for _, epoch, _, _ in by_epoch})
    tables = [unique((item, row) for _, own, item, row in by_epoch if own == epoch) for epoch in epochs]
    found: dict[str, Row] = {}
    for table in tables:
        for name, answered in table.items():
            before = found.get(name)
            found[name] = answered if before is None else replace(before, scores=before.scores + answered.scores)
    return found


def _row(item: Item, row: Mapping[str, Any], score: float) -> Row:
    target, output = row.get("target"), row.get("output")
    if row.get("id") is None:
        item.fail("there is no id", REMEDY)
    prompt = _text(row.get("input"))
    answers = tuple(map(str, target)) if isinstance(target, list) else () if target is None else (str(target),)
    completion = output.get("completion") if isinstance(output, Mapping) else None
    if completion is None and isinstance(output, Mapping):
        completion = _first_choice(output)
    return Row(
        id=str(row["id"]),
        prompt=prompt,
        answers=answers,
        group=group_of(row.get("metadata")),
        content=json.dumps([prompt, answers]),
        scores=(score,),
        text=completion if isinstance(completion, str) else None,
    )


def _first_choice(output: Mapping[str, Any]) -> str | None:
    choices = output.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, Mapping) else None
    return _text(message.get("content")) if isinstance(message, Mapping) else None


def _text(value: Any) -> str:
    """Return text, or the text of messages and their parts, one after the other."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(text for one in value if (text := _text(one)))
    if isinstance(value, Mapping):
        return _text(value.get("content", value.get("text", "")))
    return ""
