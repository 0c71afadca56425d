"""Where a password is: an environment variable or a file, never a setting, a command line or a note of ours."""

import os
from pathlib import Path

from posttrain.errors import RequestError

KINDS = ("env", "file")


def secret_of(where: str, *, setting: str, what: str = "password") -> str:
    """Return what an environment variable or the first line of a file holds; "" where the setting is empty.

    Args:
        where: "env:NAME", "file:PATH" or "".
        setting: its name, for errors. They never repeat a value that may be the password itself.
        what: it is, for errors.

    Raises:
        RequestError: the setting names neither, or what it names is not there, or is empty.
    """
    if not where:
        return ""
    kind, colon, name = where.partition(":")
    if kind not in KINDS or not colon or not name:
        raise RequestError(
            f"{setting} must say where the {what} is, env:NAME or file:PATH, and never be the {what}; it starts with neither"
        )
    if kind == "env":
        found = os.environ.get(name, "")
        if not found:
            raise RequestError(f"{setting} is {where}, but the environment's variable {name} is not set. Set it, then run again")
        return found
    try:
        lines = Path(name).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise RequestError(f"{setting} is {where}, but the file cannot be read: {reason}. Mend it, then run again") from None
    if not lines or not lines[0].strip():
        raise RequestError(f"{setting} is {where}, but the first line of the file is empty. It must hold the {what}")
    return lines[0].strip()


def login_of(where: str, *, setting: str) -> str:
    """Return `user:password`, as HTTP's Basic scheme takes it; "" where the setting is empty.

    Raises:
        RequestError: it is not there, or has no user, no password, or a sign that no header may have.
    """
    login = secret_of(where, setting=setting)
    user, _, password = login.partition(":")
    if login and not (user and password and login.isascii() and login.isprintable()):
        raise RequestError(f"{setting} is {where}, which must hold user:password in plain ASCII characters")
    return login
