"""Members of a zip archive as bytes, also where they are packed with zstandard, which Python reads from 3.14 on only."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from posttrain.errors import DataError

MAGIC = b"PK\x03\x04"
ZSTANDARD = 93
"""Compression method of the zip format (APPNOTE 6.3.8, section 4.4.5)."""
LARGEST = 256 * 1024 * 1024
"""Bytes of a member, at most: a small archive can hold one of gigabytes."""
_LOCAL_HEADER = struct.Struct("<4s22xHH")


class Archive:
    """A zip archive that is open for reading.

    Attributes:
        shown: the file, as messages name it.
        names: of its members, in order.
    """

    def __init__(self, file: IO[bytes], shown: str) -> None:
        self.shown = shown
        self._file = file
        self._zip = zipfile.ZipFile(file)
        self.names = self._zip.namelist()

    def read(self, name: str) -> bytes:
        """Return a member.

        Raises:
            DataError: it is not there, damaged, or larger than `LARGEST`.
        """
        try:
            info = self._zip.getinfo(name)
        except KeyError:
            raise DataError(f"{self.shown} has no {name}, so it is no whole log of inspect_ai. Write it again") from None
        try:
            if info.compress_type == ZSTANDARD:
                content = self._zstandard(info)
            else:
                with self._zip.open(info) as stream:
                    content = stream.read(LARGEST + 1)
        # all that zipfile, zlib and pyarrow raise; zipfile has RuntimeError for an encrypted member, and one of its kind for a
        # packing that it cannot read
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
            raise damaged(self.shown, f"{name}: {error}") from None
        if len(content) > LARGEST:
            raise DataError(f"{self.shown}: {name} is larger than {LARGEST // 1024**2} MB, which is the most that one may be")
        return content

    def _zstandard(self, info: zipfile.ZipInfo) -> bytes:
        """Return a member of several frames, whose place its local header tells."""
        import pyarrow

        self._file.seek(info.header_offset)
        magic, name, extra = _LOCAL_HEADER.unpack(self._file.read(_LOCAL_HEADER.size))
        if magic != MAGIC:
            raise ValueError("no member begins where the directory says")
        self._file.seek(name + extra, io.SEEK_CUR)
        packed = self._file.read(info.compress_size)
        with pyarrow.input_stream(pyarrow.BufferReader(packed), compression="zstd") as stream:
            content: bytes = stream.read(min(info.file_size, LARGEST + 1))
        if len(content) <= LARGEST and zlib.crc32(content) != info.CRC:
            raise ValueError("its checksum is another")
        return content


@contextmanager
def opened(path: Path, *, shown: str) -> Iterator[Archive]:
    """Give an archive.

    Raises:
        DataError: it is damaged.
    """
    with path.open("rb") as file:
        try:
            archive = Archive(file, shown)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise damaged(shown, str(error)) from None
        yield archive


def damaged(shown: str, reason: str) -> DataError:
    """Return the error for an archive that cannot be read."""
    return DataError(f"{shown} is a damaged zip archive ({reason}). Copy or write it again")
