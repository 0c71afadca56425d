"""Digests of texts that are remembered, sorted or drawn by: short, the same on every machine, and with lone surrogates."""

from hashlib import blake2b


def text_digest(*parts: str) -> bytes:
    """Return 8 bytes that depend on every part and on where one ends."""
    return blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def text_number(*parts: str) -> int:
    """Return `text_digest` as a number of 64 bits."""
    return int.from_bytes(text_digest(*parts), "little")
