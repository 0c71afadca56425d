"""The labelling page over HTTP: who gets in, what counts, and what each refusal says."""

import re
from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from posttrain.errors import StorageError
from posttrain.labelling.items import Response
from posttrain.records import Message
from tasks.labelling.app import DOORS, label_app
from tasks.labelling.batches import CLOSED, PEOPLE, read_events, utc_now
from tasks.labelling.desk import Desk
from tasks.labelling.people import add_person, revoke_person
from tasks.labelling.shield import HEADERS, LARGEST_BODY
from tests.tasks.label_batches import batch_of, item, pairs

PORT = 8010
SITE = f"http://127.0.0.1:{PORT}"
SAME = {"Origin": SITE}


class Person:
    """Somebody with a link, and the requests that his page would send."""

    def __init__(self, app, batch, name):
        self.token = add_person(batch, name).token
        self.client = TestClient(app, base_url=SITE, raise_server_exceptions=False)
        self.csrf = self.turn = ""
        self.html = ""

    def enter(self):
        reply = self.client.post("/session", json={"token": self.token}, headers=SAME)
        assert reply.status_code == 200
        self.csrf = reply.json()["csrf"]
        return self.load()

    def load(self):
        reply = self.client.get("/")
        assert reply.status_code == 200
        return self._see(reply.text)

    def _see(self, html):
        self.html = html
        (self.turn,) = re.findall(r'<main id="item" tabindex="-1" data-turn="(\w*)"', html)
        return self

    def post(self, path, **body):
        reply = self.client.post(path, json=body, headers={**SAME, "X-CSRF-Token": self.csrf})
        if reply.status_code == 200:
            self._see(reply.json()["html"])
        return reply

    def answer(self, choice, **more):
        return self.post("/api/answer", **{"turn": self.turn, "choice": choice, "seconds": 1.5, **more})


@pytest.fixture
def desk_of(tmp_path):
    """Return a maker of desks, which are closed at the end."""
    made = []

    def make(items, **given):
        desk = Desk(batch_of(tmp_path, items, **given))
        made.append(desk)
        return desk

    yield make
    for desk in made:
        desk.close()


@pytest.fixture
def desk(desk_of):
    return desk_of(pairs(3))


@pytest.fixture
def app(desk):
    return label_app(desk, port=PORT)


@pytest.fixture
def ada(app, desk):
    return Person(app, desk.batch, "Ada").enter()


def answered(desk):
    return [event for event in read_events(desk.batch) if event.kind == "answer"]


# --- an answer --------------------------------------------------------------------------------------------------------------


def test_an_answer_is_on_the_disk_and_brings_the_next_item(ada, desk):
    first = ada.turn
    reply = ada.answer(1)
    (event,) = answered(desk)
    assert (event.turn, event.choice, event.seconds, event.person) == (first, 1.0, 1.5, "Ada")
    assert ada.turn not in ("", first)
    assert reply.json()["said"] == "Saved. 1 done, 2 left."
    assert set(reply.json()) == {"html", "said"}
    # what is answered and what is loaded are made by one template
    assert reply.json()["html"].strip() in ada.client.get("/").text


def test_a_page_that_is_loaded_anew_has_the_same_item(ada):
    before = ada.turn
    assert ada.load().turn == before


def test_the_same_turn_again_counts_once(ada, desk):
    first = ada.turn
    ada.answer(1)
    following = ada.turn
    assert ada.answer(0, turn=first).status_code == 200
    assert ada.turn == following
    assert [event.choice for event in answered(desk)] == [1.0]


