"""What a file is, told by its first bytes whatever it is called, and the plain bytes inside a compressed one."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from posttrain.errors import DataError, RequestError

LOOKED_AT = 512
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstandard", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
PARQUET, ARROW_FILE, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"

UNREADABLE = (
    (0, b"PK\x03\x04", "a zip archive (or an Excel or Word file, which is one)", "Unpack it, or save the sheet as csv"),
    (257, b"ustar", "a tar archive", "Unpack it (tar -xf) and import the file inside"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it and import the file inside"),
    (0, b"Rar!", "a rar archive", "Unpack it and import the file inside"),
    (0, b"\x04\x22\x4d\x18", "an lz4 file", "Unpack it (lz4 -d) and import the file inside"),
    (0, b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "Save the sheet as csv"),
    (0, b"SQLite format 3", "a SQLite database", "Write the table as csv: sqlite3 -csv -header FILE 'select …'"),
    (0, b"\x89HDF", "an HDF5 file", "Write its rows as JSON lines or parquet"),
    (0, b"\x93NUMPY", "a NumPy array", "Write its rows as JSON lines or parquet"),
    (0, b"Obj\x01", "an Avro file", "Write its rows as JSON lines or parquet"),
    (0, b"%PDF", "a PDF", "Import the data that it was made of"),
    (0, b"\x89PNG", "a picture", "Import text"),
    (0, b"\xff\xd8\xff", "a picture", "Import text"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the data", "Fetch the data: git lfs pull"),
    (0, b"<", "a web page or XML", "Download the file itself, not the page that shows it"),
)
"""(offset, bytes, what it is, remedy) of what has no rows that could be read here."""
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(LOOKED_AT)


def compression_of(head: bytes) -> str:
    """Return the name of the compression that a file begins with, "" for none."""
    found = next((name for magic, name in COMPRESSIONS.items() if head.startswith(magic)), "")
    return "" if found == "bzip2" and head[4:10] not in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90") else found


@contextmanager
def plain_stream(path: Path, *, shown: str) -> Iterator[IO[bytes]]:
    """Give the bytes of a file, unpacked where it is compressed; they stream.

    Raises:
        RequestError: it is not there or cannot be read.
        DataError: it is damaged, or is a container whose rows cannot be read.
    """
    kind = ""
    try:
        head = head_of(path)
        kind = compression_of(head)
        refuse_container(head, shown=shown, inside="")
        with _opened(path, kind) as stream:
            if kind:
                inner = stream.peek(LOOKED_AT)[:LOOKED_AT]
                refuse_container(inner, shown=shown, inside=kind)
                if name := compression_of(inner) or _table(inner):
                    raise DataError(f"{shown} is {name} inside {kind}. Unpack it once and import what is inside")
            yield cast(IO[bytes], stream)
    except FileNotFoundError:
        raise RequestError(
            f"there is no file {shown}. Give its path from {Path.cwd()}; for a dataset of the Hugging Face hub say FORMAT=hub"
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{shown} is a damaged {kind} file ({error}). Download or pack it again") from None
    except OSError as error:
        if kind and error.errno is None:  # what bz2 and Arrow raise for broken data
            raise DataError(f"{shown} is a damaged {kind} file ({error}). Download or pack it again") from None
        raise RequestError(f"{shown} cannot be read: {error.strerror or error}. Give a file that you may read") from None


def _opened(path: Path, kind: str) -> io.BufferedReader:
    raw: Any
    if kind == "zstandard":
        import pyarrow

        raw = pyarrow.input_stream(str(path), compression="zstd")
    else:
        openers: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
        raw = openers[kind](path, "rb") if kind else path.open("rb", buffering=0)
    return io.BufferedReader(raw, buffer_size=1 << 20)


def refuse_container(head: bytes, *, shown: str, inside: str) -> None:
    """Refuse what begins as something else than rows, by its name.

    Raises:
        DataError: it does.
    """
    where = f" inside {inside}" if inside else ""
    for offset, magic, name, remedy in UNREADABLE:
        if head[offset:].startswith(magic):
            raise DataError(f"{shown} is {name}{where}. {remedy}")
    if head.startswith(PICKLES):
        raise DataError(f"{shown} is a pickle{where}, which could run code. Write its rows as JSON lines or parquet")
    if head.count(0) == len(head) > 0:
        raise DataError(f"{shown} begins with NUL bytes{where}: it was not written to its end. Download or write it again")
    is_text = head.lstrip()[:1] in (b"{", b"[") or head.startswith((b"\xff\xfe", b"\xfe\xff", b"\0{", b"\0["))
    if b"\0" in head and not is_text and not head.startswith((PARQUET, ARROW_FILE, ARROW_STREAM)) and not compression_of(head):
        raise DataError(f"{shown} is a binary file{where} of an unknown kind. Write its rows as JSON lines or parquet")


def _table(head: bytes) -> str:
    if head.startswith(PARQUET):
        return "parquet"
    return "Arrow" if head.startswith(ARROW_FILE) else ""
