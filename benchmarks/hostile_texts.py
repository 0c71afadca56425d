"""Texts that make careless patterns slow: fragments repeated to a length, between beginnings and endings that ask to be read."""

from collections.abc import Iterator, Sequence

FRAGMENTS = (
    *(" ", "\t", "\n", " \n", "\u00a0", "\u200b", "\u0301", "\u0316\u0300", "é", "\uff11", "\ud800", "\0"),
    *("9", "1,", "111,", "1.", "1 ", "1'111", "1/", "1 1/", "1e", "1^", "2^{", "10^", "-", "+ 1 ", "½", "²", "0x", "1:"),
    *(
        "$",
        "$1",
        "%",
        "€",
        "(",
        "(1",
        "[",
        "{",
        "}",
        "1)",
        "{,}",
        "\\",
        "\\,",
        "\\(",
        "\\text{",
        "\\text{a}",
        "\\frac{",
        "\\frac{1}{",
    ),
    *("\\boxed{", "\\boxed{1} and ", "\\boxed ", "\\frac{" + " " * 50, "\\sqrt{", "^\\circ", "\\approx"),
    *("#", "####", "#### ", "#### 1\n", "#### Step 1\n", "*", "**", "_", "`", "```\n", "> "),
    *(
        "answer",
        "answer is ",
        "answer: ",
        "Answer:\n",
        "answer*",
        '"answer":',
        '"answer": [',
        "'answer': '",
        "<answer>",
        "</answer>",
    ),
    *("<think>", "</think>", "[THINK]", "<", "<<1=1>>1", "\n\nQuestion: ", "1. a\n", "a [1]. "),
    *("A", "(A)", "A, ", "A or ", "not A ", "b. ", "A is wrong, "),
    *(
        "x",
        "x=",
        "=",
        "a per ",
        "apples ",
        "one ",
        "twenty-",
        "hundred ",
        "and ",
        "or ",
        "about ",
        "v1 ",
        "GPT-4 ",
        "1 or ",
        "1 to ",
    ),
)
AROUND = (
    ("", ""),
    ("Answer: ", "1"),
    ("Answer: \\frac{", "1"),
    ("Answer: 1", "2"),
    ("so 7", " 5 km"),
    ("<think>1</think>\\boxed{", "}"),
    ("#### ", "\n#### 5"),
    ('{"answer": "', '"}'),
)
"""What stands before and behind the repetitions."""
ANSWERS = (("7.5",), ("B",), ("Paris",), ("\\frac{\\sqrt{3}}{2}",))
"""Right answers of each kind: a number, a choice, text, mathematics."""


def hostile_texts(size: int, around: Sequence[tuple[str, str]] = AROUND) -> Iterator[tuple[str, str]]:
    """Yield (name, text) for each fragment repeated to `size` characters between each beginning and its ending."""
    for fragment in FRAGMENTS:
        body = (fragment * (size // len(fragment) + 1))[:size]
        for before, behind in around:
            yield f"{before!r} + {fragment!r} to {size:,} + {behind!r}", before + body + behind
