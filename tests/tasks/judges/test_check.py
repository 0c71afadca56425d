"""Before anything trains the judge's server is asked for its model: who is not there, or not known, is told at once."""

import pytest

from posttrain.errors import RequestError
from posttrain.judges.opinions import Inquiry
from posttrain.settings.judge import JudgeSettings
from tasks.judges.cache import FILE, ReplyCache
from tasks.judges.check import check_server
from tasks.judges.remote import ServerJudge
from tasks.judges.server import Server
from tests.tasks.judge_servers import completion, faulty

GOOD = (200, completion("A", logprobs={"A": -0.1, "B": -2.5}))
ABOUT = Inquiry(system="", question="question\n", think="", ending="Better:", options=(" A", " B"))


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def settings_of(url, **how):
    return JudgeSettings(**{"backend": "openai", "model": "m", "base_url": url, "retries": 1} | how)


def check(url, folder, **how):
    told = settings_of(url, **how)
    return check_server(told, cache=folder, server=Server(told, rest=lambda seconds: None))


def refused(server, folder, **how):
    with pytest.raises(RequestError) as caught:
        check(server.url, folder, **how)
    return str(caught.value).replace(server.url, "URL")


def answers(folder, url, **how):
    """Return the judge's opinion of a question, through the cache in this folder."""
    told, cache = settings_of(url, **how), ReplyCache(folder)
    judge = ServerJudge(told, cache=cache, server=Server(told, rest=lambda seconds: None))
    try:
        return judge.ask([ABOUT])
    finally:
        judge.close()


def test_a_model_that_is_listed_costs_no_question(tmp_path):
    with faulty(lambda *_: GOOD, models=("other", "m")) as server:
        assert check(server.url, tmp_path) == []
        assert server.models_asked == 1 and not server.requests
    assert not list(tmp_path.iterdir()), "nothing is made"


def test_a_misspelt_model_is_told_with_the_nearest_and_the_known(tmp_path):
    names = ("judge-large", "judge-small", *(f"other-{number}" for number in range(10)))
    with faulty(lambda *_: GOOD, models=names) as server:
        assert refused(server, tmp_path, model="judge-lrage") == (
            "judge.model=judge-lrage: URL lists no such model; did you mean judge-large? It lists judge-large, judge-small, "
            "other-0, other-1, other-2, other-3, other-4, other-5, other-6, other-7 and 2 more. Name one of them, or set "
            "judge.must_be_listed=false if it answers to other names as well"
        )
        assert not server.requests


def test_a_model_beyond_the_list_may_be_asked_for(tmp_path):
    def behave(body, number):
        return GOOD if body["model"] == "deployment" else (404, {"error": {"message": "no such deployment"}})

    with faulty(behave, models=("large",)) as server:
        assert check(server.url, tmp_path, model="deployment", must_be_listed=False) == []
        assert refused(server, tmp_path, model="larg", must_be_listed=False) == (
            "judge.base_url=URL, judge.model=larg: the server knows no such model or address (404: no such deployment). Correct "
            "one of them; did you mean large? It lists large."
        )


WITHOUT_LIST = [None, (), (403, {"detail": "no scope"}), (500, "oh"), (200, {"data": [{}]}), (200, "<html>"), (200, "[" * 10**5)]


@pytest.mark.parametrize("models", WITHOUT_LIST)
def test_a_server_without_a_list_is_asked_one_small_question(tmp_path, models):
    with faulty(lambda *_: GOOD, models=models) as server:
        assert check(server.url, tmp_path) == []
        (request,) = server.requests
        assert request == {"model": "m", "messages": [{"role": "user", "content": "Say A."}], "max_tokens": 8}


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((404, {"error": {"message": "no m"}}), "judge.base_url=URL, judge.model=m: the server knows no such model or address"),
        ((401, {"error": {"message": "who?"}}), "judge.base_url=URL: the server refuses the key (401: who?). None was sent: "),
        ((500, "oh"), "judge.base_url=URL: the judge's server does not answer, asked 2 times before anything trains; the last"),
        ((200, "{}"), "judge.base_url=URL: the judge's server does not answer, asked 2 times before anything trains; the last"),
    ],
)  # fmt: skip
def test_a_small_question_that_is_refused_is_one_sentence(tmp_path, answer, sentence):
    with faulty(lambda *_: answer, models=None) as server:
        assert refused(server, tmp_path).startswith(sentence)


def test_the_newer_name_of_the_limit_is_found(tmp_path):
    def behave(body, number):
        return (400, {"error": {"message": "Use max_completion_tokens, not max_tokens"}}) if "max_tokens" in body else GOOD

    with faulty(behave, models=None) as server:
        assert check(server.url, tmp_path) == []
        assert [sorted(body) for body in server.requests][-1] == ["max_completion_tokens", "messages", "model"]


def test_names_of_a_foreign_list_reach_no_terminal_raw(tmp_path):
    with faulty(lambda *_: GOOD, models=("\x1b[2J", "b" * 10_000)) as server:
        message = refused(server, tmp_path)
    assert message.isprintable() and len(message) < 1_000


def test_a_server_that_is_not_there_is_told_soon(tmp_path):
    with faulty(lambda *_: GOOD) as server:
        pass
    message = refused(server, tmp_path, retries=50)
    assert message.startswith(
        "judge.base_url=URL: the judge's server does not answer, asked 3 times before anything trains; the last time: connection"
    )
    assert message.endswith(". Start it, or correct judge.base_url")


# --- what is kept needs no server ------------------------------------------------------------------------------------------


def test_a_run_whose_answers_are_kept_needs_no_server(tmp_path):
    with faulty(lambda *_: GOOD) as server:
        (before,) = answers(tmp_path, server.url)
    (note,) = check(server.url, tmp_path)
    assert note.startswith(f"judge.base_url={server.url}: the server does not answer (connection failed: ")
    assert note.endswith("). Answers of m are kept, so the run goes on with them, and ends where one is missing")
    assert answers(tmp_path, server.url) == [before]


def test_kept_answers_of_another_judge_do_not_count(tmp_path):
    with faulty(lambda *_: GOOD) as server:
        answers(tmp_path, server.url)
    assert "does not answer, asked 3 times" in refused(server, tmp_path, model="n")


def test_answers_that_were_kept_without_the_note_get_it_when_they_are_read(tmp_path):
    with faulty(lambda *_: GOOD) as server:
        answers(tmp_path, server.url)
        cache = ReplyCache(tmp_path)
        cache._base.execute("DELETE FROM replies WHERE reply NOT LIKE '%positions%'")
        cache.close()
        answers(tmp_path, server.url)
        assert len(server.requests) == 1
    assert len(check(server.url, tmp_path)) == 1 and (tmp_path / FILE).exists()


def test_a_model_that_is_gone_is_told_although_answers_are_kept(tmp_path):
    with faulty(lambda *_: GOOD) as server:
        answers(tmp_path, server.url)
        server.models = ("newer",)
        assert "lists no such model. It lists newer." in refused(server, tmp_path)
