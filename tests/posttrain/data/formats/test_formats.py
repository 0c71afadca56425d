"""Each public format by hand, what is refused and in which words, and that transcripts survive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.data.formats.guess import guess
from posttrain.data.formats.items import Item
from posttrain.data.formats.reading import read
from posttrain.data.formats.table import FORMATS
from posttrain.errors import DataError, RequestError
from posttrain.prompts import transcript
from posttrain.records import Demonstration, Message, Preference, Question, Rating, Text


def one(form, row, number=3):
    (record,) = read(form, [Item(row, source="f.jsonl", unit="line", number=number)])
    return record


def refusal(form, row):
    with pytest.raises(DataError) as caught:
        one(form, row)
    return str(caught.value)


def user(text):
    return Message(role="user", content=text)


def assistant(text):
    return Message(role="assistant", content=text)


def test_gsm8k_loses_its_calculator_annotations_and_keeps_the_final_answer():
    row = {"question": "How many?", "answer": "48/2 = <<48/2=24>>24 in May.\nSum $<<48+24=1072>>1,072.\n#### 1,072\n"}
    assert one("gsm8k", row) == Demonstration(
        id="gsm8k-3", prompt="How many?", completion="48/2 = 24 in May.\nSum $1,072.\n#### 1,072", answer="1,072"
    )


def test_gsm8k_takes_the_last_marker():
    assert one("gsm8k", {"question": "q", "answer": "a #### b\n#### 7"}).answer == "7"


@pytest.mark.parametrize(
    ("equation", "answer", "completion"),
    [
        ("( 76.0 - 25.0 )", 51.0, "76 - 25 = 51\nAnswer: 51"),
        ("( ( 2.0 + 3.5 ) * 10.0 )", 55.0, "( ( 2 + 3.5 ) * 10 ) = 55\nAnswer: 55"),
        ("( 0.5 + 100.05 )", 100.55, "0.5 + 100.05 = 100.55\nAnswer: 100.55"),
    ],
)
def test_svamp_shows_plain_numbers(equation, answer, completion):
    record = one("svamp", {"Body": "A costs 76 ", "Question": "What?", "Equation": equation, "Answer": answer})
    assert (record.prompt, record.completion) == ("A costs 76, What?", completion)


def test_svamp_adds_no_comma_after_a_full_stop():
    assert one("svamp", {"Body": "A.", "Question": "B?", "Equation": "1", "Answer": 1}).prompt == "A. B?"


PROGRAM = 'def solution():\n    """How many?"""\n    result = 7 * 29\n    return result'


def test_reft_reads_programs_and_a_test_row_without_one_is_a_question():
    row = {"item_id": "svamp_7", "question": "How many?", "answer_cot": PROGRAM, "answer_value": "203.0"}
    assert guess(row) == "reft"
    assert one("reft", row) == Demonstration(id="reft-svamp_7", prompt="How many?", completion=PROGRAM, answer="203")
    assert one("reft", row | {"answer_cot": "7 times 29"}).completion == "7 times 29\nAnswer: 203"
    del row["answer_cot"], row["item_id"]
    assert guess(row) == "reft"
    assert one("reft", row | {"answer_value": 2.5}) == Question(id="reft-3", prompt="How many?", answers=("2.5",))


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"question": "q"}, "there is no field answer_value"),
        ({"question": "q", "answer_value": None}, "null"),
        ({"answer_value": "1"}, "there is no field question"),
    ],
)
def test_reft_needs_a_question_and_a_value(row, fault):
    assert fault in refusal("reft", row)


def test_alpaca_with_and_without_input():
    assert one("alpaca", {"instruction": "Do", "input": "", "output": "x"}).prompt == "Do"
    assert one("alpaca", {"instruction": "Do", "output": "x"}).completion == "x"
    assert one("alpaca", {"instruction": "Do", "input": "this", "output": "x"}).prompt == "Do\n\nthis"


def test_alpaca_with_history_and_system_becomes_a_conversation():
    row = {"instruction": "Do", "output": "x", "system": "S", "history": [["q", "a"]]}
    assert one("alpaca", row).prompt == (Message(role="system", content="S"), user("q"), assistant("a"), user("Do"))


def test_sharegpt_learns_the_last_gpt_turn_and_drops_what_follows():
    turns = [("system", "S"), ("human", "q"), ("gpt", "a"), ("human", "r"), ("gpt", "b"), ("human", "never answered")]
    record = one("sharegpt", {"id": "x", "conversations": [{"from": who, "value": said} for who, said in turns]})
    prompt = (Message(role="system", content="S"), user("q"), assistant("a"), user("r"))
    assert record == Demonstration(id="sharegpt-3", prompt=prompt, completion="b")


def test_sharegpt_pair():
    row = {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    }
    assert one("sharegpt", row) == Preference(id="sharegpt-3", prompt=(user("q"),), chosen="good", rejected="bad")


def test_hh_splits_where_the_transcripts_part():
    shared = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Say A\n\nAssistant:"
    record = one("hh", {"chosen": shared + " A, of course", "rejected": shared + " A? No"})
    assert record == Preference(
        id="hh-3", prompt=(user("Hi"), assistant("Hello"), user("Say A")), chosen="A, of course", rejected="A? No"
    )


def test_hh_where_the_transcripts_go_on_after_they_part_takes_the_first_turns_that_differ():
    shared = "\n\nHuman: Hi\n\nAssistant:"
    row = {"chosen": shared + " A\n\nHuman: x\n\nAssistant: B", "rejected": shared + " C"}
    record = one("hh", row)
    assert (record.prompt, record.chosen, record.rejected) == ((user("Hi"),), "A", "C")


speech = st.text("aHé 3\n\u2028:#字", max_size=30).filter(
    lambda text: "\n\nHuman:" not in text and "\n\nAssistant:" not in text and not text.endswith("\n")
)


@given(st.lists(speech, min_size=1, max_size=5).filter(lambda turns: len(turns) % 2), speech, speech)
def test_any_transcript_comes_back(turns, chosen, rejected):
    prompt = (
        "".join(f"\n\n{'Assistant' if place % 2 else 'Human'}: {said}" for place, said in enumerate(turns)) + "\n\nAssistant:"
    )
    record = one("hh", {"chosen": f"{prompt} {chosen}", "rejected": f"{prompt} {rejected}"})
    assert transcript(record.prompt) == prompt
    assert [turn.content for turn in record.prompt] == turns
    assert (record.chosen, record.rejected) == (chosen, rejected)


def chat(*turns):
    return [{"role": role, "content": said} for role, said in turns]


PAIR = Preference(id="trl-3", prompt=(user("q"),), chosen="good", rejected="bad")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "t"}, Text(id="trl-3", text="t")),
        ({"messages": chat(("user", "q"), ("assistant", "a"))}, Demonstration(id="trl-3", prompt=(user("q"),), completion="a")),
        ({"messages": chat(("user", "q"))}, Question(id="trl-3", prompt=(user("q"),))),
        ({"prompt": "q"}, Question(id="trl-3", prompt="q")),
        ({"prompt": "q", "solution": 4.0}, Question(id="trl-3", prompt="q", answers=("4",))),
        ({"prompt": "q", "completion": " a"}, Demonstration(id="trl-3", prompt="q", completion=" a")),
        (
            {"prompt": chat(("user", "q")), "completion": chat(("assistant", "a"))},
            Demonstration(id="trl-3", prompt=(user("q"),), completion="a"),
        ),
        ({"prompt": "q", "completion": "a", "label": False}, Rating(id="trl-3", prompt="q", completion="a", score=0.0)),
        ({"prompt": "q", "completion": "a", "label": True}, Rating(id="trl-3", prompt="q", completion="a", score=1.0)),
        ({"prompt": "q", "chosen": "x", "rejected": "y"}, Preference(id="trl-3", prompt="q", chosen="x", rejected="y")),
        (
            {"chosen": "The sky is blue.", "rejected": "The sky is black."},
            Preference(id="trl-3", prompt="The sky is ", chosen="blue.", rejected="black."),
        ),
        ({"prompt": chat(("user", "q")), "chosen": chat(("assistant", "good")), "rejected": chat(("assistant", "bad"))}, PAIR),
        ({"chosen": chat(("user", "q"), ("assistant", "good")), "rejected": chat(("user", "q"), ("assistant", "bad"))}, PAIR),
        (  # UltraFeedback binarised: the prompt is given as text and again as the first message of both
            {
                "prompt": "q",
                "chosen": chat(("user", "q"), ("assistant", "good")),
                "rejected": chat(("user", "q"), ("assistant", "bad")),
            },
            PAIR,
        ),
        ({"prompt": "q", "chosen": chat(("assistant", "good")), "rejected": chat(("assistant", "bad"))}, PAIR),
        (
            {
                "prompt": chat(("user", "q")),
                "chosen": chat(("user", "q"), ("assistant", "good")),
                "rejected": chat(("user", "q"), ("assistant", "bad")),
            },
            PAIR,
        ),
        ({"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"}, PAIR),
    ],
)
def test_trl(row, expected):
    assert one("trl", row) == expected


def test_openai_chat_preference_and_reinforcement():
    parts = [{"type": "text", "text": "q"}]
    assert one("openai", {"messages": [{"role": "developer", "content": "S"}, {"role": "user", "content": parts}]}).prompt == (
        Message(role="system", content="S"),
        user("q"),
    )
    assert one("openai", {"messages": chat(("user", "q"), ("assistant", "a"))}).completion == "a"
    row = {
        "input": {"messages": chat(("user", "q")), "tools": [], "parallel_tool_calls": True},
        "preferred_output": chat(("assistant", "good")),
        "non_preferred_output": chat(("assistant", "bad")),
    }
    assert one("openai", row) == PAIR.model_copy(update={"id": "openai-3"})


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({"reference_answer": "x", "answer": "y"}, ("x",)),
        ({"reference_answer": {"a": 1}}, ('{"a":1}',)),
        ({"answer": 3.5}, ("3.5",)),
        ({"answer": 3.0}, ("3",)),
        ({"answers": ["1", 2]}, ("1", "2")),
        ({"answer": None}, ()),
        ({}, ()),
    ],
)
def test_openai_reference_fields(fields, answers):
    assert one("openai", {"messages": chat(("user", "q")), **fields}).answers == answers


def test_hub_reads_what_the_columns_show():
    assert one("hub", {"question": "q", "answer": "#### 7"}).answer == "7"
    assert one("hub", {"prompt": "q", "completion": "a"}).completion == "a"
    assert refusal("hub", {"image": 1}) == (
        "f.jsonl line 3: no format has the columns 'image'. "
        'Say what the columns are, for example MAP="prompt=<column> completion=<column>"'
    )


def test_our_own_form_is_taken_as_it_is():
    assert one("records", {"kind": "question", "id": "mine", "prompt": "q", "answers": ["1"]}).answers == ("1",)
    assert one("records", {"kind": "text", "text": "t"}).id == "records-3"


@pytest.mark.parametrize(
    ("form", "row", "message"),
    [
        ("gsm8k", [], "a row must be a JSON object, got []"),
        ("gsm8k", {"question": "q"}, "there is no field answer (there is: 'question')"),
        ("gsm8k", {"question": 7, "answer": "#### 7"}, "question must be text, got 7"),
        (
            "gsm8k",
            {"question": "q", "answer": "seven"},
            "answer must end in \"#### <final answer>\", got 'seven'. The fields are those of FORMAT=qa",
        ),
        (
            "gsm8k",
            {"instruction": "q", "output": "x"},
            "there is no field answer (there is: 'instruction, output'). The fields are those of FORMAT=alpaca",
        ),
        ("svamp", {"Body": "b", "Question": "q", "Equation": "e", "Answer": True}, "Answer must be text or a number, got True"),
        ("alpaca", {"instruction": "q", "output": None}, "output is null"),
        (
            "alpaca",
            {"instruction": "q", "output": "x", "history": [["a"]]},
            "history must be a list of [instruction, output], got ['a']",
        ),
        ("sharegpt", {"conversations": "hi"}, "conversations must be a list, got 'hi'"),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "q"}]},
            "conversations has no turn from gpt, so there is nothing to learn",
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "gpt", "value": "q"}]},
            "conversations must hold a user's turn before the assistant's completion, got 0 turns before it",
        ),
        (
            "hh",
            {"chosen": "Human: q", "rejected": "Human: q"},
            "chosen and rejected must share their start up to a \"\\n\\nAssistant:\", got 'Human: q'",
        ),
        ("trl", {"prompt": "q", "chosen": "x"}, "there is no field rejected (there is: 'prompt, chosen')"),
        (
            "trl",
            {"prompt": "q", "completion": "x", "label": 2},
            "label must be true or false, since it is a verdict on the completion, got 2",
        ),
        (
            "trl",
            {"prompt": "q", "chosen": [{"role": "user", "content": "x"}], "rejected": [{"role": "assistant", "content": "x"}]},
            "chosen must be text or one assistant message, got ['user']",
        ),
        ("openai", {"input": "q"}, "input must be an object with \"messages\", got 'q'"),
        (
            "openai",
            {"messages": [{"role": "boss", "content": "q"}]},
            "messages[0].role must be one of system, developer, user, human, assistant, gpt, chatgpt, bing, bard, model, "
            "function_call, tool_call, tool, function, observation, tool_response, got 'boss'",
        ),
        (
            "openai",
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "messages[0].content[0] is of type 'image', and only text can be learnt here",
        ),
        (
            "records",
            {"kind": "praise"},
            "kind must be one of text, demonstration, question, preference, rating, ranking, got 'praise'",
        ),
        ("records", {"kind": "text"}, "there is no field text, which a text needs"),
        ("records", {"kind": "text", "text": "t", "txt": 1}, "a text has no field txt"),
        ("records", {"kind": "text", "text": 1}, "text: input should be a valid string, got 1"),
    ],
)
def test_refusal_says_where_what_and_what_to_do(form, row, message):
    assert refusal(form, row) == f"f.jsonl line 3: {message}. Correct or drop this line, then import again"


def test_two_records_of_one_id_are_refused():
    items = [Item({"kind": "text", "id": "a", "text": "t"}, source="f", unit="line", number=number) for number in (1, 2)]
    with pytest.raises(DataError, match=r"^f line 2: id must be unique, a was there before\. Correct or drop this line"):
        list(read("records", items))


def test_an_unknown_format_is_refused_before_a_row_is_read():
    with pytest.raises(RequestError) as caught:
        list(read("gsmk8", iter(())))
    assert str(caught.value) == f"there is no format gsmk8; did you mean gsm8k?; formats are {', '.join(FORMATS)}"


def test_no_row_is_refused():
    with pytest.raises(DataError, match=r"^there is not one row to import"):
        list(read("trl", []))


def test_rows_are_read_one_at_a_time():
    def items():
        yield Item({"text": "first"}, source="f", unit="line", number=1)
        raise AssertionError("the second row was asked for before the first was used")

    assert next(read("trl", items())).text == "first"


KEYS = (
    "role content from value text tool_calls function_call reasoning_content refusal name arguments function type weight label "
    "ground_truth target answer_start"
)
SPOKEN = st.sampled_from(["user", "assistant", "gpt", "human", "function_call", "tool", "text", "1", "true"])
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | SPOKEN | st.text("a#4é:\n {[\\", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS.split()), inner),
    max_leaves=8,
)
NAMES = (
    "question answer Body Question Equation Answer instruction input output history system conversations chosen rejected prompt "
    "completion label messages text preferred_output kind id problem solution choices answer_cot answer_value tools images score "
    "low high margin score_chosen score_rejected rejected_response reward_model target context response correct"
)
fields = st.sampled_from(NAMES.split())


@given(st.sampled_from(sorted(FORMATS)), st.dictionaries(fields, json_values, max_size=5))
def test_any_row_gives_a_record_or_a_data_error(form, row):
    guess(row)
    try:
        record = one(form, row)
    except DataError as error:
        assert str(error).startswith("f.jsonl line 3: ")
    else:
        assert record.id
