"""What is printed: text of others as a terminal may have it, and numbers with their nouns."""

import re

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for tabs and ends of lines: escapes move the cursor and hide text
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of writing round
    "\ud800-\udfff]"  # halves of a character, which cannot be encoded
)


def printable(text: str) -> str:
    """Return a text with whatever would command a terminal written out: an escape becomes the four letters \\x1b."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def counted(count: int, one: str, several: str = "") -> str:
    """Return a number with its noun: "1 run", "2 runs", "0 runs"; `several` where that is no plural with an s."""
    return f"1 {one}" if count == 1 else f"{count:,} {several or f'{one}s'}"
