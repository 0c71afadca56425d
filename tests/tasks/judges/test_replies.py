"""A judge's server is somebody else's: whatever it sends is a reply, or a retry and then one sentence."""

import gzip
import json
import threading
import time
from concurrent.futures import CancelledError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.errors import RequestError
from posttrain.judges.opinions import Inquiry, Position
from posttrain.settings.judge import JudgeSettings
from tasks.judges.cache import ReplyCache, reply_key
from tasks.judges.remote import ServerJudge
from tasks.judges.replies import ForeignReplyError, models_of, read_body, reply_of
from tasks.judges.server import Server
from tasks.judges.wire import Wire
from tests.tasks.judge_servers import completion, faulty

GOOD = (200, completion("A", logprobs={"A": -0.1, "B": -2.5}))
ABOUT = Inquiry(system="", question="question\n", think="", ending="Better:", options=(" A", " B"))


@pytest.fixture
def cache(tmp_path):
    made = ReplyCache(tmp_path / "cache")
    yield made
    made.close()


def ask(server, cache, **how):
    """Return the judge's opinion, its replies counted."""
    told = JudgeSettings(**{"backend": "openai", "model": "m", "base_url": server.url, "retries": 1} | how)
    asked = Server(told, rest=lambda seconds: None)
    try:
        return ServerJudge(told, cache=cache, server=asked).ask([ABOUT])[0]
    finally:
        asked.close()


def refused(behave, cache, **how):
    """Return the sentence that a server ends in which answers like that for ever; it was asked twice."""
    with faulty(behave) as server:
        with pytest.raises(RequestError) as caught:
            ask(server, cache, **how)
        assert len(server.requests) == 2
        return str(caught.value).replace(server.url, "URL")


def with_logprobs(*top, token="A", logprob=-0.1):
    """Return a chat completion whose first token has these alternatives, each a token with its log-probability."""
    body = completion("A")
    entries = [{"token": one, "logprob": number} for one, number in top]
    body["choices"][0]["logprobs"] = {"content": [{"token": token, "logprob": logprob, "top_logprobs": entries}]}
    return body


def with_usage(**usage):
    return completion("A") | {"usage": usage}


TOP = "choices[0].logprobs.content[0].top_logprobs"
VIOLATIONS = [
    (with_logprobs(("A", 0.5)), f"{TOP}[0].logprob is 0.5; a log-probability is at most 0"),
    (with_logprobs(("A", -0.1), logprob=3), "choices[0].logprobs.content[0].logprob is 3; a log-probability is at most 0"),
    (json.dumps(with_logprobs(("A", -0.1), ("B", "N"))).replace('"N"', "NaN"), "the body holds NaN; numbers must be finite"),
    (json.dumps(with_logprobs(("A", "N"))).replace('"N"', "-Infinity"), "the body holds -Infinity; numbers must be finite"),
    (json.dumps(with_logprobs(("A", 7))).replace("7", "-1e999"), f"{TOP}[0].logprob is beyond every number; it must be finite"),
    (with_logprobs(("A", -(10**400))), f"{TOP}[0].logprob is beyond every number; it must be finite"),
    (with_logprobs(("A", "-0.1")), f"{TOP}[0].logprob is text; it must be a number"),
    (with_logprobs(("A", True)), f"{TOP}[0].logprob is true or false; it must be a number"),
    (with_logprobs(("A", 0.0), ("B", 0.0)), f"{TOP} have a total probability of 2; probabilities are at most 1 together"),
    (with_logprobs((7, -0.1)), f"{TOP}[0].token is a number; it must be text"),
    (with_logprobs(("\ud800", -0.1)), f"{TOP}[0].token holds half of a surrogate pair; text must be valid Unicode"),
    (completion("A\udfff"), "choices[0].message.content holds half of a surrogate pair; text must be valid Unicode"),
    (completion(["A"]), "choices[0].message.content is a list; it must be text"),
    (with_usage(prompt_tokens=-1), "usage.prompt_tokens is -1; it must be a whole number from 0 to 1,000,000,000"),
    (with_usage(completion_tokens=10**12), "usage.completion_tokens is 1e+12; it must be a whole number from 0 to 1,000,000,000"),
    (with_usage(prompt_tokens=10**400), "usage.prompt_tokens is beyond every number; it must be finite"),
    ({"choices": {}}, "choices is an object; it must be a list"),
    ({"choices": [{}]}, "choices[0] has no message; one is needed"),
    (completion("A") | {"extra": json.loads("[" * 40 + "]" * 40)}, "the body is nested too deeply; 32 levels are allowed"),
    ("[" * 100_000 + "]" * 100_000, "the body is nested too deeply; 32 levels are allowed"),
    (b'{"choices": "\xff"}', "the body is not UTF-8, as JSON must be: byte 13 is 0xff"),
    ("9" * 10_000, "the body is no JSON: "),
]  # fmt: skip


