"""Whatever stands in a foreign file, reading it ends in labels or in one error of ours."""

import copy
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.errors import DataError
from posttrain.feedback.labels import Label
from tasks.labelling.exchange.table import FORMS
from tests.tasks.labelling.test_exchange_forms import LABELS, read

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from(["first", "left", "equal", "choices", "\ud800", "1e999"]),
    st.lists(st.one_of(st.integers(), st.text(max_size=2), st.lists(st.none(), max_size=1)), max_size=3),
    st.dictionaries(st.sampled_from(["value", "rank", "selected", "label", "data", "id"]), st.integers(0, 2), max_size=2),
)


FLAT = {"id": "r-1", "prompt": "What is 2 + 2?", "first": "4", "second": "5", "question": "q-1", "labels": None}
FLAT |= {"preference.responses": ["first"], "preference.responses.users": ["7"], "preference.responses.status": ["submitted"]}
RANKED = {
    "id": "r-2",
    "fields": {"prompt": "What is 2 + 2?", "a": "4", "b": "5", "c": "6"},
    "metadata": {"question": "q-1"},
    "responses": {"preference": [{"user_id": "7", "value": [{"value": "a", "rank": 1}, {"value": "b", "rank": 2}]}]},
}


def places(value, path=()):
    """Yield the path of every part of a JSON value."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from places(part, (*path, name))


def changed(value, path, new):
    """Return a copy with one part exchanged, or taken away where `new` is the text "gone"."""
    if not path:
        return new
    whole = copy.deepcopy(value)
    part = whole
    for name in path[:-1]:
        part = part[name]
    if new == "gone":
        del part[path[-1]]
    else:
        part[path[-1]] = new
    return whole


GOOD = {
    "label-studio": json.loads(FORMS["label-studio"].write(LABELS)),
    "mlflow": json.loads(FORMS["mlflow"].write(LABELS)),
    "argilla": [*json.loads(FORMS["argilla"].write(LABELS)), FLAT, RANKED],
    "jsonl": [json.loads(line) for line in FORMS["jsonl"].write(LABELS).split("\n")[:-1]],
}
PLACES = {name: list(places(value)) for name, value in GOOD.items()}


@settings(max_examples=300)
@given(data=st.data(), form=st.sampled_from(sorted(FORMS)), new=st.one_of(VALUES, st.just("gone")))
def test_one_part_exchanged(data, form, new):
    path = data.draw(st.sampled_from(PLACES[form]))
    if not path and form == "jsonl":
        return
    rows = changed(GOOD[form], path, new)
    text = "\n".join(map(json.dumps, rows)) if form == "jsonl" else json.dumps(rows)
    try:
        got = read(form, text, there=LABELS[:2])
    except DataError as error:
        assert str(error), "it says what is wrong"
        return
    assert all(isinstance(label, Label) and label.source == "person" for label in got.new)
