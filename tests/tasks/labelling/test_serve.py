"""The labelling page as a process: a port that is taken, Ctrl-C, a kill, and what it prints."""

import json
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from posttrain.errors import RequestError
from tasks.labelling.batches import open_batch, read_events
from tasks.labelling.desk import Desk
from tasks.labelling.people import add_person
from tasks.labelling.serve import serve_page
from tasks.workspace.paths import Paths
from tests.ports import free_port
from tests.tasks.label_batches import batch_of, pairs, server, serving


def fetch(site, path="/", *, cookie="", body=None, csrf=""):
    """Return status and text of an answer of the server."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Cookie": cookie, "Content-Type": "application/json", "X-CSRF-Token": csrf}
    try:
        with urllib.request.urlopen(urllib.request.Request(site + path, data, headers), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_port_that_is_taken_is_refused_and_the_batch_let_go(tmp_path):
    batch = batch_of(tmp_path, pairs(1))
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RequestError) as refusal:
            serve_page(Desk(batch), port=port)
    assert str(refusal.value) == (
        f"port {port} must be free for the labelling page, but another program listens there, perhaps a page that is still open. "
        f"End that, or take another port: make label PORT={port + 1}"
    )
    Desk(batch).close()  # nobody else has it open


def test_an_address_of_another_machine_is_refused(tmp_path):
    with pytest.raises(
        RequestError, match=r"^labelling\.host=192\.0\.2\.1: no program can listen there \(.+\)\. Give an address"
    ):
        serve_page(Desk(batch_of(tmp_path, pairs(1))), port=free_port(), host="192.0.2.1")


def test_it_ends_where_it_is_told_to(tmp_path):
    batch = batch_of(tmp_path, pairs(1))
    with serving(batch, free_port()) as site:
        assert fetch(site)[0] == 403
    with pytest.raises(urllib.error.URLError):
        fetch(site)
    Desk(batch).close()  # it has let the batch go


def test_ctrl_c_closes_it_and_nothing_secret_was_printed(tmp_path):
    batch = batch_of(tmp_path, pairs(2))
    token = add_person(batch, "Ada").token
    with server(tmp_path, free_port()) as one:
        status, told = fetch(one.site, "/session", body={"token": token})
        csrf = json.loads(told)["csrf"]
        cookie = f"posttrain-labelling-{one.site.rpartition(':')[2]}={token}"
        assert (status, fetch(one.site, cookie=cookie)[0]) == (200, 200)
        assert fetch(one.site, "/api/skip", cookie=cookie, body={"turn": "none"}, csrf=csrf)[0] == 409
        assert fetch(one.site, f"/{token}?{token}", cookie=cookie)[0] == 404
        with pytest.raises(RequestError):
            Desk(open_batch(Paths(Path(tmp_path)), "small"))  # this batch is open there
        assert one.end(signal.SIGINT) == (0, "closed\n")
    Desk(batch).close()


def test_after_a_kill_the_same_cookie_and_the_same_turn_hold(tmp_path):
    batch = batch_of(tmp_path, pairs(2))
    token = add_person(batch, "Ada").token
    with server(tmp_path, free_port()) as one:
        csrf = json.loads(fetch(one.site, "/session", body={"token": token})[1])["csrf"]
        cookie = f"posttrain-labelling-{one.site.rpartition(':')[2]}={token}"
        page = fetch(one.site, cookie=cookie)[1]
        turn = page.partition('data-turn="')[2].partition('"')[0]
        one.kill()
        with pytest.raises(urllib.error.URLError):
            fetch(one.site)
        one.again()
        assert f'data-turn="{turn}"' in fetch(one.site, cookie=cookie)[1]
        body = {"turn": turn, "choice": 1, "seconds": 2}
        assert fetch(one.site, "/api/answer", cookie=cookie, body=body, csrf=csrf)[0] == 200
        one.kill()
        one.again()
        assert fetch(one.site, "/api/answer", cookie=cookie, body=body, csrf=csrf)[0] == 200
    assert [event.choice for event in read_events(batch) if event.kind == "answer"] == [1.0]
