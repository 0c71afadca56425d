"""Rows as people publish them: what each means, what is kept of it, and what is refused because it would be dropped."""

from collections import Counter

import pytest

from posttrain.data.formats.items import Item
from posttrain.data.formats.reading import read
from posttrain.errors import DataError
from posttrain.records import Message, Preference, Question, Rating


def item(row, number=1):
    return Item(row, source="f.jsonl", unit="line", number=number)


def one(form, row):
    notes = Counter()
    (record,) = read(form, [item(row)], notes=notes)
    return record, notes


def user(text):
    return Message(role="user", content=text)


def system(text):
    return Message(role="system", content=text)


def chat(*turns, **last):
    messages = [{"role": role, "content": said} for role, said in turns]
    messages[-1] |= last
    return messages


def gpt(*turns):
    return [{"from": who, "value": said} for who, said in turns]


RUDE = chat(("user", "Greet me"), ("assistant", "Leave."))


# --- a verdict turns a completion from an example into a warning ---------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "row"),
    [
        ("trl", {"messages": RUDE, "label": False}),
        ("openai", {"messages": RUDE, "label": False}),
        ("alpaca", {"instruction": "Greet me", "input": "", "output": "Leave.", "kto_tag": False}),
        ("sharegpt", {"conversations": gpt(("human", "Greet me"), ("gpt", "Leave.")), "kto_tag": False}),
        ("trl", {"prompt": "Greet me", "completion": "Leave.", "label": 0}),
        ("trl", {"prompt": "Greet me", "completion": "Leave.", "label": "False"}),
        ("trl", {"prompt": "Greet me", "response": "Leave.", "is_correct": False}),
        ("hub", {"prompt": "Greet me", "completion": "Leave.", "desirable": False}),
        ("trl", {"prompt": "Greet me", "completion": "Leave.", "score": 1, "low": 1, "high": 5}),
    ],
)
def test_a_bad_verdict_is_a_rating_at_the_bottom_in_every_format(form, row):
    record, _ = one(form, row)
    assert isinstance(record, Rating)
    assert (record.completion, record.score) == ("Leave.", record.low)
    assert record.high > record.low


@pytest.mark.parametrize("label", [True, 1, "true", "TRUE", "1"])
def test_a_good_verdict_is_a_rating_at_the_top(label):
    record, _ = one("trl", {"messages": RUDE, "label": label})
    assert (record.score, record.high) == (1.0, 1.0)


@pytest.mark.parametrize("field", ["score", "rating", "reward", "helpfulness", "quality"])
def test_a_score_without_its_scale_is_refused(field):
    with pytest.raises(DataError) as caught:
        one("trl", {"prompt": "q", "completion": "a", field: 4})
    assert str(caught.value) == (
        f"f.jsonl line 1: {field} is a verdict on the completion, whose scale the row does not say. Give the ends of the scale, "
        f'MAP="low=1 high=5", or fields low and high; or leave it out on purpose: MAP="ignore={field}"'
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"score": 9, "low": 1, "high": 5}, "score must lie between low and high, 1 and 5, got 9"),
        ({"score": float("inf"), "low": 1, "high": 5}, "score must be a finite number, got inf"),
        ({"score": True, "low": 0, "high": 5}, "score must be a finite number, got True"),
        ({"helpfulness": 4, "correctness": 1}, "helpfulness, correctness are several verdicts on one completion"),
        ({"label": None}, "label is empty, so the row does not say whether its completion is good"),
        ({"label": "perhaps"}, "label must be true or false, since it is a verdict on the completion, got 'perhaps'"),
    ],
)
def test_a_verdict_that_cannot_be_understood_is_refused_and_never_imitated(row, message):
    with pytest.raises(DataError) as caught:
        one("trl", {"prompt": "q", "completion": "a", **row})
    assert str(caught.value).startswith(f"f.jsonl line 1: {message}. ")


