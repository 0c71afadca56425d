"""Which requests are foreign, and which bring the password: another origin, DNS rebinding, a web socket, our own page."""

import asyncio
import base64

import pytest

from tasks.services.guard import FURTHER_NAMES, further_names, guarded, is_known, own_hosts, own_origins, why_foreign

EVIL = "http://evil.example"
PORT = 4200


LOGIN = "ann:s3cret"


def scope(kind="http", path="/", **headers):
    given = {"host": f"127.0.0.1:{PORT}"} | headers
    listed = [(name.encode(), value.encode()) for name, value in given.items() if value is not None]
    return {"type": kind, "server": ("127.0.0.1", PORT), "path": path, "headers": listed}


def basic(login):
    return f"Basic {base64.b64encode(login.encode()).decode()}"


# --- which requests are foreign ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost:4200"},
        {"host": "LOCALHOST:4200"},
        {"origin": "http://127.0.0.1:4200"},
        {"host": "127.0.0.1:4200", "origin": "http://localhost:4200"},
    ],
)
def test_our_own_page_and_programs_pass(headers):
    assert why_foreign(scope(**headers)) == ""


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:4200"},
        {"host": "127.0.0.1.evil.example:4200"},
        {"host": "localhost.evil.example:4200"},
        {"host": "10.evil.example:4200"},
        {"host": "127.0.0.1"},
        {"host": "127.0.0.1:4201"},
        {"host": ""},
        {"host": None},
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "https://127.0.0.1:4200"},
        {"origin": "http://127.0.0.1:8888"},
        {"origin": "http://127.0.0.1:4200.evil.example"},
        {"host": "evil.example:4200", "origin": "http://evil.example:4200"},
    ],
)
def test_foreign_pages_do_not(headers):
    assert why_foreign(scope(**headers))


@pytest.mark.parametrize("header", ["host", "origin"])
def test_a_header_that_comes_twice_is_foreign(header):
    twice = scope(origin=f"http://127.0.0.1:{PORT}")
    twice["headers"] += [pair for pair in twice["headers"] if pair[0] == header.encode()]
    assert why_foreign(twice)


def sent_by(kind, login="", names=(), **headers):
    """Return what a guarded app sends, and whether the app itself was reached."""
    reached, sent = [], []

    async def app(scope, receive, send):
        reached.append(scope["type"])

    async def send(message):
        sent.append(message)

    given = scope(kind, **headers) if kind != "lifespan" else {"type": kind}
    asyncio.run(guarded(app, names=names, login=login)(given, None, send))
    return bool(reached), sent


def test_the_guard_lets_its_own_page_and_the_servers_start_through():
    assert sent_by("http") == (True, []) and sent_by("websocket") == (True, []) and sent_by("lifespan") == (True, [])


def test_a_foreign_request_does_not_reach_the_app():
    reached, sent = sent_by("http", origin=EVIL)
    assert not reached and sent[0]["status"] == 403 and len(sent) == 2
    reached, sent = sent_by("websocket", origin=EVIL)
    assert not reached and [message["type"] for message in sent] == ["websocket.close"]


# --- names beside those of this machine -------------------------------------------------------------------------------


def test_a_further_name_stands_for_the_servers_port_and_for_a_proxys():
    assert own_hosts(80, ("prefect", "x.org:8443")) == ("127.0.0.1:80", "localhost:80", "prefect:80", "prefect", "x.org:8443")
    assert own_origins(80, ("x.org:8443",))[2:] == ("http://x.org:8443", "https://x.org:8443")
    for headers in (
        {"host": "prefect"},
        {"host": "prefect:4200", "origin": "https://prefect"},
        {"origin": "http://prefect:4200"},
    ):
        assert why_foreign(scope(**headers)), "it is no name until it is given"
        assert why_foreign(scope(**headers), ("prefect",)) == ""
    for headers in ({"host": "prefect:4201"}, {"host": "prefect.evil.example"}, {"origin": "http://prefect.evil.example"}):
        assert why_foreign(scope(**headers), ("prefect",))


def test_https_is_for_further_names_only():
    assert "https://127.0.0.1:80" not in own_origins(80, ("x",)) and "https://x" in own_origins(80, ("x",))


def test_names_come_from_the_environment_in_the_form_of_headers(monkeypatch):
    monkeypatch.delenv(FURTHER_NAMES, raising=False)
    assert further_names() == ()
    monkeypatch.setenv(FURTHER_NAMES, " Prefect, ,x.org:8443 ")
    assert further_names() == ("prefect", "x.org:8443")


# --- the password -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [basic(LOGIN), basic(LOGIN).replace("Basic", "basic")])
def test_the_password_is_known(given):
    assert is_known(scope(authorization=given), LOGIN)


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Basic",
        "Basic ",
        "Basic %%%",
        basic("ann:s3cre"),
        basic("ann:s3crett"),
        basic("ann"),
        basic(""),
        basic(LOGIN).replace("Basic", "Bearer"),
        f"Basic {LOGIN}",
    ],
)
def test_anything_else_is_not(given):
    assert not is_known(scope(authorization=given), LOGIN)


def test_a_password_that_comes_twice_is_none():
    twice = scope(authorization=basic(LOGIN))
    twice["headers"] += [pair for pair in twice["headers"] if pair[0] == b"authorization"]
    assert not is_known(twice, LOGIN)


def test_without_the_password_only_health_is_told():
    reached, sent = sent_by("http", login=LOGIN)
    assert not reached and sent[0]["status"] == 401
    assert dict(sent[0]["headers"])[b"www-authenticate"].startswith(b"Basic "), "a browser asks its user"
    assert sent_by("http", login=LOGIN, path="/health") == (True, [])
    assert not sent_by("http", login=LOGIN, path="/health/x")[0] and not sent_by("http", login=LOGIN, path="/x/health")[0]
    assert sent_by("http", login=LOGIN, authorization=basic(LOGIN)) == (True, [])
    assert sent_by("websocket", login=LOGIN)[1][0]["type"] == "websocket.close"
    assert sent_by("lifespan", login=LOGIN) == (True, [])


def test_a_foreign_page_is_refused_even_with_the_password():
    reached, sent = sent_by("http", login=LOGIN, authorization=basic(LOGIN), origin=EVIL)
    assert not reached and sent[0]["status"] == 403
    assert not sent_by("http", login=LOGIN, path="/health", origin=EVIL)[0]
