"""Which faults may pass: by what was raised first, shown or not."""

import errno
import sqlite3
import urllib.error
from email.message import Message

import httpx
import pytest
import requests

from posttrain.errors import ContractError, DataError, RequestError, StorageError
from tasks.promotion.moves import UnderWayError
from tasks.retraining.faults import chain, may_pass, waits


def told(kind, first):
    """Return one of our errors as it is raised from another, which is not shown."""
    try:
        try:
            raise first
        except type(first):
            raise kind("a sentence") from None
    except kind as error:
        return error


def status(code):
    return urllib.error.HTTPError("http://host", code, "why", Message(), None)


PASSING = [
    ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
    TimeoutError("slow"),
    OSError(errno.ENOSPC, "No space left on device"),
    urllib.error.URLError(OSError(errno.EHOSTUNREACH, "no route")),
    status(503),
    status(429),
    httpx.ConnectError("no"),
    httpx.ReadTimeout("no"),
    requests.exceptions.ConnectionError("no"),
    sqlite3.OperationalError("database is locked"),
    sqlite3.OperationalError("database or disk is full"),
    UnderWayError("another process moves them"),
]
STAYING = [
    FileNotFoundError(errno.ENOENT, "not there"),
    PermissionError(errno.EACCES, "not yours"),
    urllib.error.URLError("unknown url type"),
    status(401),
    status(404),
    sqlite3.DatabaseError("file is not a database"),
    ValueError("x"),
]


@pytest.mark.parametrize("first", PASSING, ids=repr)
def test_what_may_pass(first):
    assert may_pass(first) and may_pass(told(StorageError, first)) and may_pass(told(RequestError, first))


@pytest.mark.parametrize("first", STAYING, ids=repr)
def test_what_stays(first):
    assert not may_pass(first) and not may_pass(told(StorageError, first)) and not may_pass(told(RequestError, first))


@pytest.mark.parametrize("kind", [ContractError, DataError])
def test_a_result_or_data_that_are_wrong_stay_so_whatever_they_were_raised_from(kind):
    assert not may_pass(told(kind, TimeoutError("slow")))


def test_words_alone_tell_of_a_full_disk():
    assert may_pass(StorageError("dvc repro did not finish: ERROR: No space left on device"))
    assert not may_pass(StorageError("models:/posttrain-world/2 is lost"))


def test_an_answer_of_a_server_counts_by_its_status():
    request = httpx.Request("POST", "http://host")
    busy, wrong = (
        httpx.HTTPStatusError("why", request=request, response=httpx.Response(code, request=request)) for code in (502, 422)
    )
    assert may_pass(busy) and not may_pass(wrong)


def test_a_chain_that_bites_its_tail_ends():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__context__ = other, one
    assert list(chain(one)) == [one, other]


def test_each_wait_is_twice_the_one_before():
    assert waits(3, 30.0) == [30.0, 60.0, 120.0] and waits(0, 30.0) == []
