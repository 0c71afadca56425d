"""A backup as it lies on the disk: a folder, or one file `.tar.zst`; whole under its name, or not there under it.

It is written beside its place and renamed, and its manifest is the last thing that is written. So what was cut off, by us or by
a copy of it that somebody made, has none, and is told.
"""

import hashlib
import io
import os
import shutil
import socket
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

from posttrain.errors import DataError, RequestError
from posttrain.keeping.manifest import FILES, MANIFEST, SECRETS, Manifest, Stored, read_manifest
from tasks.workspace.disk import sync
from tasks.workspace.presence import Process

ARCHIVE = ".tar.zst"
AGAIN = "Nothing was touched. Take another backup, or copy this one again"
BLOCK = 2**20
"""Bytes that are read at a time."""
LONGEST_MANIFEST = 2**28
"""Bytes; a manifest of a million files has half of it."""


class Packed(Protocol):
    """A backup that is being written."""

    scratch: Path
    """A folder beside it, for copies of databases; it is gone afterwards."""

    def add(self, path: str, source: Path) -> Stored:
        """Take a file in, under its path from the repository's root, as long as it is now."""

    def close(self, manifest: Manifest) -> None:
        """Write the manifest, and see all of it on the disk."""

    def end(self) -> None:
        """Let go of what is held, whether it is whole or not."""


class PackedFolder:
    """A backup as a folder."""

    def __init__(self, part: Path) -> None:
        self._part = part
        self.scratch = part / ".scratch"
        self.scratch.mkdir(parents=True)

    def add(self, path: str, source: Path) -> Stored:
        """Copy a file."""
        target = self._part / FILES / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as read, create(target, path) as written:
            return copy_stream(read, written, os.fstat(read.fileno()).st_size)

    def close(self, manifest: Manifest) -> None:
        """Write the manifest once everything else is on the disk."""
        shutil.rmtree(self.scratch)
        sync_tree(self._part)
        (self._part / MANIFEST).write_text(manifest.as_text(), encoding="utf-8")
        sync(self._part / MANIFEST)
        sync(self._part)

    def end(self) -> None:
        """Nothing is held."""


def create(file: Path, path: str) -> IO[bytes]:
    """Open a new file to write what has a path in a backup; a secret is never, even for a moment, anybody's but its owner's."""
    mode = 0o600 if path in SECRETS else 0o666
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")


