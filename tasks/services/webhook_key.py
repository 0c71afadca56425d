"""The key by which MLflow's server keeps the secrets of webhooks: made once, read by its user alone."""

import base64
import os
from contextlib import suppress
from pathlib import Path

from tasks.services.notes import folder_of
from tasks.workspace.disk import cannot_write
from tasks.workspace.paths import Paths

VARIABLE = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
LENGTH = 32
"""Bytes of a key of Fernet, which MLflow encrypts with."""


def key_environment(paths: Paths) -> dict[str, str]:
    """Return what a server of MLflow is given beside the rest of its environment."""
    return {VARIABLE: webhook_key(paths)}


def webhook_key(paths: Paths) -> str:
    """Return the key that the environment names, else the one of this folder, made where there is none.

    Without one, each server of MLflow makes one up, and can read no secret that an earlier one wrote: no webhook then works, and
    none can be listed.

    Raises:
        StorageError: the disk refused.
    """
    if named := os.environ.get(VARIABLE):
        return named
    file = folder_of(paths) / "webhook.key"
    try:
        with suppress(FileNotFoundError):
            if kept := file.read_text(encoding="ascii").strip():
                return kept
        return _made(file)
    except OSError as error:
        raise cannot_write(error, file) from None


def _made(file: Path) -> str:
    """Make a key; of two processes that do so at once, both return the key of the first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}.new")
    key = base64.urlsafe_b64encode(os.urandom(LENGTH)).decode()
    with suppress(FileNotFoundError):
        beside.unlink()
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(f"{key}\n")
        opened.flush()
        os.fsync(opened.fileno())
    try:
        with suppress(FileExistsError):
            os.link(beside, file)
        kept = file.read_text(encoding="ascii").strip()
        if not kept:  # a disk that was full once
            beside.replace(file)
            return key
        return kept
    finally:
        beside.unlink(missing_ok=True)
