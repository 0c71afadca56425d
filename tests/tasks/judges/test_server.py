"""A judge behind a server that misbehaves: it waits, tries again, goes on, or stops with one clear sentence."""

import json
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from posttrain.errors import RequestError, StorageError
from posttrain.judges.opinions import Inquiry
from posttrain.settings.judge import JudgeSettings
from tasks.judges.cache import ReplyCache, reply_key
from tasks.judges.remote import ServerJudge
from tasks.judges.replies import reply_of
from tasks.judges.server import Pace, Server
from tests.tasks.judge_servers import completion, faulty

KEY = "sk-secret-0123456789"
SURE = {"A": -0.1, "B": -2.5}
GOOD = (200, completion("A", logprobs=SURE))
BARE = (200, completion("A"))


def about(number, think=""):
    return Inquiry(system="", question=f"question {number}\n", think=think, ending="Better:", options=(" A", " B"))


def text_of(inquiry):
    return inquiry.question + inquiry.ending


@pytest.fixture
def cache(tmp_path):
    made = ReplyCache(tmp_path / "cache")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def made():
    """Every judge that a test made, to be closed at its end."""
    JUDGES.clear()
    yield
    for judge in JUDGES:
        judge.close()


JUDGES = []


def judge_at(server, cache, *, rest=None, **settings):
    told = JudgeSettings(
        **{"backend": "openai", "model": "m", "base_url": server.url, "key_variable": "JUDGE_KEY", "retries": 3} | settings
    )
    JUDGES.append(ServerJudge(told, cache=cache, server=Server(told, rest=rest or (lambda seconds: None))))
    return JUDGES[-1]


def at_first(trouble, then=GOOD):
    return lambda body, number: trouble if number == 0 else then


# --- what is asked -----------------------------------------------------------------------------------------------------


def test_a_server_is_asked_for_the_probabilities_of_its_first_tokens(cache):
    with faulty(lambda *_: GOOD) as server:
        judge = judge_at(server, cache)
        (opinion,) = judge.ask([about(1)])
        (request,) = server.requests
    assert opinion.shares == pytest.approx((1 / (1 + 2.718281828**-2.4), 1 / (1 + 2.718281828**2.4)), abs=1e-6)
    assert request == {
        "model": "m", "messages": [{"role": "user", "content": "question 1\nBetter:"}], "max_tokens": 8, "temperature": 0.0,
        "logprobs": True, "top_logprobs": 20,
    }  # fmt: skip
    assert server.authorizations == [f"Bearer {KEY}"]
    assert (judge.usage.asked, judge.usage.prompt_tokens, judge.usage.completion_tokens) == (1, 11, 1) and opinion.at


def test_a_judge_may_think_aloud_first(cache):
    def behave(body, number):
        return GOOD if "logprobs" in body else (200, completion(" since 2 + 2 = 4 "))

    inquiry = Inquiry(system="Be fair.", question="q\n", think="Why?", ending="\nSo:", options=(" A", " B"))
    with faulty(behave) as server:
        (opinion,) = judge_at(server, cache, max_tokens=77).ask([inquiry])
        first, second = server.requests
    assert opinion.reasoning == "since 2 + 2 = 4"
    assert first["max_tokens"] == 77 and [message["content"] for message in first["messages"]] == ["Be fair.", "q\nWhy?"]
    assert [(message["role"], message["content"]) for message in second["messages"]] == [
        ("system", "Be fair."), ("user", "q\nWhy?"), ("assistant", "since 2 + 2 = 4"), ("user", "So:"),
    ]  # fmt: skip


# --- trouble that passes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        (500, {"error": {"message": "oh"}}), (503, "down"), (502, "<html>"), (429, {"error": {"message": "slow"}}), (408, ""),
        "drop", "half", "nonsense", (200, {"choices": []}), (200, []), (200, "null"), (200, {"error": "busy"}),
        (200, {"choices": [{"message": {"content": 5}}]}),
    ],
)  # fmt: skip
def test_trouble_that_passes_is_waited_out(cache, trouble):
    with faulty(at_first(trouble)) as server:
        (opinion,) = judge_at(server, cache).ask([about(1)])
        assert opinion.shares[0] > 0.9 and len(server.requests) == 2


def test_an_answer_that_takes_too_long_is_asked_for_again(cache):
    with faulty(at_first("slow")) as server:
        (opinion,) = judge_at(server, cache, timeout=2).ask([about(1)])
        assert opinion.shares[0] > 0.9 and len(server.requests) == 2


@pytest.mark.parametrize(("header", "least", "most"), [("7", 7, 7), ("0.25", 0.25, 0.75), ("soon", 0.25, 0.75), ("-3", 0.2, 0.8)])
def test_a_server_that_says_how_long_to_wait_is_obeyed(cache, header, least, most):
    pauses = []
    with faulty(at_first((429, "", {"Retry-After": header}))) as server:
        judge_at(server, cache, rest=pauses.append).ask([about(1)])
    (pause,) = [seconds for seconds in pauses if seconds > 0]
    assert least <= pause <= most