def test_a_verdict_in_a_row_of_another_kind_is_refused():
    with pytest.raises(DataError, match="label is False in a row that has chosen and rejected"):
        one("trl", {"prompt": "q", "chosen": "a", "rejected": "b", "label": False})
    with pytest.raises(DataError, match="label is a verdict, and a text holds none"):
        one("trl", {"text": "a film", "label": 0})


@pytest.mark.parametrize("mark", [{"weight": 0}, {"loss_weight": 0.0}, {"train": False}])
def test_a_turn_that_the_dataset_does_not_want_learnt_is_not_learnt(mark):
    with pytest.raises(DataError, match="so the dataset does not want it learnt"):
        one("openai", {"messages": chat(("user", "q"), ("assistant", "a"), **mark)})


# --- answers under other names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"expected_answer": "12"},
        {"final_answer": "12"},
        {"target": 12.0},
        {"ground_truth": ["12"]},
        {"label": "12"},
        {"reward_model": {"style": "rule", "ground_truth": "12"}},
        {"reward_model": {"ground_truth": {"target": ["12"]}}},
        {"reference_answer": None, "answer": "12"},
        {"answers": {"text": ["12"], "answer_start": [3]}},
        {"answers": ["12", 12, 12.0, None]},
        {"solution": "so it is \\boxed{12}"},
        {"answer": "7 + 5 = 12\n#### 12", "solution": "long"},
    ],
)
def test_the_answer_of_a_question_is_found_under_its_name(fields):
    record, notes = one("trl", {"prompt": "7 + 5 = ?", **fields})
    assert record == Question(id="trl-1", prompt="7 + 5 = ?", answers=("12",))
    assert "a question that has nothing to check an answer against" not in notes


@pytest.mark.parametrize("fields", [{}, {"answers": []}, {"answer": ""}, {"reward_model": {"style": "model"}}])
def test_a_question_without_an_answer_is_said(fields):
    record, notes = one("trl", {"prompt": "q", **fields})
    assert record.answers == ()
    assert notes["a question that has nothing to check an answer against"] == 1


@pytest.mark.parametrize("answer", [float("inf"), float("-inf"), [float("inf")], True])
def test_an_answer_that_is_no_answer_is_refused(answer):
    with pytest.raises(DataError, match=r"answer must be (a finite number or text|text or a number), got "):
        one("trl", {"prompt": "q", "answer": answer})


@pytest.mark.parametrize(
    ("form", "row", "prompt", "completion", "answer"),
    [
        ("gsm8k", {"problem": "2 + 2?", "level": "1", "solution": "so \\boxed{4}"}, "2 + 2?", "so \\boxed{4}", "4"),
        ("qa", {"problem": "2 + 2?", "solution": "so \\boxed{4}"}, "2 + 2?", "so \\boxed{4}", "4"),
        (
            "gsm8k",
            {"item_id": "1", "question": "q", "answer_cot": "Therefore, the answer is <72>.", "answer_value": "72.0"},
            "q",
            "Therefore, the answer is 72.",
            "72",
        ),
        ("qa", {"question": "q", "answer_cot": "6 * 12", "answer_value": "72"}, "q", "6 * 12\nAnswer: 72", "72"),
        ("qa", {"question": "q", "answer": 42}, "q", "Answer: 42", "42"),
        ("qa", {"question": "q", "answer": "3 + 4 = 7\n#### 7"}, "q", "3 + 4 = 7\n#### 7", "7"),
        ("qa", {"question": "Why?", "answer": "Because " * 20}, "Why?", "Because " * 20, None),
        (
            "qa",
            {"question": "q", "answer_cot": "def solution():\n    return 4", "answer_value": "4"},
            "q",
            "def solution():\n    return 4",
            "4",
        ),
        ("trl", {"prompt": "q", "completion": "So 7.\n#### 7", "answer": "7"}, "q", "So 7.\n#### 7", "7"),
        ("trl", {"prompt": "q", "completion": "Paris, I think", "answer": "Paris"}, "q", "Paris, I think", None),
    ],
)
def test_a_worked_answer_is_imitated_and_checked(form, row, prompt, completion, answer):
    record, _ = one(form, row)
    assert (record.prompt, record.completion, record.answer) == (prompt, completion, answer)