def test_skip_and_undo(ada, desk):
    first = ada.html
    assert ada.post("/api/skip", turn=ada.turn).json()["said"] == "Skipped. 0 done, 2 left."
    reply = ada.post("/api/undo", turn=ada.turn)
    assert reply.json()["said"] == "Taken back: answer it again. 0 done, 3 left."
    prompt_and_answers = r'<div class="text".*?</div>'
    again = re.findall(prompt_and_answers, ada.html, re.DOTALL)
    assert sorted(re.sub("</?mark>", "", text) for text in again) == sorted(
        re.sub("</?mark>", "", text) for text in re.findall(prompt_and_answers, first, re.DOTALL)
    )
    assert ada.post("/api/undo", turn=ada.turn).json()["said"] == "There is nothing to take back. 0 done, 3 left."
    assert [event.kind for event in read_events(desk.batch) if event.kind != "lease"] == ["skip", "undo"]


def test_an_undo_whose_reply_was_lost_is_not_done_twice(ada, desk):
    ada.answer(1)
    ada.answer(0)
    shown = ada.turn
    ada.post("/api/undo", turn=shown)
    back = ada.turn
    assert ada.post("/api/undo", turn=shown).json()["said"] == "This is the item to answer now. 1 done, 2 left."
    assert ada.turn == back
    assert [event.kind for event in read_events(desk.batch) if event.kind != "lease"] == ["answer", "answer", "undo"]


def test_at_the_end_nothing_is_left_and_the_last_answer_can_be_taken_back(ada, app, desk):
    for _ in range(3):
        ada.answer(0.5)
    assert ada.turn == "" and "Every item of this batch has its answers" in ada.html
    assert desk.is_over()
    assert ada.load().turn == ""
    ada.post("/api/undo", turn="")
    assert ada.turn and "3 done" not in ada.html
    ben = Person(app, desk.batch, "Ben").enter()
    assert ben.turn == "" and "Nothing is left for you now" in ben.html


def test_an_item_that_others_have_answered_meanwhile_is_not_saved(desk_of, tmp_path):
    clock = [0.0]
    batch = batch_of(tmp_path, [*pairs(1), item("other", "x", "y")])
    desk = Desk(batch, lease_seconds=10, monotonic=lambda: clock[0])
    try:
        app = label_app(desk, port=PORT)
        ada, ben = Person(app, batch, "Ada").enter(), Person(app, batch, "Ben")
        clock[0] = 11.0
        ben.enter().answer(1)
        ben.answer(1)
        reply = ada.answer(0)
        assert reply.status_code == 409
        assert reply.json()["said"] == (
            "The item before was not saved: others have answered it, or have it before them. 0 done, 0 left."
        )
        assert [event.person for event in answered(desk)] == ["Ben", "Ben"]
    finally:
        desk.close()


@pytest.mark.parametrize(
    "body, why",
    [
        ({"choice": 2}, "an answer to a pair must be 1 (the first shown is better)"),
        ({"choice": [1, 2]}, "an answer to a pair must be"),
        ({"choice": True}, "body.choice"),
        ({"choice": "1"}, "body.choice"),
        ({"choice": None}, "body.choice"),
        ({"choice": [1] * 21}, "body.choice"),
        ({"seconds": -1}, "body.seconds: Input should be greater than or equal to 0."),
        ({"seconds": 1e7}, "body.seconds"),
        ({"turn": "x" * 101}, "body.turn"),
        ({"more": 1}, "body.more: Extra inputs are not permitted."),
    ],
)
def test_what_is_no_answer_is_refused_and_nothing_counted(ada, desk, body, why):
    reply = ada.answer(**{"choice": 1, **body})
    assert reply.status_code == 422 and why in reply.json()["error"]
    assert not answered(desk)


def test_a_turn_of_nobody_changes_nothing(ada, desk):
    shown = ada.turn
    assert ada.answer(1, turn="nobody's").status_code == 409
    assert ada.load().turn == shown and not answered(desk)