def bytes_of(body):
    return body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()


@pytest.mark.parametrize(("body", "sentence"), VIOLATIONS)
def test_what_cannot_be_is_told_with_its_place_and_the_rule(body, sentence):
    with pytest.raises(ForeignReplyError) as caught:
        reply_of(read_body(bytes_of(body)))
    assert str(caught.value).startswith(sentence)


def test_a_violation_is_a_retry(cache):
    with faulty(lambda body, number: (200, bytes_of(VIOLATIONS[0][0])) if number == 0 else GOOD) as server:
        assert ask(server, cache).shares[0] > 0.9 and len(server.requests) == 2


def test_a_violation_again_is_one_sentence(cache):
    assert refused(lambda *_: (200, bytes_of(VIOLATIONS[0][0])), cache) == (
        "judge.base_url=URL: the judge m did not answer, asked 2 times (judge.retries=1); the last time: no chat completion in "
        f"its answer ({TOP}[0].logprob is 0.5; a log-probability is at most 0). What it has answered is kept, and the same "
        "command asks only for the rest: correct or change the server, and say it again"
    )


def test_nothing_of_a_violation_is_kept(cache):
    refused(lambda *_: (200, bytes_of(VIOLATIONS[0][0])), cache)
    with faulty(lambda *_: GOOD) as server:
        ask(server, cache)
        assert len(server.requests) == 1


# --- bytes and seconds ---------------------------------------------------------------------------------------------------


def headers(*lines):
    return "\r\n".join(("HTTP/1.1 200 OK", "Content-Type: application/json", *lines, "", "")).encode()


def endless(head, piece, *, pause=0.0):
    """Return a server that sends the head, and then the piece as good as for ever: a client without limits ends as well."""

    def write(file):
        file.write(head)
        for _ in range(80):
            file.write(piece)
            time.sleep(pause)

    return lambda body, number: write


@pytest.mark.parametrize(
    "behave",
    [
        endless(headers(), b" ", pause=0.05),
        endless(b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n", pause=0.05),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.05),
        endless(b"HTTP/1.1 500 Oh\r\n\r\n", b" ", pause=0.05),
    ],
    ids=["body", "headers", "continue", "error"],
)
def test_a_server_that_drips_has_one_deadline_for_all_of_an_answer(cache, behave):
    assert "the last time: no whole answer within 0.4 s (judge.timeout). " in refused(behave, cache, timeout=0.4)


def test_closing_ends_what_is_under_way():
    """A request that nobody waits for any more, as after Ctrl-C, neither holds the process nor is left behind in its loop."""
    ended = threading.Event()
    with faulty(lambda *_: "slow") as server:
        wire = Wire(base_url=server.url, timeout=60)

        def ask_for_ever():
            try:
                wire.complete({"model": "m", "messages": []})
            except CancelledError:
                ended.set()

        thread = threading.Thread(target=ask_for_ever)
        thread.start()
        while not server.requests:
            time.sleep(0.01)
        wire.close()
        thread.join(20)
        assert ended.is_set()
    assert "judge-wire" not in {one.name for one in threading.enumerate()}


@pytest.mark.parametrize("status", ["200 OK", "500 Oh", "404 Not Found"])
def test_a_body_without_end_is_not_read_to_its_end(cache, status):
    behave = endless(f"HTTP/1.1 {status}\r\n\r\n".encode(), b" " * 2**20)
    assert "the body is longer than 8,388,608 bytes, which is the limit" in refused(behave, cache)


def test_a_body_that_would_unpack_to_gigabytes_is_not_unpacked(cache):
    bomb = gzip.compress(b" " * 2**22)
    assert "the body is compressed (gzip); the request asks for one that is not (identity)" in refused(
        lambda *_: (200, bomb, {"Content-Encoding": "gzip"}), cache
    )


def test_words_of_an_error_reach_no_terminal_raw(cache):
    rude = {"error": {"message": "\x1b[2Jgone \ud800 \u202eback"}}
    with faulty(lambda *_: (400, rude)) as server, pytest.raises(RequestError) as caught:
        ask(server, cache)
    assert str(caught.value).isprintable() and "(400: \ufffd[2Jgone \ufffd \ufffdback)" in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        (400, "[" * 100_000),
        (400, json.dumps({"error": json.loads('{"a":' * 30 + "1" + "}" * 30)})),
        (400, b"\xff\xfe", {"Content-Type": "text/plain; charset=zlib"}),
        (400, {"detail": [{"loc": ["body", "messages"], "msg": "bad"}]}),
        (400, "null"),
    ],
)
def test_an_error_of_any_form_is_one_sentence(cache, answer):
    with faulty(lambda *_: answer) as server, pytest.raises(RequestError, match="the server refuses the question"):
        ask(server, cache)


