"""Texts of others as HTML: an answer is always text, whatever it holds, and instructions are Markdown without HTML.

Everything that goes into a page goes through `markupsafe`, which writes out each character that HTML would obey.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from posttrain.labelling.differences import Span

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, but for tabs and ends of lines
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of writing round, and shows one text as another
    "\u00ad\u200b\u2060\ufeff\ufff9-\ufffb"  # what nobody sees
    "\ud800-\udfff]"  # halves of a character, which no page can hold
)
_REGIONS = re.compile(
    r"^[ \t]*(?P<fence>```|~~~)[^\n]*\n.*?(?:^[ \t]*(?P=fence)[ \t]*(?:\n|\Z)|\Z)"
    r"|(?P<display>\$\$[^$]{1,3000}?\$\$|\\\[.{1,3000}?\\\])"
    r"|(?P<inline>\\\(.{1,300}?\\\)|\$(?=[^\s$])[^$\n]{1,300}?(?<=\S)\$(?!\d))"
    r"|(?P<code>`[^`\n]+`)",
    re.MULTILINE | re.DOTALL,
)
_LINE = re.compile(r"\S(?:[^\n]*\S)?")
_FORMULA = re.compile(r"[\\^_={}+<>]|^.\w?.$")
"""What tells a formula between two dollar signs from two prices."""
_TURNED = ("R", "AL")
"""Directions of letters that are written from right to left."""


def as_text(text: str, marked: Sequence[Span] = ()) -> Markup:
    """Return a text as it is, with what cannot be seen made visible, code and formulas kept from left to right.

    Nothing in it is obeyed: Markdown, HTML, links and LaTeX stay the characters that were written. A control of direction is
    shown by its name and has no effect, so that a text cannot look like another one.

    Args:
        text: of a prompt or an answer.
        marked: spans of it to mark, in order.
    """
    text = clean(text)
    return Markup("").join(_region(kind, _runs(text, start, end, marked)) for kind, start, end in _regions(text))


def clean(text: str) -> str:
    """Return a text with one kind of line end, as `as_text` counts its characters."""
    return text.replace("\r\n", "\n")


def _region(kind: str, inner: Markup) -> Markup:
    """Return code and formulas within an element that reads from left to right, apart from what surrounds it."""
    if not kind:
        return inner
    tag = "bdi" if kind == "math" else "code"
    return Markup('<{tag} class="{kind}" dir="ltr">{inner}</{tag}>').format(tag=tag, kind=kind, inner=inner)


def _regions(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield ("", "fence", "code" or "math", start, end) over the whole text, in order."""
    at = 0
    for match in _REGIONS.finditer(text):
        kind = _kind(match)
        if not kind:
            continue
        start, end = match.span()
        if at < start:
            yield "", at, start
        yield kind, start, end
        at = end
    if at < len(text):
        yield "", at, len(text)


def _kind(match: re.Match[str]) -> str:
    if match["fence"]:
        return "fence"
    if match["code"]:
        return "code"
    found = match[0]
    if any(unicodedata.bidirectional(letter) in _TURNED for letter in found):
        return ""
    return "" if match["inline"] and found[0] == "$" and not _FORMULA.search(found) else "math"


def _runs(text: str, start: int, end: int, marked: Sequence[Span]) -> Markup:
    """Return a part of a text with those of the spans that lie in it marked."""
    parts = []
    at = start
    for first, last in marked:
        first, last = max(first, start), min(last, end)
        if first >= last:
            continue
        for line in _LINE.finditer(text, first, last):  # neither the ends of lines nor the space that they begin with
            parts += [_visible(text[at : line.start()]), Markup("<mark>{}</mark>").format(_visible(line[0]))]
            at = line.end()
    return Markup("").join([*parts, _visible(text[at:end])])


def _visible(text: str) -> Markup:
    """Return a text escaped, with each hidden character as a small label that tells its number and its name."""
    parts = []
    at = 0
    for match in _HIDDEN.finditer(text):
        number = f"U+{ord(match[0]):04X}"
        name = unicodedata.name(match[0], "control character").lower()
        label = Markup('<bdi class="hidden-character" dir="ltr" title="{}">{}</bdi>').format(name, number)
        parts += [escape(text[at : match.start()]), label]
        at = match.end()
    return Markup("").join([*parts, escape(text[at:])])


def line_of(text: str) -> str:
    """Return a short text, such as a name, with hidden characters as their numbers: for attributes, titles and JSON."""
    return _HIDDEN.sub(lambda found: f"U+{ord(found[0]):04X}", text)


def from_markdown(text: str) -> Markup:
    """Return Markdown as HTML; HTML within it stays text, and headings begin at the second level, below the page's own."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    return Markup(reader.renderer.render(tokens, reader.options, {}))  # what is not Markdown was escaped by the reader