@pytest.mark.parametrize(
    ("choices", "answer"),
    [
        (["3", "4", "5"], 1),
        (["3", "4", "5"], "B"),
        (["3", "four", "5"], "four"),
        (["3", "four", "5"], "1"),
        ({"text": ["3", "4", "5"], "label": ["1", "2", "3"]}, "2"),
    ],
)
@pytest.mark.parametrize("form", ["gsm8k", "qa"])
def test_choices_with_an_index_become_letters(form, choices, answer):
    record, _ = one(form, {"question": "2 + 2?", "choices": choices, "answer": answer})
    assert record.prompt.startswith("2 + 2?\n\nA. 3\nB. ")
    assert (record.completion, record.answer) == ("Answer: B", "B")


@pytest.mark.parametrize("answer", [3, -1, "Z", True, "33"])
def test_an_index_that_no_choice_has_is_refused(answer):
    with pytest.raises(DataError, match="answer must be an index from 0 to 2, a letter or the text of one choice, got "):
        one("qa", {"question": "q", "choices": ["3", "4", "5"], "answer": answer})


def test_several_right_answers_are_a_question():
    assert one("qa", {"question": "q", "answers": ["a", "b"]})[0] == Question(id="qa-1", prompt="q", answers=("a", "b"))


# --- pairs ----------------------------------------------------------------------------------------------------------------


def pair(*, before="Greet me", chosen="Hello!", rejected="Leave.", **fields):
    sides = {"chosen": chosen, "rejected": rejected}
    return {**{side: chat(("user", before), ("assistant", said)) for side, said in sides.items()}, **fields}


@pytest.mark.parametrize(
    ("form", "row"),
    [
        ("alpaca", {"instruction": "Greet me", "input": "", "chosen": "I do: hello", "rejected": "I do: go"}),
        ("trl", {"instruction": "Greet me", "chosen": "I do: hello", "rejected": "I do: go"}),
        ("trl", {"question": "Greet me", "chosen": "I do: hello", "rejected": "I do: go"}),
        ("hub", {"query": "Greet me", "chosen": "I do: hello", "rejected": "I do: go"}),
    ],
)
def test_a_question_beside_a_pair_is_its_prompt_and_not_the_answers_common_words(form, row):
    record, notes = one(form, row)
    assert (record.prompt, record.chosen, record.rejected) == ("Greet me", "I do: hello", "I do: go")
    assert not notes


def test_an_implicit_prompt_is_said():
    _, notes = one("trl", {"chosen": "The sky is blue", "rejected": "The sky is red"})
    assert notes == {"a pair without a prompt: what chosen and rejected share at their start was taken for it": 1}


@pytest.mark.parametrize("fields", [{"system": "Be terse."}, {"system_prompt": "Be terse."}])
@pytest.mark.parametrize("row", [{"prompt": "q", "chosen": "a", "rejected": "b"}, {"prompt": "q", "completion": "a"}])
def test_a_system_field_comes_first(row, fields):
    assert one("trl", {**row, **fields})[0].prompt == (system("Be terse."), user("q"))


def test_a_system_field_that_repeats_the_messages_is_said_once():
    row = {"messages": chat(("system", "S"), ("user", "q"), ("assistant", "a")), "system": "S"}
    assert one("trl", row)[0].prompt == (system("S"), user("q"))
    assert one("trl", {**row, "system": "T"})[0].prompt == (system("T\n\nS"), user("q"))


