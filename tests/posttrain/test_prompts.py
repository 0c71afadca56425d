"""Prompts as text: the transcript in Python and the one in Jinja are the same."""

from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from posttrain.prompts import PLAIN_CHAT_TEMPLATE, plain, separated, transcript
from posttrain.records import Message

CONVERSATION = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Hello"),
    Message(role="assistant", content="Hi."),
    Message(role="user", content="2 + 2?"),
)
MESSAGES = st.lists(
    st.builds(
        Message,
        role=st.sampled_from(["system", "user", "assistant", "tool"]),
        content=st.text(st.characters(codec="utf-8"), max_size=20),
    ),
    max_size=4,
).map(tuple)


def rendered(messages):
    texts, _ = render_jinja_template(
        [[message.model_dump() for message in messages]], chat_template=PLAIN_CHAT_TEMPLATE, add_generation_prompt=True
    )
    return texts[0]


def test_a_transcript_by_hand():
    assert transcript(CONVERSATION) == "Be brief.\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: 2 + 2?\n\nAssistant:"


@given(MESSAGES)
def test_python_and_jinja_write_the_same_transcript(messages):
    assert transcript(messages) == rendered(messages)


def test_without_a_turn_to_come_the_template_stops_after_the_last_message():
    texts, _ = render_jinja_template([[{"role": "user", "content": "Hello"}]], chat_template=PLAIN_CHAT_TEMPLATE)
    assert texts == ["\n\nHuman: Hello"]


def test_a_plain_prompt_ends_in_white_space():
    assert separated("How many?") == "How many?\n"
    assert separated("How many? ") == "How many? "
    assert separated("How many?\n") == "How many?\n"
    assert separated("") == "\n"


@given(st.text())
def test_separating_twice_changes_nothing(text):
    once = separated(text)
    assert once[-1].isspace() and separated(once) == once and once.startswith(text)


def test_plain_takes_both_kinds_of_prompt():
    assert plain("How many?") == "How many?\n"
    assert plain(CONVERSATION) == transcript(CONVERSATION)