def test_a_ranking_and_a_rating(desk_of):
    ranking = desk_of([item("r", "a", "b", "c", kind="ranking")])
    ada = Person(label_app(ranking, port=PORT), ranking.batch, "Ada").enter()
    assert ada.html.count('class="place"') == 3
    assert ada.answer([1, 2]).status_code == 422
    assert ada.answer([2, 1, 1]).status_code == 200
    assert [event.choice for event in answered(ranking)] == [(2, 1, 1)]
    rating = desk_of([item("s", "a", kind="rating")])
    ben = Person(label_app(rating, port=PORT), rating.batch, "Ben").enter()
    assert ben.html.count('class="choice"') == 5 and "Answer 1" not in ben.html
    assert ben.answer(4.5).status_code == 422
    assert ben.answer(4).status_code == 200
    assert [event.choice for event in answered(rating)] == [4]


# --- what is shown ------------------------------------------------------------------------------------------------------------


def test_texts_stay_texts(desk_of):
    attack = "<script>alert(1)</script> [x](https://evil.example) \u202egpj.exe"
    prompt = (Message(role="system", content="Be <b>terse</b>."), Message(role="user", content="{{ 1 }}"))
    desk = desk_of([item("x", attack, Response(text="  ", finished=False), prompt=prompt)])
    ada = Person(label_app(desk, port=PORT), desk.batch, "<i>Ada</i>").enter()
    assert ada.html.count("<script") == 1 and "<i>" not in ada.html and "<b>terse" not in ada.html
    assert "&lt;script&gt;" in ada.html and "evil.example)" in ada.html and 'href="https' not in ada.html
    assert "\u202e" not in ada.html and ">U+202E</bdi>gpj.exe" in ada.html
    assert "Instructions to the model" in ada.html and "{{ 1 }}" in ada.html
    assert "<em>(empty)</em>" in ada.html and ada.html.count("it had reached the limit of its length") == 1


def test_differences_are_marked_in_the_order_shown(desk_of):
    desk = desk_of([item("x", "It is 4.", "It is 5.")])
    ada = Person(label_app(desk, port=PORT), desk.batch, "Ada").enter()
    shown = desk.next("Ada")
    texts = [f"It is <mark>{response.text[6]}</mark>." for response in shown.responses]
    assert re.findall(r"It is <mark>\d</mark>\.", ada.html) == texts
    assert "have little in common" not in ada.html


def test_answers_with_little_in_common_say_so(desk_of):
    desk = desk_of([item("x", " ".join("abcdefghijklmn"), " ".join("opqrstuvwxyz12"))])
    ada = Person(label_app(desk, port=PORT), desk.batch, "Ada").enter()
    assert "<mark>" not in ada.html and "have little in common" in ada.html


def test_agreement_is_shown_once_there_is_any(desk_of):
    desk = desk_of([item("x", "a", "b"), item("y", "a", "c")], per_item=2)
    app = label_app(desk, port=PORT)
    ada, ben = (Person(app, desk.batch, name).enter() for name in ("Ada", "Ben"))
    assert "You agree" not in ada.html
    for person in (ada, ben):
        first_is_a = desk.next({ada: "Ada", ben: "Ben"}[person]).responses[0].text == "a"
        person.answer(1 if first_is_a else 0)
    assert "You agree with others: 100% (95 % interval 21% to 100%)" in ben.html  # Wilson's interval of 1 of 1


def test_the_judge_is_shown_after_the_answer_where_it_is_wanted(desk_of):
    desk = desk_of([item("x", "a", "b"), item("y", "c", "d"), item("z", "e", "f")])
    ada = Person(label_app(desk, port=PORT, verdicts={"x": 0.83, "y": 0.5}), desk.batch, "Ada").enter()
    assert "judge" not in ada.html
    for _ in range(3):
        shown = desk.next("Ada")
        ada.answer(1)
        if shown.item.id == "x":
            best = 1 + [response.text for response in shown.responses].index("a")
            assert f"the judge prefers answer {best} (probability 0.83), you said answer 1." in ada.html
        elif shown.item.id == "y":
            assert "the judge finds both equal, you said answer 1." in ada.html
        else:
            assert "judge" not in ada.html


