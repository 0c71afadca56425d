"""Text of others cannot command a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("right\rwrong", "right\\rwrong"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eabc", "\\u202eabc"),
        ("half \ud800", "half \\ud800"),
        ("bell\a", "bell\\x07"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("größer als 5 € ✓ 日本", "größer als 5 € ✓ 日本"),
    ],
)
def test_what_commands_is_written_out_and_the_rest_stays(text, shown):
    assert printable(text) == shown


@given(st.text())
def test_whatever_comes_out_can_be_encoded_and_holds_no_escape(text):
    shown = printable(text)
    assert shown.encode() and "\x1b" not in shown and "\r" not in shown if text else shown == ""
    assert printable(shown) == shown
