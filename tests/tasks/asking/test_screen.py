"""What is printed while tokens come, and turns that fit."""

import sys

import pytest

from posttrain.records import Message
from tasks.asking.answer import Answer
from tasks.asking.conversation import Conversation, room_for_turns
from tasks.asking.screen import Spoken, show_side_by_side


def answering(*parts):
    def ask(hear):
        text = ""
        for part in parts:
            text += part
            hear(text)
        return Answer(text, len(parts), 0.5, True)

    return ask


class Terminal:
    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def isatty(self):
        return True


def test_a_text_that_grows_is_printed_once(capsys):
    spoken = Spoken()
    for text in ("a", "a ", "a b", "a b\N{REPLACEMENT CHARACTER}", "a bé\n", "a bé\n"):
        spoken.hear(text)
    # white space, and half of a character, may still change
    assert capsys.readouterr().out == "a bé"
    spoken.end("a bé\n")
    assert capsys.readouterr().out == "\n"


def test_what_commands_a_terminal_is_written_out(capsys):
    Spoken().end("\x1b[2Jx")
    assert capsys.readouterr().out == "\\x1b[2Jx\n"


def test_without_a_terminal_answers_are_plain_lines(capsys):
    found = show_side_by_side([("base", answering("a", "b")), ("sft", answering("c"))])
    assert [one.text for one in found] == ["ab", "c"]
    assert capsys.readouterr().out == (
        "--- base\nab\n(2 tokens in 0.5 s, finished)\n\n--- sft\nc\n(1 tokens in 0.5 s, finished)\n\n"
    )


@pytest.mark.parametrize(("width", "is_beside"), [(100, True), (60, False)])
def test_on_a_wide_terminal_answers_stand_in_columns(capsys, monkeypatch, width, is_beside):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal(sys.stdout))
    show_side_by_side([("base", answering("one", " two")), ("sft", answering("three"))])
    lines = capsys.readouterr().out.splitlines()
    assert any("one two" in line and "three" in line for line in lines) == is_beside
    assert any("base" in line and "sft" in line for line in lines) == is_beside


def test_the_oldest_turns_leave_in_pairs():
    turns = Conversation()
    for number in range(3):
        turns.ask(f"question {number}")
        turns.hear(f"answer {number}")
    turns.ask("last")
    assert turns.trim(len, 7) == 0
    assert turns.trim(len, 4) == 4
    assert [one.content for one in turns.turns] == ["question 2", "answer 2", "last"]
    assert turns.trim(lambda messages: 99, 1) == 2 and turns.turns == [Message(role="user", content="last")]


def test_an_answer_keeps_its_room_but_no_more_than_half():
    assert room_for_turns(128, 20) == 108
    assert room_for_turns(128, 1_000) == 64