def test_without_verdicts_nothing_is_said_of_a_judge(ada):
    ada.answer(1)
    assert "judge" not in ada.html


# --- who gets in --------------------------------------------------------------------------------------------------------------


def test_without_a_link_nobody_gets_in_and_the_page_says_what_to_do(app):
    reply = TestClient(app, base_url=SITE).get("/")
    assert reply.status_code == 403
    assert "This page needs your personal link" in reply.text and "Open the link that you were sent" in reply.text


@pytest.mark.parametrize("token", ["", "wrong", "x" * 32, "\u00e9\u202e"])
def test_a_wrong_token(app, token):
    client = TestClient(app, base_url=SITE)
    reply = client.post("/session", json={"token": token}, headers=SAME)
    assert reply.status_code == 403 and not client.cookies
    title = DOORS["wrong" if token else "no_token"][1]
    assert reply.json()["error"].startswith(title) and title in reply.json()["page"]


def test_the_cookie_is_for_this_page_alone(app, desk):
    token = add_person(desk.batch, "Ada").token
    reply = TestClient(app, base_url=SITE).post("/session", json={"token": token}, headers=SAME)
    cookie = reply.headers["set-cookie"]
    assert cookie == f"posttrain-labelling-{PORT}={token}; HttpOnly; Path=/; SameSite=strict"
    assert token not in reply.text
    over_https = TestClient(label_app(desk, port=PORT, hosts=["label.example.org"]), base_url="https://label.example.org")
    secure = over_https.post("/session", json={"token": token}, headers={"Origin": "https://label.example.org"})
    assert secure.headers["set-cookie"].endswith("; Secure")


@pytest.mark.parametrize("reason", ["revoked", "expired", "finished"])
def test_a_link_that_ends_ends_at_once(ada, desk, reason, monkeypatch):
    if reason == "revoked":
        revoke_person(desk.batch, "Ada")
    elif reason == "expired":
        monkeypatch.setattr(desk, "_now", lambda: utc_now() + timedelta(days=15))
    else:
        (desk.batch.folder / CLOSED).write_text("{}")
    title = DOORS[reason][1]
    reply = ada.answer(1)
    assert reply.status_code == 410 and title in reply.json()["page"]
    page = ada.client.get("/")
    assert page.status_code == 410 and title in page.text
    again = ada.client.post("/session", json={"token": ada.token}, headers=SAME)
    assert again.status_code == 410
    assert not answered(desk)


@pytest.mark.parametrize("path", ["/api/answer", "/api/skip", "/api/undo"])
@pytest.mark.parametrize("csrf", [None, "", "wrong", "\u00e9"])
def test_without_its_own_token_a_page_changes_nothing(ada, desk, path, csrf):
    headers = {**SAME} if csrf is None else {**SAME, "X-CSRF-Token": csrf.encode()}
    body = {"turn": ada.turn, **({"choice": 1, "seconds": 1} if path == "/api/answer" else {})}
    reply = ada.client.post(path, json=body, headers=headers)
    assert reply.status_code == 403
    assert reply.json() == {"error": "This page is not the newest of yours. Load it again."}
    assert [event.kind for event in read_events(desk.batch)] == ["lease"]


def test_the_token_of_another_page_is_none(ada, app, desk):
    ben = Person(app, desk.batch, "Ben").enter()
    ben.csrf = ada.csrf
    assert ben.answer(1).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:8011", f"https://127.0.0.1:{PORT}"])
def test_a_foreign_page_changes_nothing(ada, desk, origin):
    headers = {"Origin": origin, "X-CSRF-Token": ada.csrf}
    reply = ada.client.post("/api/answer", json={"turn": ada.turn, "choice": 1, "seconds": 1}, headers=headers)
    assert reply.status_code == 403 and reply.json()["error"].startswith("Origin must be ")
    assert not answered(desk)


@pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1.evil.example", ""])
def test_a_foreign_name_is_refused(ada, host):
    assert ada.client.get("/", headers={"Host": host}).status_code == 400