@pytest.mark.parametrize(
    ("form", "row"),
    [
        ("trl", pair(prompt="Something else")),
        ("trl", pair(prompt=chat(("user", "Something else")))),
        ("trl", {"prompt": "Something else", "messages": RUDE}),
        ("trl", {"prompt": chat(("user", "Something else")), "messages": RUDE}),
    ],
)
def test_a_prompt_that_contradicts_its_messages_is_refused(form, row):
    with pytest.raises(DataError, match=r"^f\.jsonl line 1: prompt is (not how|'Something else', but in)"):
        one(form, row)


def test_a_prompt_that_repeats_its_messages_is_read_once():
    assert one("trl", pair(prompt="Greet me "))[0].prompt == (user("Greet me"),)
    assert one("trl", {"prompt": "Greet me", "messages": RUDE})[0].completion == "Leave."


@pytest.mark.parametrize(
    ("fields", "margin", "said"),
    [
        ({"score_chosen": 9.0, "score_rejected": 2.0}, 7.0, ""),
        ({"chosen_rating": "9", "rejected_rating": "2"}, 7.0, ""),
        ({"margin": 1.5}, 1.5, ""),
        (
            {"score_chosen": 2.0, "score_rejected": 9.0},
            -7.0,
            "chosen scores lower than rejected: the data gate puts the pair aside",
        ),
        (
            {"score_chosen": 7, "score_rejected": 7.0},
            None,
            "chosen scores no higher than rejected: the pair is kept, without a margin",
        ),
        ({"score_chosen": 7}, None, "a field that is not read: score_chosen"),
    ],
)
def test_scores_of_a_pair_are_its_margin(fields, margin, said):
    record, notes = one("trl", pair(**fields))
    assert record.margin == margin
    assert list(notes) == ([said] if said else [])


@pytest.mark.parametrize(("rejected", "message"), [(None, "rejected is null"), (float("nan"), "rejected is NaN, which is how")])
def test_a_side_that_is_missing_is_named(rejected, message):
    with pytest.raises(DataError, match=rf"^f\.jsonl line 1: {message}"):
        one("trl", {"prompt": "q", "chosen": "a", "rejected": rejected})


def test_a_rejected_response_beside_messages_makes_a_pair():
    row = {"messages": chat(("user", "q"), ("assistant", "good")), "rejected_response": "bad"}
    assert one("trl", row)[0] == Preference(id="trl-1", prompt=(user("q"),), chosen="good", rejected="bad")


def test_the_messages_of_ultrafeedback_repeat_the_chosen_side():
    row = pair(prompt="Greet me", prompt_id="x", score_chosen=8.0, score_rejected=3.0)
    record, notes = one("trl", {**row, "messages": row["chosen"]})
    assert record.margin == 5.0
    assert list(notes) == ["a field that is not read: prompt_id"]
    with pytest.raises(DataError, match="messages would not be read, and a preference would be made of the rest"):
        one("trl", {**row, "messages": RUDE[:1]})


def test_transcripts_that_part_early_give_the_first_turns_that_differ():
    opening = "\n\nHuman: hi\n\nAssistant:"
    rest = "\n\nHuman: ok\n\nAssistant: Bye"
    record, notes = one("hh", {"chosen": f"{opening} Hello{rest}", "rejected": f"{opening} What{rest}"})
    assert (record.chosen, record.rejected) == ("Hello", "What")
    assert list(notes) == ["transcripts that part before their last turn: the pair is made of the first turns that differ"]


# --- tools, pictures, thoughts -------------------------------------------------------------------------------------------

CALL = {"id": "1", "type": "function", "function": {"name": "w", "arguments": '{"city": "Oslo"}'}}
AS_TEXT = '<tool_call>\n{"name": "w", "arguments": {"city": "Oslo"}}\n</tool_call>'


@pytest.mark.parametrize("content", [None, "", "Let me look."])
def test_a_call_is_part_of_the_completion(content):
    record, _ = one("openai", {"messages": chat(("user", "Warm?"), ("assistant", content), tool_calls=[CALL]), "tools": []})
    assert record.completion == (f"{content}\n" if content else "") + AS_TEXT


