"""Finished stages on storage that several machines share: what one worker has made, the others take.

    <uri>/<stage>/<key>/<attempt>/<file>   the files of one upload
    <uri>/<stage>/<key>/made.json          names the attempt that is whole; written when all its files are there
    <uri>/<stage>/<key>/turns/<number>     who makes the stage now; the newest counts

Objects appear whole or not at all, in object stores as in folders. `made.json` and turns are written only where no object of the
name is there (S3's `If-None-Match: *`), so the first of two workers wins, whatever their clocks say.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from posttrain.errors import RequestError
from posttrain.settings.store import StoreSettings

PACKAGE = "obstore"
FOLDER, BUCKETS = "file", ("s3", "gs", "az")
MADE = "made.json"
PATIENCE = timedelta(seconds=20)
"""For which a request that fails is repeated."""
LOOKS = 20
"""Looks at a stage that another worker makes, within a lease."""
CHUNK = 8 * 2**20
Say = Callable[[str], None]


def open_shared(settings: StoreSettings) -> "SharedStages | None":
    """Return the shared storage that is set, None for none.

    Raises:
        RequestError: its address is none, or the package is missing.
    """
    if not settings.uri:
        return None
    parts = urlsplit(settings.uri)
    if parts.scheme not in (FOLDER, *BUCKETS) or (parts.scheme == FOLDER and (parts.netloc or not parts.path.strip("/"))):
        raise RequestError(
            "store.uri must be s3://bucket/folder, gs://bucket/folder, az://container/folder or file:///folder, got "
            f"{settings.uri}"
        )
    if parts.scheme in BUCKETS and not parts.netloc:
        raise RequestError(f"store.uri={settings.uri} names no bucket: {parts.scheme}://bucket/folder")
    if find_spec(PACKAGE) is None:
        raise RequestError(f"store.uri needs {PACKAGE}: .venv/bin/pip install -c constraints.txt -e '.[store]'")
    return SharedStages(settings.uri, lease_seconds=settings.lease_seconds)


class SharedStages:
    """Finished stages at an address.

    Args:
        uri: of a bucket's folder, or of a folder.
        lease_seconds: without a sign of life after which a worker counts as gone.
    """

    def __init__(self, uri: str, *, lease_seconds: float) -> None:
        self.uri, self._lease = uri, lease_seconds
        self._store = _opened(uri)

    def check(self) -> None:
        """Look whether the storage answers.

        Raises:
            RequestError: it does not, or lets nobody in.
        """
        with self._errors():
            next(iter(self._list("")), None)

    def holds(self, stage: str, key: str) -> bool:
        """Return whether a finished stage is there.

        Raises:
            TroubleError: the storage refused.
        """
        with self._errors():
            return self._read(f"{stage}/{key}/{MADE}") is not None

    def fetch(self, stage: str, key: str, into: Path) -> bool:
        """Fetch the files of a finished stage into an empty folder, each held against its digest; return whether it is there.

        Raises:
            TroubleError: the storage refused, or a file is not what `stage.json` says.
        """
        import obstore

        with self._errors():
            made = self._read(f"{stage}/{key}/{MADE}")
            if made is None:
                return False
            for name, wanted in made["files"].items():
                if Path(name).is_absolute() or ".." in Path(name).parts:
                    raise TroubleError(f"stage {stage} at {self.uri} names a file outside its folder: {name}")
                target = into / name
                target.parent.mkdir(parents=True, exist_ok=True)
                digest = sha256()
                with target.open("wb") as file, suppress(FileNotFoundError):  # an object that is gone has no digest either
                    for chunk in obstore.get(self._store, f"{stage}/{key}/{made['attempt']}/{name}").stream(CHUNK):
                        file.write(chunk)
                        digest.update(chunk)
                if digest.hexdigest() != wanted:
                    self._remove(f"{stage}/{key}/{MADE}")  # so that whoever makes it again can put it there
                    raise TroubleError(f"{name} of stage {stage} at {self.uri} is damaged, or gone")
        return True

    def offer(self, stage: str, key: str, folder: Path) -> None:
        """Put a finished stage there, unless another worker was first.

        Raises:
            TroubleError: the storage refused; nothing of it is seen by others.
        """
        import obstore

        attempt = secrets.token_hex(8)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        with self._errors():
            digests = {}
            for path in files:
                name = str(path.relative_to(folder))
                obstore.put(self._store, f"{stage}/{key}/{attempt}/{name}", path)
                with path.open("rb") as file:
                    digests[name] = _digest(file)
            # last, since from here on others take it
            if not self._create(f"{stage}/{key}/{MADE}", {"attempt": attempt, "files": digests}):
                self._remove(f"{stage}/{key}/{attempt}")

    @contextmanager
    def turn(self, stage: str, key: str, say: Say) -> Iterator[bool]:
        """Wait until nobody else makes a stage; yield True where it is ours to make now, False where it is there.

        While the block runs a thread gives signs of life.

        Args:
            stage: its name.
            key: its key.
            say: is told once that another worker makes it.

        Raises:
            TroubleError: the storage refused.
        """
        place = f"{stage}/{key}"
        seen, since, is_told = -1, time.monotonic(), False
        while True:
            with self._errors():
                is_made = self._read(f"{place}/{MADE}") is not None
                newest = max(self._turns(place), default=-1)
                if newest != seen:
                    seen, since = newest, time.monotonic()
                is_free = not is_made and (newest < 0 or self._is_over(place, newest) or time.monotonic() - since > self._lease)
                if is_free and self._create(f"{place}/turns/{newest + 1}", {"is_over": False}):
                    break
            # out of the block above, whose errors are the storage's and not those of whoever makes the stage
            if is_made:
                yield False
                return
            if not is_told and not is_free:
                say(f"{stage}: another worker makes it (store.uri={self.uri}); waiting for it")
                is_told = True
            time.sleep(self._lease / LOOKS)
        with self._signs_of_life(place, newest + 1):
            yield True

    @contextmanager
    def _signs_of_life(self, place: str, number: int) -> Iterator[None]:
        """Write a new turn three times within a lease; the last one says that it is over."""
        done, current = threading.Event(), [number]

        def beat() -> None:
            while not done.wait(self._lease / 3):
                with suppress(TroubleError), self._errors():
                    if not self._create(f"{place}/turns/{current[0] + 1}", {"is_over": False}):
                        return  # another worker took this one for gone, and makes the stage too: the first to finish wins
                    self._remove(f"{place}/turns/{current[0]}")
                    current[0] += 1

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            with suppress(TroubleError), self._errors():
                self._create(f"{place}/turns/{current[0] + 1}", {"is_over": True})
                self._remove(f"{place}/turns/{current[0]}")

    # --- objects ----------------------------------------------------------------------------------------------------------

    def _turns(self, place: str) -> list[int]:
        return [int(path.rpartition("/")[2]) for path in self._list(f"{place}/turns")]

    def _is_over(self, place: str, number: int) -> bool:
        told = self._read(f"{place}/turns/{number}")
        return told is None or bool(told["is_over"])

    def _list(self, prefix: str) -> Iterator[str]:
        import obstore

        for batch in obstore.list(self._store, prefix=prefix or None):
            yield from (str(found["path"]) for found in batch)

    def _read(self, path: str) -> dict[str, Any] | None:
        import obstore

        try:
            told: dict[str, Any] = json.loads(bytes(obstore.get(self._store, path).bytes()))
        except FileNotFoundError:
            return None
        return told

    def _create(self, path: str, told: dict[str, Any]) -> bool:
        """Write an object where none of its name is there; return whether that was so."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            obstore.put(self._store, path, json.dumps(told).encode(), mode="create")
        except AlreadyExistsError:
            return False
        return True

    def _remove(self, prefix: str) -> None:
        import obstore

        found = list(self._list(prefix)) or [prefix]
        with suppress(FileNotFoundError):
            obstore.delete(self._store, found)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, FileNotFoundError, PermissionError, ValueError, KeyError) as error:
            first = str(error).strip().partition("\n")[0]
            raise TroubleError(f"store.uri={self.uri} does not answer, or refuses: {first[:200]}") from None


class TroubleError(RequestError):
    """The shared storage cannot be used, or holds something that is damaged."""


def _opened(uri: str) -> Any:
    from obstore.store import LocalStore, from_url

    parts = urlsplit(uri)
    if parts.scheme == FOLDER:
        return LocalStore(Path(unquote(parts.path)), mkdir=True)
    return from_url(
        uri,
        client_options={"allow_http": True, "timeout": timedelta(minutes=10), "connect_timeout": timedelta(seconds=10)},
        retry_config={"max_retries": 4, "retry_timeout": PATIENCE},
    )


def _digest(file: Any) -> str:
    digest = sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