def test_a_date_to_wait_for_is_understood(cache):
    pauses = []
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    with faulty(at_first((503, "", {"Retry-After": when}))) as server:
        judge_at(server, cache, rest=pauses.append).ask([about(1)])
    assert 50 < max(pauses) <= 100


def test_pauses_grow(cache):
    pauses = []
    with faulty(lambda *_: (500, "")) as server, pytest.raises(RequestError):
        judge_at(server, cache, rest=pauses.append, retries=9).ask([about(1)])
    grown = [seconds for seconds in pauses if seconds > 0]
    assert len(grown) == 9
    for place, seconds in enumerate(grown):
        assert min(60.0, 0.5 * 2**place) * 0.5 <= seconds <= min(60.0, 0.5 * 2**place) * 1.5


def test_requests_are_spaced_over_the_minute():
    now = [100.0]
    pace = Pace(120, clock=lambda: now[0])
    assert [pace.wait(), pace.wait(), pace.wait()] == [0.0, 0.5, 1.0]
    now[0] = 103.0
    assert [pace.wait(), pace.wait()] == [0.0, 0.5], "what was not used is not saved up"
    free = Pace(0, clock=lambda: now[0])
    assert [free.wait(), free.wait()] == [0.0, 0.0]


# --- trouble that does not -----------------------------------------------------------------------------------------------


def stopped(cache, behave, **settings):
    with faulty(behave) as server:
        with pytest.raises(RequestError) as caught:
            judge_at(server, cache, **settings).ask([about(1)])
        return str(caught.value).replace(server.url, "URL"), len(server.requests)


def error(status, message, **more):
    return (status, {"error": {"message": message, **more}})


def test_a_key_that_is_refused_stops_at_once_and_is_never_shown(cache):
    message, requests = stopped(cache, lambda *_: error(401, f"Incorrect API key provided: {KEY}"))
    assert requests == 1 and KEY not in message
    assert message.startswith("judge.base_url=URL: the server refuses the key (401: ")
    assert message.endswith("Put one that it knows into the environment variable JUDGE_KEY (judge.key_variable)")


def test_a_model_that_is_not_there_stops_at_once(cache):
    message, requests = stopped(cache, lambda *_: error(404, "no model m"))
    assert requests == 1
    assert message.startswith("judge.base_url=URL, judge.model=m: the server knows no such model or address (404: ")


@pytest.mark.parametrize("trouble", [error(400, "too long"), error(422, "bad"), error(429, "pay", code="insufficient_quota")])
def test_a_question_that_is_refused_stops_at_once(cache, trouble):
    message, requests = stopped(cache, lambda *_: trouble)
    assert requests == 1
    assert message.startswith(f"judge.base_url=URL, judge.model=m: the server refuses the question ({trouble[0]}: ")


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ((500, "oh"), "500 "), ("drop", "connection failed: "), ("half", "connection failed: "),
        ("nonsense", "no chat completion in its answer (the body is no JSON: "),
        ((200, {"choices": []}), "(choices is empty; it must hold an answer)"),
    ],
)  # fmt: skip
def test_a_server_that_never_answers_ends_in_one_sentence(cache, trouble, told):
    message, requests = stopped(cache, lambda *_: trouble, retries=2)
    assert requests == 3
    assert message.startswith("judge.base_url=URL: the judge m did not answer, asked 3 times (judge.retries=2); the last time: ")
    assert told in message
    remedy = "correct or change the server" if "(" in told else "see whether the server runs"
    kept = "What it has answered is kept, and the same command asks only for the rest"
    assert message.endswith(f"{kept}: {remedy}, and say it again")


def test_a_server_that_is_not_there_is_told(cache):
    with faulty(lambda *_: GOOD) as server:
        judge = judge_at(server, cache, retries=1)
    with pytest.raises(RequestError, match=r"asked 2 times \(judge\.retries=1\); the last time: connection failed: "):
        judge.ask([about(1)])


def test_a_server_that_asks_to_come_back_tomorrow_is_taken_at_its_word(cache):
    message, requests = stopped(cache, lambda *_: (429, "", {"Retry-After": "86400"}))
    assert requests == 1 and "the server asks to wait 86400 s" in message


# --- nothing is asked twice -----------------------------------------------------------------------------------------------


def test_what_was_answered_before_a_stop_is_not_asked_again(cache):
    """The server dies in the middle of 20 questions and comes back: each is answered once, in two runs."""
    is_dead, answered = threading.Event(), []

    def behave(body, number):
        if is_dead.is_set():
            return "drop"
        answered.append(body["messages"][-1]["content"])
        if len(answered) == 7:
            is_dead.set()
        return GOOD

    inquiries = [about(number) for number in range(20)]
    with faulty(behave) as server:
        with pytest.raises(RequestError, match="did not answer, asked 2 times"):
            judge_at(server, cache, concurrency=4, retries=1).ask(inquiries)
        before = len(answered)
        assert 7 <= before < 20
        is_dead.clear()
        judge = judge_at(server, cache, concurrency=4)
        opinions = judge.ask(inquiries)
    assert sorted(answered) == sorted(text_of(inquiry) for inquiry in inquiries), "each once"
    assert judge.usage.cached == before and judge.usage.asked == 20 - before
    assert all(opinion.shares[0] > 0.9 for opinion in opinions)