def test_a_preferred_call_is_kept():
    row = {
        "input": {"messages": chat(("user", "Warm?")), "tools": [{"name": "w"}]},
        "preferred_output": chat(("assistant", None), tool_calls=[CALL]),
        "non_preferred_output": chat(("assistant", "no idea")),
    }
    record, _ = one("openai", row)
    assert record.prompt[0] == system('You may call these tools:\n<tools>\n{"name": "w"}\n</tools>')
    assert (record.chosen, record.rejected) == (AS_TEXT, "no idea")


def test_calls_and_what_they_found_are_the_context_of_what_is_learnt():
    turns = [("human", "Warm?"), ("function_call", '{"name": "w", "arguments": {"city": "Oslo"}}'), ("observation", "12 C")]
    row = {"conversations": gpt(*turns, ("gpt", "It is 12 C.")), "tools": '[{"name": "w"}]'}
    record, _ = one("sharegpt", row)
    assert [turn.role for turn in record.prompt] == ["system", "user", "assistant", "tool"]
    assert (record.prompt[2].content, record.completion) == (AS_TEXT, "It is 12 C.")
    old = chat(("user", "Warm?"), ("assistant", None), function_call=CALL["function"])
    later = chat(("function", "12 C"), ("assistant", "It is 12 C."))
    assert one("openai", {"messages": old + later})[0].prompt[1].content == AS_TEXT


@pytest.mark.parametrize(
    ("fields", "completion"),
    [
        ({"reasoning_content": "7 + 5 is 12"}, "<think>\n7 + 5 is 12\n</think>\n\n12"),
        ({"thinking": "7 + 5 is 12"}, "<think>\n7 + 5 is 12\n</think>\n\n12"),
        ({"reasoning_content": ""}, "12"),
    ],
)
def test_a_thought_stands_before_what_is_said(fields, completion):
    assert one("openai", {"messages": chat(("user", "7 + 5?"), ("assistant", "12"), **fields)})[0].completion == completion


def test_a_refusal_is_what_the_assistant_said():
    row = {"messages": chat(("user", "Do evil"), ("assistant", None), refusal="I will not.")}
    assert one("openai", row)[0].completion == "I will not."


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": RUDE, "images": ["1.jpg"]}, "images cannot be learnt by a model of text, and the row is about them"),
        ({"messages": RUDE, "audio": "a.wav"}, "audio cannot be learnt by a model of text, and the row is about them"),
        ({"messages": chat(("user", "q"), ("assistant", "a"), images=["x"])}, r"messages\[1\] holds images"),
        (
            {"messages": chat(("user", [{"type": "image_url", "image_url": {"url": "x"}}]))},
            r"messages\[0\]\.content\[0\] is of type 'image_url', and only text can be learnt here",
        ),
    ],
)
def test_pictures_and_sounds_are_refused(row, message):
    with pytest.raises(DataError, match=rf"^f\.jsonl line 1: {message}"):
        one("openai", row)


def test_empty_media_and_tools_say_nothing():
    record, notes = one("trl", {"messages": RUDE, "images": [], "tools": None, "videos": ""})
    assert record.prompt == (user("Greet me"),)
    assert not notes


@pytest.mark.parametrize("part", [{"type": "text", "text": "hi"}, {"type": "text", "value": "hi"}, "hi"])
def test_text_parts_are_text(part):
    assert one("openai", {"messages": [{"role": "user", "content": [part]}]})[0].prompt == (user("hi"),)


@pytest.mark.parametrize("form", ["sharegpt", "trl", "openai"])
def test_turns_are_read_under_both_pairs_of_names(form):
    field = "conversations" if form == "sharegpt" else "messages"
    assert one(form, {field: chat(("user", "a"), ("assistant", "b"))})[0].completion == "b"
    assert one(form, {field: gpt(("human", "a"), ("gpt", "b"))})[0].completion == "b"
