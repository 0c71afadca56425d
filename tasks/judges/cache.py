"""What judges have answered, by content, so that nothing is asked twice: one SQLite file that several processes may share."""

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from tasks.workspace.databases import Database, check, explained

FILE = "judge.sqlite"
WAIT = 60.0
"""Seconds to wait for another process that is writing."""
VERSION = 1
"""Of the table, in PRAGMA user_version; files of before have 0."""
AT_ONCE = 500
"""Keys looked up in one query."""


def reply_key(**parts: Any) -> str:
    """Return the digest of everything that decides a reply: who is asked, what, and how."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def judge_mark(address: str, model: str) -> str:
    """Return the key under which it is noted that replies of this judge are kept; those of replies tell no judge."""
    return reply_key(judge=[address, model], note="has answered")


class ReplyCache:
    """Replies by key. Each `put` is on disk when it returns, so a killed process loses only what it was waiting for.

    Raises:
        StorageError: the file is empty, damaged, locked, read-only or of a newer version; with the command that sets it right.
    """

    def __init__(self, folder: Path) -> None:
        self._about = Database(
            file=folder / FILE,
            what="the cache of the judge's answers",
            loses="the answers in it, which the judge is asked for again",
            keeps="finished labels, stages and models",
            version=VERSION,
        )
        self._lock = threading.Lock()
        with self._errors():
            folder.mkdir(parents=True, exist_ok=True)
            if not self._about.file.exists():
                _create(self._about.file)
            check(self._about, wait=WAIT)
            self._base = sqlite3.connect(self._about.file, timeout=WAIT, check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute("SELECT key, reply FROM replies LIMIT 1").fetchall()

    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the replies that there are."""
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            marks = ", ".join("?" * len(some))
            with self._errors(), self._lock:
                rows = self._base.execute(f"SELECT key, reply FROM replies WHERE key IN ({marks})", list(some)).fetchall()
            with self._errors():
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
        except (sqlite3.Error, OSError) as error:
            raise explained(self._about, error) from None
        except ValueError as error:  # a reply that is no JSON
            raise self._about.lost(f"is damaged: {error}") from None


def _create(file: Path) -> None:
    """Make the file whole beside its place: an empty one is then never ours, but one that lost what it held."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.new")
    unfinished.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as made:
            made.execute("PRAGMA journal_mode=WAL")
            made.execute("CREATE TABLE replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID")
            made.execute(f"PRAGMA user_version={VERSION}")
        with suppress(FileExistsError):  # another process was quicker
            os.link(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