class PackedArchive:
    """A backup as one compressed file."""

    def __init__(self, part: Path) -> None:
        import pyarrow

        self._part = part
        self.scratch = part.with_name(f"{part.name}.scratch")
        self.scratch.mkdir(parents=True)
        self._file = part.open("xb", buffering=0)
        self._stream = pyarrow.CompressedOutputStream(pyarrow.PythonFile(self._file, mode="w"), "zstd")
        self._tar = tarfile.open(fileobj=self._stream, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115  (closed below)

    def add(self, path: str, source: Path) -> Stored:
        """Append a file."""
        if path in SECRETS:
            self._part.chmod(0o600)
        with source.open("rb") as read:
            digest = _Digesting(read, os.fstat(read.fileno()).st_size)
            self._tar.addfile(_member(f"{FILES}/{path}", digest.size), digest)
        return Stored(digest.size, digest.sha256.hexdigest())

    def close(self, manifest: Manifest) -> None:
        """Append the manifest and close the file."""
        text = manifest.as_text().encode()
        self._tar.addfile(_member(MANIFEST, len(text)), io.BytesIO(text))
        self._tar.close()
        self._stream.close()  # and the file below it
        sync(self._part)
        shutil.rmtree(self.scratch)

    def end(self) -> None:
        """Let go of the file, whatever was written."""
        for stream in (self._tar.fileobj, self._stream, self._file):
            with suppress(Exception):  # a full disk refuses even that
                stream.close()


class _Digesting:
    """A stream of exactly so many bytes, which hashes what is read; a file that grew meanwhile is read to where it ended."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._left, self.size, self.sha256 = stream, size, size, hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        wanted = self._left if count < 0 else min(count, self._left)
        block = self._stream.read(wanted)
        self._left -= len(block)
        self.sha256.update(block)
        return block


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


@contextmanager
def packing(target: Path) -> Iterator[Packed]:
    """Give a backup to write, which has its name once the block is left without error; else nothing of it stays.

    Raises:
        RequestError: something lies at that place, or it is no form of a backup.
    """
    _require_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    part = target.with_name(f".{target.name}.{Process.current().name}.new")
    packed: Packed | None = None
    try:
        packed = PackedArchive(part) if target.name.endswith(ARCHIVE) else PackedFolder(part)
        yield packed
        part.rename(target)
        sync(target.parent)
    finally:
        if packed:
            packed.end()
        _remove(part)


def _require_free(target: Path) -> None:
    is_file = target.name.endswith(ARCHIVE)
    if not is_file and target.suffix in (".tar", ".tgz", ".gz", ".zip", ".zst", ".xz", ".bz2"):
        raise RequestError(f"TO must be a folder, or a file that ends in {ARCHIVE}, got {target}")
    is_empty = target.is_dir() and not any(target.iterdir())
    if os.path.lexists(target) and (is_file or not is_empty):
        raise RequestError(f"TO must name a place where nothing lies yet, but {target} is there. Give another name, or remove it")


def _sweep(target: Path) -> None:
    """Remove what backups to the same place left that were killed."""
    for left in target.parent.glob(f".{target.name}.*.new"):
        whose = Process.from_name(left.name.split(".")[-2], host=socket.gethostname())
        if whose and not whose.may_live():
            _remove(left)


def _remove(part: Path) -> None:
    shutil.rmtree(part.with_name(f"{part.name}.scratch"), ignore_errors=True)
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with suppress(OSError):
            part.unlink()


# --- reading ----------------------------------------------------------------------------------------------------------


class Source:
    """A backup that is read.

    Attributes:
        path: of it.
        manifest: of a folder; of an archive once `files` has come to its end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: Manifest | None = None
        if not os.path.lexists(path):
            raise RequestError(f"FROM must name a backup, a folder or a file that ends in {ARCHIVE}, but there is no {path}")
        if path.is_dir():
            self.manifest = self._of_folder()

    def _of_folder(self) -> Manifest:
        try:
            text = (self.path / MANIFEST).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise self._cut_off() from None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path / MANIFEST} cannot be read ({error}). Nothing was touched") from None
        return read_manifest(text, shown=str(self.path))

    def _cut_off(self) -> DataError:
        return DataError(f"{self.path} is cut off, or no backup: it has no {MANIFEST}, which is written last. {AGAIN}")

    def files(self) -> Iterator[tuple[str, IO[bytes], int]]:
        """Yield each file's path from the repository's root, its bytes, and how many there are.

        Raises:
            DataError: it is cut off or damaged.
        """
        if self.manifest is None:
            yield from self._of_archive()
            return
        for path, told in self.manifest.files.items():
            file = self.path / FILES / path
            if file.is_symlink() or not file.is_file():
                continue  # which the comparison with the manifest tells
            with file.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                if size != told.size:
                    raise DataError(f"{self.path} is damaged: {path} has {size:,} bytes, and {told.size:,} were written. {AGAIN}")
                yield path, stream, size

    def _of_archive(self) -> Iterator[tuple[str, IO[bytes], int]]:
        import pyarrow

        try:
            with self.path.open("rb") as file:
                unpacked: Any = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")
                with tarfile.open(fileobj=unpacked, mode="r|") as tar:
                    for member in tar:
                        stream = tar.extractfile(member) if member.isreg() else None
                        top, _, path = member.name.partition("/")
                        if stream is not None and member.name == MANIFEST and member.size <= LONGEST_MANIFEST:
                            self.manifest = read_manifest(stream.read().decode(), shown=str(self.path))
                        elif stream is not None and top == FILES:
                            yield path, stream, member.size
                        else:
                            raise DataError(
                                f"{self.path} holds {member.name[:80]!r}, which no backup of ours does. Nothing was touched"
                            )
        except (tarfile.TarError, EOFError, UnicodeDecodeError, pyarrow.ArrowException) as error:
            raise self._unreadable(error) from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise self._unreadable(error) from None  # pyarrow's own word for a stream that it cannot unpack
        if self.manifest is None:
            raise self._cut_off()

    def _unreadable(self, error: Exception) -> DataError:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return DataError(f"{self.path} is cut off, damaged, or no backup: {reason}. {AGAIN}")


def copy_stream(read: IO[bytes], written: IO[bytes], size: int) -> Stored:
    """Copy so many bytes, hashed on the way, and return what was copied."""
    stream = _Digesting(read, size)
    count = 0
    while block := stream.read(BLOCK):
        written.write(block)
        count += len(block)
    return Stored(count, stream.sha256.hexdigest())


def sync_tree(folder: Path) -> None:
    """Make every file below a folder, and its name, outlive a power failure."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            continue
        sync(path)
    sync(folder)


def free_bytes(folder: Path) -> int:
    """Return the bytes that are free on the disk of a folder, or of the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
