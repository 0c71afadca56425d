"""What judges have answered, by content, so that nothing is asked twice: one SQLite file that several processes may share."""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posttrain.errors import StorageError

FILE = "judge.sqlite"
WAIT = 60.0
"""Seconds to wait for another process that is writing."""
AT_ONCE = 500
"""Keys looked up in one query."""


def reply_key(**parts: Any) -> str:
    """Return the digest of everything that decides a reply: who is asked, what, and how."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class ReplyCache:
    """Replies by key. Each `put` is on disk when it returns, so a killed process loses only what it was waiting for."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        with self._errors():
            folder.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self._path, timeout=WAIT, check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID")

    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the replies that there are."""
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            marks = ", ".join("?" * len(some))
            with self._errors(), self._lock:
                rows = self._base.execute(f"SELECT key, reply FROM replies WHERE key IN ({marks})", list(some)).fetchall()
            found |= {key: json.loads(reply) for key, reply in rows}
        return found

    def put(self, replies: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep replies, all of them or none."""
        rows = [(key, json.dumps(reply, ensure_ascii=False)) for key, reply in replies.items()]
        with self._errors(), self._lock:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                self._base.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?)", rows)
                self._base.execute("COMMIT")
            except BaseException:
                self._base.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"{self._path}: the cache of the judge's answers cannot be used: {error}. Make room or make it writable; what is "
                "in it is kept"
            ) from None
        except (sqlite3.DatabaseError, OSError) as error:
            raise StorageError(
                f"{self._path}: the cache of the judge's answers cannot be read: {error}. Delete it, and the judge is asked again"
            ) from None
