"""Where a password is, and that no error repeats one."""

from pathlib import Path

import pytest

from posttrain.errors import RequestError
from tasks.services.passwords import login_of, secret_of


def refusal(where: str, login: bool = False) -> str:
    with pytest.raises(RequestError) as told:
        (login_of if login else secret_of)(where, setting="servers.password")
    return str(told.value)


def test_none_is_asked_for() -> None:
    assert secret_of("", setting="x") == login_of("", setting="x") == ""


def test_a_variable_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGIN", "ann:s3:cret")
    assert secret_of("env:LOGIN", setting="x") == login_of("env:LOGIN", setting="x") == "ann:s3:cret"
    file = tmp_path / "p"
    file.write_text("ann:other  \nsecond line\n")
    assert login_of(f"file:{file}", setting="x") == "ann:other"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert login_of("file:~/p", setting="x") == "ann:other"


@pytest.mark.parametrize("where", ["s3cret", "ann:s3cret", "env:", "file:", "ENV:LOGIN"])
def test_a_password_in_place_of_its_place_is_refused_and_not_repeated(where: str) -> None:
    assert refusal(where) == (
        "servers.password must say where the password is, env:NAME or file:PATH, and never be the password; "
        "it starts with neither"
    )


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOGIN", raising=False)
    told = "servers.password is env:LOGIN, but the environment's variable LOGIN is not set. Set it, then run again"
    assert refusal("env:LOGIN") == told
    monkeypatch.setenv("LOGIN", "")
    assert refusal("env:LOGIN") == told
    file = tmp_path / "p"
    assert refusal(f"file:{file}") == (
        f"servers.password is file:{file}, but the file cannot be read: No such file or directory. Mend it, then run again"
    )
    file.write_bytes(b"\xff\xfe")
    assert (
        refusal(f"file:{file}")
        == f"servers.password is file:{file}, but the file cannot be read: it is no text. Mend it, then run again"
    )
    file.write_text("  \nann:s3cret")
    assert refusal(f"file:{file}") == (
        f"servers.password is file:{file}, but the first line of the file is empty. It must hold the password"
    )


@pytest.mark.parametrize("login", ["s3cret", ":s3cret", "ann:", "änn:s3cret", "ann:s3\tcret"])
def test_a_login_has_a_user_and_a_password(monkeypatch: pytest.MonkeyPatch, login: str) -> None:
    monkeypatch.setenv("LOGIN", login)
    assert (
        refusal("env:LOGIN", login=True)
        == "servers.password is env:LOGIN, which must hold user:password in plain ASCII characters"
    )
