"""Records: what each kind holds, and what it refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from posttrain.records import (
    ANY_RECORD,
    KIND_OF_ROLE,
    Demonstration,
    Message,
    Preference,
    Question,
    Ranking,
    Rating,
    Text,
)

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
MESSAGE = st.builds(Message, role=st.sampled_from(["system", "user", "assistant", "tool"]), content=TEXT)
PROMPT = st.one_of(TEXT, st.lists(MESSAGE, max_size=3).map(tuple))
SHARED = {"id": TEXT, "family": st.one_of(st.none(), TEXT)}
ANNOTATOR = st.one_of(st.none(), TEXT)
RANKED = st.lists(st.tuples(TEXT, st.integers(1, 5)), max_size=4)
RECORD = st.one_of(
    st.builds(Text, **SHARED, text=TEXT),
    st.builds(Demonstration, **SHARED, prompt=PROMPT, completion=TEXT, answer=ANNOTATOR),
    st.builds(Question, **SHARED, prompt=PROMPT, answers=st.lists(TEXT, max_size=3).map(tuple)),
    st.builds(Preference, **SHARED, prompt=PROMPT, chosen=TEXT, rejected=TEXT, annotator=ANNOTATOR),
    st.builds(Rating, **SHARED, prompt=PROMPT, completion=TEXT, score=st.floats(0, 1), annotator=ANNOTATOR),
    st.builds(
        lambda pairs, **rest: Ranking(completions=tuple(a for a, _ in pairs), ranks=tuple(b for _, b in pairs), **rest),
        RANKED,
        **SHARED,
        prompt=PROMPT,
        annotator=ANNOTATOR,
    ),
)


@given(RECORD)
def test_a_record_comes_back_from_json_as_what_it_was(record):
    assert ANY_RECORD.validate_json(record.model_dump_json()) == record
    assert ANY_RECORD.validate_json(record.model_dump_json(exclude_none=True)) == record


def test_kind_decides_what_a_line_is():
    line = {"id": "1", "prompt": "p"}
    assert isinstance(ANY_RECORD.validate_python({**line, "kind": "question"}), Question)
    assert isinstance(ANY_RECORD.validate_python({**line, "kind": "demonstration", "completion": "c"}), Demonstration)


@pytest.mark.parametrize(
    ("line", "where", "kind"),
    [
        ({"kind": "question", "id": "1"}, ("question", "prompt"), "missing"),
        ({"kind": "question", "id": "1", "prompt": "p", "answer": "4"}, ("question", "answer"), "extra_forbidden"),
        ({"kind": "question", "id": 1, "prompt": "p"}, ("question", "id"), "string_type"),
        ({"kind": "poem", "id": "1", "prompt": "p"}, (), "union_tag_invalid"),
        ({"id": "1", "prompt": "p"}, (), "union_tag_not_found"),
        (
            {"kind": "question", "id": "1", "prompt": [{"role": "robot", "content": "x"}]},
            ("question", "prompt", "tuple[Message, ...]", 0, "role"),
            "literal_error",
        ),
    ],
)
def test_a_line_that_is_no_record_is_refused_where_it_is_wrong(line, where, kind):
    with pytest.raises(ValidationError) as caught:
        ANY_RECORD.validate_python(line)
    assert (where, kind) in [(error["loc"], error["type"]) for error in caught.value.errors()]


@pytest.mark.parametrize(("score", "is_on_scale"), [(1.0, True), (5.0, True), (3, True), (0.99, False), (5.01, False)])
def test_a_score_lies_on_its_scale(score, is_on_scale):
    fields = {"id": "1", "prompt": "p", "completion": "c", "score": score, "low": 1, "high": 5}
    if is_on_scale:
        assert Rating(**fields).score == score
    else:
        with pytest.raises(ValidationError, match=f"score must lie between 1 and 5, got {score:g}"):
            Rating(**fields)


def test_a_ranking_has_one_rank_a_completion():
    with pytest.raises(ValidationError, match="2 completions need as many ranks, got 1"):
        Ranking(id="1", prompt="p", completions=("a", "b"), ranks=(1,))


def test_a_record_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Text(id="1", text="t").text = "other"


def test_what_is_held_out_is_never_of_a_kind_that_teaches():
    assert KIND_OF_ROLE["held_out"] is Question
    assert {kind for role, kind in KIND_OF_ROLE.items() if not role.startswith("held_out")} == {
        Text,
        Demonstration,
        Question,
        Preference,
        Rating,
        Ranking,
    }
