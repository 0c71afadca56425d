"""Texts of others stay text, and what cannot be seen is made visible."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.labelling.markup import as_text, clean, from_markdown, line_of

OURS = {"mark", "code", "bdi"}


class Reader(HTMLParser):
    """Reads HTML as a browser would: its elements and its text."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.names, self.text = [], set(), ""
        self.feed(str(html))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '<img src=x onerror="alert(1)">',
        "</div></section><h1>Answer 2",
        "[a link](javascript:alert(1)) https://evil.example <a href='//evil.example'>",
        "a & b &lt; &amp;lt; &#60;",
        "```\n<b>in a fence</b>\n```",
        "`<b>`, $x<y$ and \\(<i>\\)",
        "{{ 7 * 7 }} {% raw %}",
    ],
)
def test_nothing_in_a_text_is_obeyed(text):
    read = Reader(as_text(text, [(0, len(text) // 2)]))
    assert set(read.tags) <= OURS and read.names <= {"class", "dir", "title"}
    assert read.text == text


@given(st.text(st.sampled_from("ab<>&\"'`$\\()[]\n~{}^ é\u202e\u0000שa"), max_size=60), st.data())
def test_whatever_a_text_is_it_comes_out_whole(text, data):
    text = clean(text)
    bounds = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = list(zip(bounds[::2], bounds[1::2], strict=False))
    read = Reader(as_text(text, spans))
    assert set(read.tags) <= OURS and read.names <= {"class", "dir", "title"}
    assert read.text == text.replace("\u202e", "U+202E").replace("\u0000", "U+0000")


@pytest.mark.parametrize(
    "character, number, name",
    [
        ("\u202e", "U+202E", "right-to-left override"),
        ("\u2066", "U+2066", "left-to-right isolate"),
        ("\u200f", "U+200F", "right-to-left mark"),
        ("\u061c", "U+061C", "arabic letter mark"),
        ("\u200b", "U+200B", "zero width space"),
        ("\x1b", "U+001B", "control character"),
        ("\r", "U+000D", "control character"),
        ("\ud800", "U+D800", "control character"),
    ],
)
def test_hidden_characters_are_shown_and_have_no_effect(character, number, name):
    html = as_text(f"a{character}b")
    assert html == f'a<bdi class="hidden-character" dir="ltr" title="{name}">{number}</bdi>b'
    assert line_of(f"a{character}b") == f"a{number}b"
    html.encode()


def test_tabs_ends_of_lines_and_joiners_stay():
    assert as_text("a\tb\r\nc\u200dd\u200ce") == "a\tb\nc\u200dd\u200ce"


@pytest.mark.parametrize(
    "text, html",
    [
        ("a $x^2$ b", 'a <bdi class="math" dir="ltr">$x^2$</bdi> b'),
        ("$x$", '<bdi class="math" dir="ltr">$x$</bdi>'),
        ("it costs $5 and $6 more", "it costs $5 and $6 more"),
        ("it costs $5 or 6$", "it costs $5 or 6$"),
        ("\\[a\nb\\]", '<bdi class="math" dir="ltr">\\[a\nb\\]</bdi>'),
        ("$$a$$ \\(b\\)", '<bdi class="math" dir="ltr">$$a$$</bdi> <bdi class="math" dir="ltr">\\(b\\)</bdi>'),
        ("$א^2$", "$א^2$"),  # letters from right to left are not turned round
        ("do `x = 1` now", 'do <code class="code" dir="ltr">`x = 1`</code> now'),
        ("a\n```py\nx\n```\nb", 'a\n<code class="fence" dir="ltr">```py\nx\n```\n</code>b'),
        ("```py\nnever ends", '<code class="fence" dir="ltr">```py\nnever ends</code>'),
        ("~~~\n```\n~~~", '<code class="fence" dir="ltr">~~~\n```\n~~~</code>'),
    ],
)
def test_code_and_formulas_stay_source_from_left_to_right(text, html):
    assert as_text(text) == html


def test_marks_lie_within_lines_and_within_code():
    assert as_text("a b c", [(2, 3)]) == "a <mark>b</mark> c"
    assert as_text("a b\n   c", [(2, 8)]) == "a <mark>b</mark>\n   <mark>c</mark>"
    assert as_text("x `y z`", [(0, 5)]) == '<mark>x</mark> <code class="code" dir="ltr"><mark>`y</mark> z`</code>'


def test_instructions_are_markdown_without_html():
    html = from_markdown(
        "# One\n\n<b>x</b> *y*\n\n| a |\n|---|\n| `1` |\n\n[bad](javascript:alert(1)) [good](https://example.org)\n"
    )
    assert "<h2>One</h2>" in html and "<h1>" not in html
    assert "&lt;b&gt;x&lt;/b&gt; <em>y</em>" in html
    assert "<td><code>1</code></td>" in html
    assert "[bad](javascript:alert(1))" in html and '<a href="https://example.org">good</a>' in html
