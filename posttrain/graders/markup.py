"""Dressing that changes no answer: dollar signs of mathematics, \\text{}, \\frac{}{} of plain numbers, spacing commands."""

import re

_WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|boxed|fbox|mbox|operatorname|emph)\s{0,9}+\{([^{}]{0,400}+)\}"
)
_SPACING = re.compile(r"\\(?:left|right|displaystyle|limits|[,;: ]|quad\b|qquad\b)|~")
_FRACTION = re.compile(
    r"\\[dtc]?frac\s{0,9}+(?:\{\s{0,9}+(-?[\d.,]{1,400}+)\s{0,9}+\}|(\d))\s{0,9}+(?:\{\s{0,9}+([\d.,]{1,400}+)\s{0,9}+\}|(\d))"
)
_DEGREE = re.compile(r"\^\s{0,9}+\{?\s{0,9}+\\circ\s{0,9}+\}?|\\degree\b")
_ABOUT = re.compile(r"\\(?:approx|thickapprox|sim|simeq)(?![a-zA-Z])")
_INFINITY = re.compile(r"\\infty(?![a-zA-Z])")
_OPENINGS, _CLOSINGS = ("\\(", "\\["), ("\\)", "\\]")


def undressed(text: str) -> str:
    """Return an answer without the dressing; what is mathematics beyond plain numbers is left as it is."""
    if "{,}" in text:
        text = text.replace("{,}", ",")
    if "\\" not in text:
        return _without_dollars(text) if "$" in text else text
    text = text.replace("\\$", "\0").replace("\\%", "%").replace("\\#", "#").replace("\\&", "&")
    text = _SPACING.sub(" ", text.replace("\\!", ""))
    text = _without_delimiters(_ABOUT.sub("≈", _INFINITY.sub("∞", _DEGREE.sub("°", text))))
    for _ in range(4):  # \textbf{\text{…}}: deeper dressing is left, so that nobody's nesting costs time
        shorter = _WRAPPED.sub(r"\1", text)
        if shorter == text:
            break
        text = shorter
    text = _FRACTION.sub(_written_out, text)
    return _without_dollars(text).replace("\0", "$").strip()


def _without_delimiters(text: str) -> str:
    """Return `text` without the \\( and \\[ around it; four deep, since nobody means more."""
    for _ in range(4):
        text = text.strip()
        text = text[2:] if text.startswith(_OPENINGS) else text
        text = text[:-2] if text.endswith(_CLOSINGS) else text
    return text.strip()


def _written_out(found: "re.Match[str]") -> str:
    before = found.string[found.start() - 1 : found.start()]
    above, below = found[1] or found[2], found[3] or found[4]
    return f"{' ' if before.isdigit() else ''}{above}/{below}"


def _without_dollars(text: str) -> str:
    """Return `text` without dollar signs that come in pairs, which enclose mathematics; one alone is a currency."""
    return text.replace("$", "") if text.count("$") % 2 == 0 else text