def test_names_that_were_given_pass(desk):
    client = TestClient(label_app(desk, port=PORT, hosts=["Label.example.org"]), base_url=SITE)
    assert client.get("/", headers={"Host": "label.example.org"}).status_code == 403  # no link, but the name is right
    assert client.get("/", headers={"Host": f"localhost:{PORT}"}).status_code == 403


def test_a_large_body_is_refused_before_it_is_read(ada):
    headers = {**SAME, "X-CSRF-Token": ada.csrf, "Content-Type": "application/json"}
    reply = ada.client.post("/api/answer", content=b" " * (LARGEST_BODY + 1), headers=headers)
    assert (reply.status_code, reply.json()) == (413, {"error": "A request may have 16384 bytes."})
    padded = b'{"turn": "%s", "choice": 1, "seconds": 1}' % ada.turn.encode()
    fits = ada.client.post("/api/answer", content=padded.ljust(LARGEST_BODY), headers=headers)
    assert fits.status_code == 200


def test_what_is_no_json_is_refused(ada):
    headers = {**SAME, "X-CSRF-Token": ada.csrf}
    assert ada.client.post("/api/skip", content=b"turn=1", headers=headers).status_code == 422
    assert ada.client.post("/api/skip", data={"turn": ada.turn}, headers=headers).status_code == 422


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/nothing", "/docs", "/openapi.json"])
def test_each_answer_has_the_headers(ada, app, path):
    for client in (ada.client, TestClient(app, base_url=SITE)):
        reply = client.get(path)
        assert {name: reply.headers[name] for name in HEADERS} == HEADERS
        assert path not in ("/docs", "/openapi.json", "/nothing") or reply.status_code == 404
    refused = ada.client.get(path, headers={"Host": "evil.example"})
    assert {name: refused.headers[name] for name in HEADERS} == HEADERS


def test_the_policy_lets_nothing_in():
    assert HEADERS["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    assert (HEADERS["X-Content-Type-Options"], HEADERS["Referrer-Policy"], HEADERS["Cache-Control"]) == (
        "nosniff",
        "no-referrer",
        "no-store",
    )


def test_the_page_has_no_script_or_style_within(ada):
    assert re.findall(r"<script[^>]*>", ada.html) == ['<script src="/page.js" defer>']
    assert not re.search(r"<style|\sstyle=|\son\w+=", ada.html)
    assert ada.token not in ada.html


# --- a disk that is full --------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_the_same_turn_counts_afterwards(ada, desk, monkeypatch):
    def full(*_):
        raise StorageError("events.jsonl cannot be written: No space left on device")

    turn = ada.turn
    with monkeypatch.context() as patch:
        patch.setattr(desk._log, "append", full)
        reply = ada.answer(1)
        assert (reply.status_code, reply.json()) == (
            507,
            {"error": "events.jsonl cannot be written: No space left on device."},
        )
        page = ada.client.get("/")  # it is leased already, so nothing needs to be written
        assert page.status_code == 200 and ada.load().turn == turn
    assert ada.answer(1, turn=turn).status_code == 200
    assert [event.turn for event in answered(desk)] == [turn]


def test_a_page_that_cannot_lease_says_so(app, desk, monkeypatch):
    def full(*_):
        raise StorageError("events.jsonl cannot be written: No space left on device")

    ben = Person(app, desk.batch, "Ben")
    ben.client.post("/session", json={"token": ben.token}, headers=SAME)
    monkeypatch.setattr(desk._log, "append", full)
    page = ben.client.get("/")
    assert page.status_code == 507 and "The server cannot write now" in page.text and "No space left" in page.text


def test_files_that_are_damaged_are_told(ada, desk):
    (desk.batch.folder / PEOPLE).unlink()
    page = ada.client.get("/")
    assert page.status_code == 500 and "The server cannot read its files" in page.text
    assert "Restore it from a backup" in ada.answer(1).json()["error"]
