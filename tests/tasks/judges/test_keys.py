"""Which server gets which key: OpenAI's variable is for OpenAI's own server, and any other key goes where a user sends it."""

import pytest

from posttrain.errors import RequestError
from posttrain.judges.opinions import Inquiry
from posttrain.settings.judge import JudgeSettings
from tasks.judges import wire as judge_wire
from tasks.judges.cache import ReplyCache
from tasks.judges.remote import ServerJudge
from tasks.judges.server import Server
from tasks.judges.wire import is_openais
from tests.tasks.judge_servers import completion, faulty

SECRET = "sk-of-openai-0123456789"
GOOD = (200, completion("A", logprobs={"A": -0.1, "B": -2.5}))
ABOUT = Inquiry(system="", question="question\n", think="", ending="Better:", options=(" A", " B"))


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """OpenAI's variables as a user of its server has them, each with the secret in it."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_BASE_URL", "MINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, f"{SECRET}-{name}")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Team: {SECRET}\nAuthorization: Bearer {SECRET}")


@pytest.fixture
def cache(tmp_path):
    made = ReplyCache(tmp_path / "cache")
    yield made
    made.close()


def ask(cache, **how):
    told = JudgeSettings(**{"backend": "openai", "model": "m", "retries": 0} | how)
    asked = Server(told, rest=lambda seconds: None)
    try:
        ServerJudge(told, cache=cache, server=asked).ask([ABOUT])
    finally:
        asked.close()


@pytest.mark.parametrize("is_by_variable", [False, True])
def test_no_other_server_gets_what_is_openais(cache, monkeypatch, is_by_variable):
    with faulty(lambda *_: GOOD) as server:
        if is_by_variable:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        ask(cache, **({} if is_by_variable else {"base_url": server.url}))
        (headers,) = server.headers
    assert headers["authorization"] == "Bearer none"
    assert SECRET not in str(headers) and "m" in str(server.requests)


@pytest.mark.parametrize(("variable", "key"), [("MINE", "my-key"), ("OPENAI_API_KEY", f"{SECRET}-OPENAI_API_KEY")])
def test_a_server_gets_the_key_that_is_named_and_nothing_beside_it(cache, monkeypatch, variable, key):
    monkeypatch.setenv(variable, f" {key}\n")
    with faulty(lambda *_: GOOD) as server:
        ask(cache, base_url=server.url, key_variable=variable)
        (headers,) = server.headers
    assert headers.pop("authorization") == f"Bearer {key}"
    assert SECRET not in str(headers)


def test_openais_own_server_gets_its_key_and_organization(cache, monkeypatch):
    monkeypatch.setattr(judge_wire, "is_openais", lambda scheme, host: host == "127.0.0.1")
    with faulty(lambda *_: GOOD) as server:
        ask(cache, base_url=server.url)
        (headers,) = server.headers
    assert headers["authorization"] == f"Bearer {SECRET}-OPENAI_API_KEY"
    assert headers["openai-organization"] == f"{SECRET}-OPENAI_ORG_ID"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.openai.com/v1", True), ("https://eu.api.openai.com/v1", True), ("https://API.OpenAI.com/v1", True),
        ("http://api.openai.com/v1", False), ("https://api.openai.com.evil.example/v1", False),
        ("https://evilapi.openai.com/v1", False), ("https://api.openai.com@evil.example/v1", False),
        ("https://evil.example/api.openai.com", False), ("https://me.openai.azure.com/openai/v1", False),
    ],
)  # fmt: skip
def test_openais_own_address_is_told_from_others(url, expected):
    wire = judge_wire.Wire(base_url=url, timeout=1)
    assert wire.is_openais is expected
    wire.close()


def test_openais_address_is_one_over_tls():
    assert is_openais("https", "api.openai.com") and not is_openais("http", "api.openai.com")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_neither_key_nor_question_follows_a_redirect(cache, monkeypatch, status):
    monkeypatch.setenv("MINE", "my-key")
    with faulty(lambda *_: GOOD) as other:
        target = f"{other.url}/chat/completions"
        with faulty(lambda *_: (status, "", {"Location": target})) as server, pytest.raises(RequestError) as caught:
            ask(cache, base_url=server.url, key_variable="MINE", retries=3)
        assert not other.headers and len(server.requests) == 1
    assert str(caught.value) == (
        f"judge.base_url={server.url}: the server sends elsewhere ({status}: {target}), and questions and key go nowhere but to "
        "judge.base_url. If you trust that address, name it there"
    )


# --- without a key ------------------------------------------------------------------------------------------------------


def refused(**how):
    with pytest.raises(RequestError) as caught:
        Server(JudgeSettings(backend="openai", model="m", **how))
    return str(caught.value)


def test_without_a_key_openais_own_server_is_not_asked(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    remedy = "Export it, or name another server: judge.base_url=http://…/v1"
    assert (
        refused()
        == f"judge.backend=openai: OpenAI's own server wants a key, and the variable OPENAI_API_KEY is not set. {remedy}"
    )
    assert refused(key_variable="MINE") == (
        f"judge.key_variable=MINE: there is no such environment variable, and OpenAI's own server wants a key. {remedy}"
    )


def test_a_variable_that_is_named_must_be_there():
    assert refused(key_variable="MINE", base_url="http://127.0.0.1:1/v1") == (
        "judge.key_variable=MINE: there is no such environment variable, and http://127.0.0.1:1/v1 is to be given the key in it. "
        "Export it, or leave judge.key_variable empty for a server that wants no key"
    )


@pytest.mark.parametrize("key", ["sk–dash", "two\nlines", "a\x01b"])
def test_a_key_that_no_header_may_hold_is_told_and_not_shown(monkeypatch, key):
    monkeypatch.setenv("MINE", key)
    message = refused(key_variable="MINE", base_url="http://127.0.0.1:1/v1")
    assert key not in message and message.startswith(
        "judge.key_variable=MINE: the environment variable MINE holds a character that no HTTP header may have"
    )


def test_a_server_that_wants_a_key_says_which_setting_names_it(cache):
    with faulty(lambda *_: (401, {"error": {"message": "no key"}})) as server, pytest.raises(RequestError) as caught:
        ask(cache, base_url=server.url)
    assert str(caught.value) == (
        f"judge.base_url={server.url}: the server refuses the key (401: no key). None was sent: name the environment variable "
        "that holds one (judge.key_variable=NAME); OPENAI_API_KEY goes to OpenAI's own server alone unless it is named"
    )
