"""Characters as a reader sees them: invisible ones left out, other forms of digits, letters and minus signs as the plain ones."""

import unicodedata

LONGEST_COMPOSED = 2_000
"""Characters of a text whose accents are composed: ordering many accents that follow each other takes quadratic time."""

_INVISIBLE = (
    *(0x00AD, 0x034F, 0x061C, 0x180E, 0xFEFF),
    *range(0x200B, 0x2010),  # zero width space and joiners, marks of direction
    *range(0x202A, 0x202F),  # embeddings and overrides of direction
    *range(0x2060, 0x2070),  # word joiner, invisible operators, isolates of direction
    *range(0xFE00, 0xFE10),  # variation selectors
    *range(0xFFF9, 0xFFFC),
    *range(0xE0000, 0xE0080),  # tags
)
_ZEROS = (0x0660, 0x06F0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0BE6, 0x0C66, 0x0CE6, 0x0E50, 0x0F20, 0x1040, 0x17E0, 0x1D7CE)
"""Where ten digits of a script begin: Arabic, Persian, Devanagari, Bengali, …"""
_DASHES = "\N{MINUS SIGN}\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{EN DASH}\N{SMALL HYPHEN-MINUS}"
"""What is written for a minus. The em dash is none: it stands between clauses."""

_PLAIN: dict[int, str | None] = {
    **dict.fromkeys(_INVISIBLE),
    **{ord(dash): "-" for dash in _DASHES},
    **{wide: chr(wide - 0xFEE0) for wide in range(0xFF01, 0xFF5F)},
    **{zero + digit: str(digit) for zero in _ZEROS for digit in range(10)},
    0x3000: " ",
    0x3001: ",",
    0x3002: ".",
    0x2044: "/",
    0xFFE5: "¥",
    0xFFE1: "£",
}


def plain_characters(text: str) -> str:
    """Return `text` without invisible characters, and with full-width forms, foreign digits and dashes as the ASCII ones.

    Powers (²) and fractions (½) stay what they are: Unicode's own compatibility form would make 5² into 52.
    """
    return text if text.isascii() else text.translate(_PLAIN)


def composed(text: str) -> str:
    """Return `text` with letters and their accents as one character each (Unicode's NFC); a long text as it is."""
    return text if text.isascii() or len(text) > LONGEST_COMPOSED else unicodedata.normalize("NFC", text)