def test_equal_questions_are_one(cache):
    with faulty(lambda *_: GOOD) as server:
        opinions = judge_at(server, cache).ask([about(1), about(2), about(1)])
        assert len(server.requests) == 2 and opinions[0] == opinions[2]


@pytest.mark.parametrize("changed", [{"model": "other"}, {}])
def test_another_judge_or_question_is_asked_anew(cache, changed):
    with faulty(lambda *_: GOOD) as server:
        judge_at(server, cache).ask([about(1)])
        judge_at(server, cache, **changed).ask([about(1)])
        assert len(server.requests) == (2 if changed else 1)


def test_a_budget_buys_so_many_replies_and_the_cache_is_free(cache):
    with faulty(lambda *_: GOOD) as server:
        judge_at(server, cache).ask([about(1)])
        judge = judge_at(server, cache, budget=2)
        told = judge.ask([about(number) for number in range(1, 9)])
        assert len(server.requests) == 3 and judge.usage.asked == 2 and judge.usage.cached == 1
        assert sum(opinion is not None for opinion in told) == 3


# --- without log-probabilities --------------------------------------------------------------------------------------------


def counting(answers):
    waiting = iter(answers)
    return lambda body, number: BARE if body.get("logprobs") else (200, completion(next(waiting)))


def test_a_server_that_tells_no_probabilities_is_asked_often(cache):
    with faulty(counting(["A", "B", "A.", "?"] + ["B"] * 4)) as server:
        judge = judge_at(server, cache, samples=4)
        one, other = judge.ask([about(1), about(2)])
        assert len(server.requests) == 1 + 4 + 4 and all(body["temperature"] == 1.0 for body in server.requests[1:])
    assert one.shares == pytest.approx((2 / 3, 1 / 3)) and one.counted == 4 and one.mass == 0.75
    assert other.shares == (0.0, 1.0)


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_to_tell_probabilities_is_asked_often(cache, status):
    def behave(body, number):
        refused = (status, {"detail": "Unsupported fields in the request: {'logprobs', 'top_logprobs'}"})
        return refused if "logprobs" in body else (200, completion("B"))

    with faulty(behave) as server:
        for _ in range(2):
            (opinion,) = judge_at(server, cache, samples=3).ask([about(1)])
            assert opinion.shares == (0.0, 1.0) and opinion.counted == 3
        assert len(server.requests) == 4, "the refusal is kept as well"


def test_newer_names_of_parameters_are_found(cache):
    def behave(body, number):
        if "max_tokens" in body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return error(400, "Unsupported value: 'temperature'") if "temperature" in body else GOOD

    with faulty(behave) as server:
        judge = judge_at(server, cache)
        judge.ask([about(1), about(2)])
        assert [sorted(set(body) - {"model", "messages"}) for body in server.requests][2:] == [
            ["logprobs", "max_completion_tokens", "top_logprobs"]
        ] * 2


def test_replies_that_are_no_option_are_unreadable(cache):
    with faulty(lambda *_: (200, completion("Hm", logprobs={"Hm": -0.1}))) as server:
        (opinion,) = judge_at(server, cache).ask([about(1)])
    assert opinion.shares is None and opinion.mass == 0


def test_a_reply_without_text_is_no_text():
    assert reply_of({"choices": [{"message": {"content": None}}]}).text == ""


# --- the cache ------------------------------------------------------------------------------------------------------------


def test_replies_come_back_in_another_process_and_thread(tmp_path):
    first, second = ReplyCache(tmp_path), ReplyCache(tmp_path)
    first.put({reply_key(a=1): {"text": "ä"}, reply_key(a=2): {"text": "b"}})
    found = []
    thread = threading.Thread(target=lambda: found.append(second.get([reply_key(a=2), reply_key(a=1), reply_key(a=3)])))
    thread.start()
    thread.join()
    assert found == [{reply_key(a=1): {"text": "ä"}, reply_key(a=2): {"text": "b"}}]
    first.close(), second.close()


def test_many_keys_are_looked_up(tmp_path):
    cache = ReplyCache(tmp_path)
    cache.put({str(number): {"n": number} for number in range(2_000)})
    assert len(cache.get([str(number) for number in range(1_000, 3_000)])) == 1_000
    cache.close()


def test_a_damaged_cache_is_told(tmp_path):
    (tmp_path / "judge.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(
        StorageError, match=r"^the cache of the judge's answers \(.*judge\.sqlite\) is no SQLite database\. Lost: "
    ):
        ReplyCache(tmp_path)


def test_every_part_is_in_the_key():
    assert len({reply_key(a=1), reply_key(a=2), reply_key(b=1), reply_key(a=json.dumps(1))}) == 4
