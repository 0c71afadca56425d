"""Labels as Argilla 2 keeps them: a record a pair, a response a label, to a LabelQuestion or a RankingQuestion "preference".

A file holds a list of records in the form of `Dataset.records.to_list()` and `to_json()`, flattened or not. Argilla knows
people by a UUID alone; a name becomes one, and stands with what only our form knows in the record's metadata.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from tasks.labelling.exchange.interface import (
    CHOICES,
    FIRST,
    PREFERENCE,
    SECOND,
    Bad,
    Draft,
    Found,
    Passed,
    ShownPair,
    choice_of,
    chosen,
    listed,
    rows_of,
    shortened,
    shown_in,
    shown_prompt,
)

FIELDS = ("prompt", FIRST, SECOND)
"""What people see; the rest of what was shown is metadata."""
LABELS = "labels"
"""The metadata that holds what only our form knows: a list, as text."""


def _record(pair: ShownPair) -> dict[str, Any]:
    shown = {**pair.fields, "prompt": shown_prompt(pair.fields["prompt"])}
    responses = [{"value": choice_of(own["preference"]), "user_id": user_of(own["annotator"])} for own in pair.labels]
    metadata = {name: value for name, value in shown.items() if name not in FIELDS}
    return {
        "id": f"pair-{pair.name}",
        "fields": {name: shown[name] for name in FIELDS},
        "metadata": {**metadata, LABELS: json.dumps(list(pair.labels), ensure_ascii=False)},
        "suggestions": {},
        "responses": {PREFERENCE: responses},
        "vectors": {},
    }


def user_of(annotator: str) -> str:
    """Return the UUID by which Argilla may know an annotator; a name that is one already stays."""
    is_one = len(annotator) == 36 and annotator.count("-") == 4
    return annotator if is_one else str(uuid5(NAMESPACE_URL, f"posttrain/annotator/{annotator}"))


# --- reading ------------------------------------------------------------------------------------------------------------


def read(text: str) -> Iterator[Found]:
    """Yield what each response of each record says; drafts and discarded ones are passed over."""
    for number, row in enumerate(rows_of(text, "a list of records (to_list() or to_json() of Argilla)"), 1):
        where = f"record {number}"
        record = _nested(row) if isinstance(row, dict) else None
        if record is None:
            yield Bad(where, f"a record is an object with fields, got {shortened(row)}. Write to_list() or to_json() of Argilla")
            continue
        responses = record["responses"]
        if not responses:
            yield Passed(where, "not labelled yet")
        own = _own(record["metadata"])
        for place, response in enumerate(responses, 1):
            yield from _read_response(f"{where}, response {place}", record, response, own)


def _nested(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return id, fields, metadata and the responses to "preference" of a record, flattened or not; None where it is none."""
    if isinstance(row.get("fields"), dict):
        metadata, responses = row.get("metadata") or {}, (row.get("responses") or {})
        if not isinstance(metadata, dict) or not isinstance(responses, dict):
            return None
        answers = responses.get(PREFERENCE) or []
        if not isinstance(answers, list):
            return None
        return {"id": row.get("id"), "fields": row["fields"], "metadata": metadata, "responses": answers}
    if not {FIRST, SECOND} <= set(row):
        return None
    parts = [row.get(f"{PREFERENCE}.responses{part}") or [] for part in ("", ".users", ".status")]
    if not all(isinstance(part, list) for part in parts):
        return None
    values, users, states = parts
    answers = [
        {"value": value, "user_id": user, "status": states[place] if place < len(states) else None}
        for place, (value, user) in enumerate(zip(values, users, strict=False))
    ]
    plain = {name: value for name, value in row.items() if not name.startswith(f"{PREFERENCE}.")}
    fields = {name: value for name, value in plain.items() if name in FIELDS}
    return {"id": row.get("id"), "fields": fields, "metadata": plain, "responses": answers}


def _own(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what our form knows of the labels that an export wrote."""
    try:
        labels = json.loads(metadata[LABELS])
    except (KeyError, TypeError, ValueError):
        return []
    return [one for one in labels if isinstance(one, dict)] if isinstance(labels, list) else []


def _read_response(where: str, record: Mapping[str, Any], response: Any, own: list[dict[str, Any]]) -> Iterator[Found]:
    if not isinstance(response, dict):
        yield Bad(where, f"a response is an object, got {shortened(response)}. Drop it")
        return
    if response.get("status") in ("draft", "discarded"):
        yield Passed(where, f"a response that is {response['status']}")
        return
    user, value = str(response.get("user_id") or ""), response.get("value")
    shown = shown_in(record["metadata"])
    named = {"annotator": user, "id": f"argilla-{record['id']}-{user}"}
    if isinstance(value, list):
        yield from _read_ranking(where, record["fields"], value, {**shown, **named})
        return
    if not isinstance(value, str) or value not in CHOICES:
        yield Bad(
            where, f"the value must be one of {', '.join(CHOICES)}, or a ranking, got {shortened(value)}. Correct or drop it"
        )
        return
    # several labels of one person (a repeated pair) are met in the order in which they were written
    mine = next((one for one in own if user_of(str(one.get("annotator", ""))) == user), None)
    if mine is not None:
        own.remove(mine)
    yield Draft(where, {**shown, **_fields(record["fields"]), **named, **chosen(value, mine or {})})


def _fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in FIELDS if name in fields}


def _read_ranking(where: str, texts: Mapping[str, Any], value: Sequence[Any], shared: Mapping[str, Any]) -> Iterator[Found]:
    """Yield the K (K - 1) / 2 labels of a ranking of K fields: their names, the best first, or objects with a rank."""
    ranks: dict[str, int] = {}
    for place, one in enumerate(value, 1):
        name, rank = (one.get("value"), one.get("rank", place)) if isinstance(one, dict) else (one, place)
        is_new = isinstance(name, str) and name in texts and name not in ranks
        if not isinstance(name, str) or not is_new or isinstance(rank, bool) or not isinstance(rank, int):
            known = ", ".join(other for other in texts if other != "prompt")
            yield Bad(where, f"a ranking names each of {known} once, with a whole rank, got {shortened(one)}. Correct or drop it")
            return
        ranks[name] = rank
    if len(ranks) < 2:
        yield Bad(where, f"a ranking needs two fields at least, got {shortened(list(value))}. Drop it")
        return
    for number, (one, other) in enumerate(combinations([name for name in texts if name in ranks], 2), 1):
        better = ranks[one] - ranks[other]
        yield Draft(
            where,
            {
                **shared,
                "id": f"{shared['id']}-{number}" if len(ranks) > 2 else shared["id"],
                "group": shared["id"],
                **({"prompt": texts["prompt"]} if "prompt" in texts else {}),
                "first": texts[one],
                "second": texts[other],
                "preference": 1.0 if better < 0 else 0.0 if better > 0 else 0.5,
            },
        )


FORM = listed(
    _record,
    name="argilla",
    says="records of Argilla 2 with responses to a LabelQuestion or RankingQuestion called preference",
    loses="nothing, as long as the metadata is kept; of a response that was given in Argilla: the name of its annotator (a UUID "
    "stands for it), at, seconds, margin, prompt_version, selection",
    read=read,
)
