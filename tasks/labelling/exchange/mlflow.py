"""Labels as MLflow keeps them (3.14 and later): a trace a pair, a feedback of its assessments a label.

A file holds a list of traces in the form of `Trace.to_dict()`, which `Trace.from_dict()` reads back. What only our form knows
stands in the feedback's metadata. Nothing here imports MLflow: the form is text.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.labelling.exchange.interface import (
    CHOICES,
    PREFERENCE,
    Bad,
    Draft,
    Found,
    Passed,
    ShownPair,
    choice_of,
    chosen,
    digest_of,
    listed,
    rows_of,
    shortened,
    shown_in,
)

INPUTS, OUTPUTS = "mlflow.spanInputs", "mlflow.spanOutputs"
OF_OUTPUT = ("first", "second")
UNKNOWN_TIME = "1970-01-01T00:00:00Z"
"""Of a label that does not say when: the form wants a time."""
SOURCES = {"person": "HUMAN", "judge": "LLM_JUDGE", "simulated": "CODE", "dataset": "HUMAN"}


def _trace(pair: ShownPair) -> dict[str, Any]:
    # an id of a trace has 16 bytes, and one of a span 8
    number = digest_of([pair.name, "trace"]) + pair.name
    trace_id = f"tr-{number}"
    inputs = {name: value for name, value in pair.fields.items() if name not in OF_OUTPUT}
    outputs = {name: pair.fields[name] for name in OF_OUTPUT}
    written = {name: json.dumps(value, ensure_ascii=False) for name, value in ((INPUTS, inputs), (OUTPUTS, outputs))}
    times = sorted(own["at"] for own in pair.labels if own.get("at")) or [UNKNOWN_TIME]
    span: dict[str, Any] = {
        "trace_id": _base64(number),
        "span_id": _base64(pair.name),
        "parent_span_id": None,
        "name": "pair",
        "start_time_unix_nano": 0,
        "end_time_unix_nano": 1,
        "events": [],
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "attributes": {"mlflow.traceRequestId": json.dumps(trace_id), "mlflow.spanType": json.dumps("UNKNOWN"), **written},
        "links": [],
    }
    info = {
        "trace_id": trace_id,
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}},
        "request_preview": written[INPUTS],
        "response_preview": written[OUTPUTS],
        "request_time": times[0],
        "execution_duration_ms": 0,
        "state": "OK",
        "assessments": [_feedback(trace_id, own) for own in pair.labels],
    }
    return {"info": info, "data": {"spans": [span]}}


def _feedback(trace_id: str, own: Mapping[str, Any]) -> dict[str, Any]:
    at = own.get("at") or UNKNOWN_TIME
    return {
        "assessment_name": PREFERENCE,
        "trace_id": trace_id,
        "source": {"source_type": SOURCES[own["source"]], "source_id": own["annotator"]},
        "create_time": at,
        "last_update_time": at,
        "feedback": {"value": choice_of(own["preference"])},
        "metadata": {"label": json.dumps(own, ensure_ascii=False)},
        "valid": True,
    }


def _base64(number: str) -> str:
    return base64.b64encode(bytes.fromhex(number)).decode("ascii")


# --- reading ------------------------------------------------------------------------------------------------------------


def read(text: str) -> Iterator[Found]:
    """Yield what each trace's feedback called "preference" says; other assessments, and a model's, are passed over."""
    for number, trace in enumerate(rows_of(text, "a list of traces (Trace.to_dict() of MLflow)"), 1):
        where = f"trace {number}"
        try:
            assessments = list(trace["info"].get("assessments") or [])
            shown = _shown(list(trace["data"]["spans"]))
        except (KeyError, TypeError, AttributeError):
            yield Bad(where, f"a trace is an object with info and data, got {shortened(trace)}. Write Trace.to_dict() of each")
            continue
        if shown is None:
            yield Bad(
                where,
                "the trace's root span must have inputs with prompt or question, and outputs with first and second. Take traces "
                "that an export made, or drop it",
            )
            continue
        if not assessments:
            yield Passed(where, "not labelled yet")
        for place, told in enumerate(assessments, 1):
            yield _read_assessment(f"{where}, assessment {place}", shown, told)


def _shown(spans: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return what a trace shows, from the inputs and outputs of its root; None where that is no pair."""
    for span in spans:
        if span.get("parent_span_id") or span.get("parent_id"):
            continue
        try:
            inputs, outputs = (json.loads(span["attributes"][name]) for name in (INPUTS, OUTPUTS))
            shown = shown_in({**inputs, **outputs})
        except (KeyError, TypeError, ValueError):
            return None
        return shown if {"first", "second"} <= set(shown) and {"prompt", "question"} & set(shown) else None
    return None


def _read_assessment(where: str, shown: Mapping[str, Any], told: Any) -> Found:
    if not isinstance(told, dict):
        return Bad(where, f"an assessment is an object, got {shortened(told)}. Drop it")
    given_by = told.get("source")
    source: Mapping[str, Any] = given_by if isinstance(given_by, dict) else {}
    if told.get("assessment_name") != PREFERENCE or not isinstance(told.get("feedback"), dict):
        return Passed(where, f'no feedback called "{PREFERENCE}"')
    if source.get("source_type") != "HUMAN":
        return Passed(where, "not by a person")
    if told.get("valid") is False:
        return Passed(where, "replaced by a later one")
    value = told["feedback"].get("value")
    if not isinstance(value, str) or value not in CHOICES:
        return Bad(where, f"the value must be one of {', '.join(CHOICES)}, got {shortened(value)}. Correct or drop it")
    fields = {**shown, **chosen(value, _own(told.get("metadata")))}
    fields.setdefault("annotator", str(source.get("source_id") or ""))
    if told.get("create_time", UNKNOWN_TIME) != UNKNOWN_TIME and "id" not in fields:
        fields.setdefault("at", told["create_time"])
    fields.setdefault("id", f"mlflow-{told.get('assessment_id') or digest_of([shown, told])}")
    return Draft(where, fields)


def _own(metadata: Any) -> dict[str, Any]:
    """Return our own fields of a feedback that an export wrote."""
    try:
        own = json.loads(metadata["label"])
    except (KeyError, TypeError, ValueError):
        return {}
    return own if isinstance(own, dict) else {}


FORM = listed(
    _trace,
    name="mlflow",
    says="traces of MLflow 3.14 or later with feedback, as Trace.to_dict() gives them",
    loses="nothing, as long as the feedback keeps its metadata; of feedback that was given in MLflow: seconds, group, margin, "
    "prompt_version, selection",
    read=read,
)