def test_a_date_beyond_all_dates_is_not_waited_for(cache):
    troubles = {0: (429, "", {"Retry-After": "Mon, 01 Jan 2024 00:00:00 +99999999999999"})}
    with faulty(lambda body, number: troubles.get(number, GOOD)) as server:
        assert ask(server, cache).shares


# --- what is as it should be ---------------------------------------------------------------------------------------------


def test_half_a_precision_above_zero_is_zero():
    body = with_logprobs(("A", 1e-4), ("B", -30), logprob=1e-4)
    assert reply_of(body).positions[0].top == {"A": 0.0, "B": -30.0}


def test_of_a_long_answer_only_the_beginning_is_read():
    body = with_logprobs(("A", -0.1))
    body["choices"][0]["logprobs"]["content"] *= 5_000
    assert len(reply_of(body).positions) == 64


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "completion_tokens": 3.0}])
def test_servers_need_not_count_tokens(usage):
    told = reply_of(completion("A") | {"usage": usage})
    assert told.prompt_tokens == 0 and told.completion_tokens in (0, 3)


def test_a_list_of_models_is_read():
    assert models_of({"data": [{"id": "a"}, {"id": "b"}, {"id": "a"}]}) == ("a", "b")
    with pytest.raises(ForeignReplyError, match=r"^data\[0\] has no id; one is needed$"):
        models_of({"data": [{}]})


def test_a_position_knows_what_a_log_probability_is():
    for bad in (0.1, float("nan"), float("inf"), float("-inf")):
        with pytest.raises(ValueError, match="the log-probability of 'A' must be finite and at most 0"):
            Position("A", {"A": bad})


def test_a_reply_that_was_kept_unchecked_is_asked_for_again(cache):
    with faulty(lambda *_: GOOD) as server:
        how = {"max_tokens": 8, "temperature": 0.0, "logprobs": True, "top_logprobs": 20}
        messages = [{"role": "user", "content": "question\nBetter:"}]
        key = reply_key(judge=[server.url, "m"], messages=messages, options=ABOUT.options, number=0, how=how)
        cache.put({key: {"text": "B", "positions": [["B", {"B": 40.0}]], "at": ""}})
        assert ask(server, cache).shares[0] > 0.9 and len(server.requests) == 1
        ask(server, cache)
        assert len(server.requests) == 1


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
NAMES = st.sampled_from(["choices", "message", "content", "logprobs", "top_logprobs", "token", "logprob", "usage", "data", "id"])
SHAPED = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


@settings(max_examples=60)
@given(SHAPED)
def test_any_json_is_a_reply_or_breaks_a_rule(told):
    for read in (reply_of, models_of):
        try:
            read(read_body(json.dumps(told).encode()))
        except ForeignReplyError as error:
            assert ";" in str(error) or ":" in str(error)


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_break_a_rule(body):
    try:
        read_body(body)
    except ForeignReplyError as error:
        assert ";" in str(error) or ":" in str(error)
