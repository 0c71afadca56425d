import json
import threading
from datetime import timedelta

import pytest

from posttrain.errors import DataError, RequestError, StorageError
from posttrain.labelling.answers import labels_of
from posttrain.labelling.items import APART
from tasks.labelling import log as logs
from tasks.labelling.batches import read_events, read_items
from tasks.labelling.desk import TurnOver
from tasks.labelling.people import Refused, add_person, revoke_person
from tests.tasks.labelling.batch_of import Clocks, batch_in, desk_of, item


def labels(batch):
    return labels_of(read_items(batch), read_events(batch), prompt_version=batch.prompt_version)


def answered(batch):
    return [(one.annotator, one.question) for one in labels(batch)]


def test_an_answer_counts_once_and_what_was_shown_is_kept(tmp_path):
    batch = batch_in(tmp_path)
    desk = desk_of(batch)
    shown = desk.next("Ada")
    assert desk.next("Ada") == shown  # as long as he has not answered
    first = desk.answer("Ada", shown.turn, 1, seconds=2.5)
    assert desk.answer("Ada", shown.turn, 0, seconds=9) == first
    (label,) = labels(batch)
    assert (label.id, label.annotator, label.preference, label.seconds) == (f"people/{first}", "Ada", 1.0, 2.5)
    assert [label.first, label.second] == [one.text for one in shown.responses]
    assert (label.prompt_version, label.selection) == (batch.prompt_version, "random")
    assert label.at == "2026-03-01T12:00:00.000+00:00"
    assert desk.progress("Ada").done == 1
    desk.close()


def test_answer_and_next_is_one_write_and_the_same_as_both(tmp_path, monkeypatch):
    batch = batch_in(tmp_path)
    desk = desk_of(batch)
    shown = desk.next("Ada")
    synced = []
    fsync = logs.os.fsync
    monkeypatch.setattr(logs.os, "fsync", lambda descriptor: synced.append(fsync(descriptor)))
    counted, following = desk.answer_and_next("Ada", shown.turn, 0.5, seconds=1)
    assert len(synced) == 1 and following.item.id == "1" and desk.next("Ada") == following
    assert desk.answer_and_next("Ada", shown.turn, 0.5, seconds=1) == (counted, following)
    assert len(synced) == 1  # asked again, nothing is written
    skipped, third = desk.skip_and_next("Ada", following.turn)
    assert len(synced) == 2 and third.item.id == "2" and desk.skip("Ada", following.turn) == skipped
    assert answered(batch) == [("Ada", "q0")]
    desk.close()


def test_the_order_of_responses_is_chance(tmp_path):
    batch = batch_in(tmp_path, [item(str(number)) for number in range(60)])
    desk = desk_of(batch)
    orders, shown = [], desk.next("Ada")
    while shown:
        orders.append(shown.order)
        _, shown = desk.answer_and_next("Ada", shown.turn, 1.0, seconds=1)
    assert 15 < orders.count((1, 0)) < 45 and len(orders) == 60
    desk.close()


def test_nobody_is_shown_an_item_twice_and_each_has_as_many_people_as_it_wants(tmp_path):
    batch = batch_in(tmp_path, per_item=2)
    desk = desk_of(batch)
    seen = {}
    for person in ("Ada", "Ben", "Cyd"):
        while shown := desk.next(person):
            seen.setdefault(shown.item.id, []).append(person)
            desk.answer(person, shown.turn, 1.0, seconds=1)
    assert seen == {name: ["Ada", "Ben"] for name in "0123"}
    assert desk.is_over() and desk.progress("Cyd").left_for_him == 0
    desk.close()


def test_a_repetition_goes_to_the_same_person_later(tmp_path):
    items = [*(item(str(number)) for number in range(20)), item("again", question="q0", prompt="p0", repeats="0")]
    batch = batch_in(tmp_path, items)
    desk = desk_of(batch)
    order, shown = [], desk.next("Ada")
    for _ in range(5):
        order.append(shown.item.id)
        _, shown = desk.answer_and_next("Ada", shown.turn, 1.0, seconds=1)
    while other := desk.next("Ben"):
        assert other.item.id != "again"
        desk.answer("Ben", other.turn, 1.0, seconds=1)
    while shown:
        order.append(shown.item.id)
        _, shown = desk.answer_and_next("Ada", shown.turn, 1.0, seconds=1)
    assert order[0] == "0" and order[-1] == "again" and len(order) < APART  # nothing else was left for her
    assert answered(batch).count(("Ada", "q0")) == 2
    assert desk.progress("Ada").own_agreement is not None
    desk.close()


def test_what_is_taken_back_is_not_repeated(tmp_path):
    batch = batch_in(tmp_path, [item("0"), item("again", repeats="0")])
    desk = desk_of(batch)
    _, again = desk.answer_and_next("Ada", desk.next("Ada").turn, 1.0, seconds=1)
    assert again.item.id == "again"
    first = desk.undo("Ada")
    with pytest.raises(TurnOver):
        desk.answer("Ada", again.turn, 1.0, seconds=1)
    assert desk.skip_and_next("Ada", first.turn)[1] is None
    _, other = desk.answer_and_next("Ben", desk.next("Ben").turn, 1.0, seconds=1)
    assert other.item.id == "again"  # she has it before her no more
    desk.close()


def test_undo_takes_back_the_last_answer_and_shows_it_again(tmp_path):
    batch = batch_in(tmp_path)
    desk = desk_of(batch)
    assert desk.undo("Ada") is None
    first = desk.next("Ada")
    counted, second = desk.answer_and_next("Ada", first.turn, 1.0, seconds=1)
    again = desk.undo("Ada")
    assert again.item == first.item and again.turn != first.turn and answered(batch) == []
    assert desk.next("Ada") == again
    assert desk.answer("Ada", first.turn, 0.0, seconds=1) == counted and answered(batch) == []  # late, and taken back
    _, following = desk.answer_and_next("Ada", again.turn, 0.0, seconds=1)
    assert following == second and [one.preference for one in labels(batch)] == [0.0]
    desk.skip("Ada", second.turn)
    assert desk.undo("Ada").item == second.item and desk.undo("Ada").item == first.item and desk.undo("Ada") is None
    assert desk.next("Ada").item == first.item
    desk.close()


def test_a_lease_ends_by_the_clock_that_never_goes_back(tmp_path):
    batch, clocks = batch_in(tmp_path, [item("0"), item("1")]), Clocks()
    desk = desk_of(batch, clocks, lease_seconds=60)
    ada = desk.next("Ada")
    clocks.time += timedelta(days=400)  # the machine's clock jumps, and nothing else
    assert desk.next("Ben").item.id == "1" and desk.next("Cyd") is None
    clocks.time -= timedelta(days=800)
    clocks.steady += 59.9
    assert desk.next("Cyd") is None
    clocks.steady += 0.1
    assert desk.next("Cyd").item.id == "0"
    with pytest.raises(TurnOver, match=f"turn {ada.turn} of Ada is over, and others have answered its item or have it before"):
        desk.answer("Ada", ada.turn, 1.0, seconds=70)
    assert desk.next("Ada").item.id == "1"  # Ben's lease has ended too
    desk.close()


def test_an_answer_after_the_lease_counts_where_nobody_took_the_item(tmp_path):
    batch, clocks = batch_in(tmp_path), Clocks()
    desk = desk_of(batch, clocks, lease_seconds=60)
    shown = desk.next("Ada")
    clocks.pass_by(3600)
    desk.answer("Ada", shown.turn, 1.0, seconds=3600)
    assert answered(batch) == [("Ada", "q0")] and desk.next("Ben").item.id == "1"
    desk.close()


def test_two_showings_of_an_item_to_one_person_are_one_answer(tmp_path):
    batch, clocks = batch_in(tmp_path, [item("0")]), Clocks()
    desk = desk_of(batch, clocks, lease_seconds=60)
    first = desk.next("Ada")
    clocks.pass_by(60)
    desk.next("Ben")
    assert desk.next("Ada") is None
    clocks.pass_by(60)
    second = desk.next("Ada")
    assert second.item == first.item and second.turn != first.turn
    counted = desk.answer("Ada", second.turn, 1.0, seconds=1)
    assert desk.answer("Ada", first.turn, 0.0, seconds=1) == counted == desk.skip("Ada", first.turn)
    assert [one.preference for one in labels(batch)] == [1.0]
    desk.close()


def test_who_asks_again_keeps_what_he_has(tmp_path):
    batch, clocks = batch_in(tmp_path, [item("0")]), Clocks()
    desk = desk_of(batch, clocks, lease_seconds=60)
    shown = desk.next("Ada")
    for _ in range(5):
        clocks.pass_by(40)
        assert desk.next("Ada") == shown and desk.next("Ben") is None
    clocks.pass_by(60)
    assert desk.next("Ben").item.id == "0" and desk.next("Ada") is None
    desk.close()


def test_leases_go_on_after_a_restart_for_what_they_had_left(tmp_path):
    batch, clocks = batch_in(tmp_path, [item("0")]), Clocks()
    desk = desk_of(batch, clocks, lease_seconds=60)
    desk.next("Ada")
    desk.close()
    clocks.pass_by(30)
    clocks.steady = 5.0  # the machine was started again
    desk = desk_of(batch, clocks, lease_seconds=60)
    assert desk.next("Ben") is None
    clocks.pass_by(29)
    assert desk.next("Ben") is None
    clocks.pass_by(1)
    assert desk.next("Ben").item.id == "0"
    desk.close()
    clocks.time -= timedelta(days=30)  # set back meanwhile: no lease is longer than a new one
    desk = desk_of(batch, clocks, lease_seconds=60)
    assert desk.next("Ben") is not None and desk.next("Ada") is None and desk.next("Cyd") is None
    clocks.pass_by(60)
    assert desk.next("Ada").item.id == "0" and desk.next("Cyd") is None
    desk.close()
    clocks.time -= timedelta(days=30)
    desk = desk_of(batch, clocks, lease_seconds=60)
    assert desk.next("Cyd") is None
    clocks.pass_by(60)
    assert desk.next("Cyd").item.id == "0"
    desk.close()


def test_a_turn_of_somebody_else_is_refused(tmp_path):
    desk = desk_of(batch_in(tmp_path))
    shown = desk.next("Ada")
    for turn in (shown.turn, "none"):
        with pytest.raises(TurnOver, match=f"turn {turn} was not shown to Ben"):
            desk.answer("Ben", turn, 1.0, seconds=1)
        with pytest.raises(LookupError):
            desk.skip("Ben", turn)
    desk.close()


def test_what_is_no_answer_counts_nothing(tmp_path):
    batch = batch_in(tmp_path)
    desk = desk_of(batch)
    shown = desk.next("Ada")
    before = batch.log.read_bytes()
    with pytest.raises(RequestError, match="an answer to a pair must be 1"):
        desk.answer("Ada", shown.turn, 0.7, seconds=1)
    with pytest.raises(RequestError, match=r"got None. Choose again"):
        desk.answer("Ada", shown.turn, None, seconds=1)
    with pytest.raises(RequestError, match="seconds must be a finite number"):
        desk.answer_and_next("Ada", shown.turn, 1.0, seconds=float("nan"))
    assert batch.log.read_bytes() == before and desk.next("Ada") == shown
    desk.close()


def test_a_full_disk_counts_nothing_and_the_same_call_works_when_there_is_room(tmp_path, monkeypatch):
    batch = batch_in(tmp_path, per_item=2)
    desk = desk_of(batch)
    first = desk.next("Ada")
    before, progress = batch.log.read_bytes(), desk.progress("Ada")

    def no_room(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(logs.os, "pwrite", no_room)
        for call in (
            lambda: desk.answer("Ada", first.turn, 1.0, seconds=1),
            lambda: desk.answer_and_next("Ada", first.turn, 1.0, seconds=1),
            lambda: desk.skip("Ada", first.turn),
            lambda: desk.next("Ben"),
        ):
            with pytest.raises(StorageError, match="No space left on device"):
                call()
            assert batch.log.read_bytes() == before and desk.progress("Ada") == progress
            assert desk.next("Ada") == first
    counted, second = desk.answer_and_next("Ada", first.turn, 1.0, seconds=1)
    assert [one.id for one in labels(batch)] == [f"people/{counted}"] and second.item.id == "1"
    with monkeypatch.context() as patched:
        patched.setattr(logs.os, "pwrite", no_room)
        with pytest.raises(StorageError):
            desk.undo("Ada")
    assert answered(batch) == [("Ada", "q0")] and desk.next("Ada") == second
    assert desk.undo("Ada").item == first.item and answered(batch) == []
    desk.close()


def test_everything_is_there_after_a_restart(tmp_path):
    batch = batch_in(tmp_path, per_item=2)
    desk = desk_of(batch)
    first = desk.next("Ada")
    counted, second = desk.answer_and_next("Ada", first.turn, 1.0, seconds=1)
    desk.skip("Ben", desk.next("Ben").turn)
    told = desk.progress("Ada"), desk.progress("Ben")
    desk.close()
    desk = desk_of(batch)
    assert (desk.progress("Ada"), desk.progress("Ben")) == told
    assert desk.next("Ada") == second and desk.answer("Ada", first.turn, 0.0, seconds=1) == counted
    assert desk.next("Ben").item.id == "1"
    assert desk.undo("Ada").item == first.item
    desk.close()


def test_a_second_desk_is_refused(tmp_path):
    batch = batch_in(tmp_path)
    desk = desk_of(batch)
    with pytest.raises(RequestError, match=f"batch {batch.name} of mine is open in another process"):
        desk_of(batch)
    desk.close()
    desk_of(batch).close()


def test_who_asks_the_links_and_whether_the_batch_takes_answers(tmp_path):
    batch, clocks = batch_in(tmp_path), Clocks()
    desk = desk_of(batch, clocks)
    link = add_person(batch, "Ada", now=clocks.now)
    assert desk.who(link.token) == "Ada"
    shown = desk.next("Ada")
    (batch.folder / "closed.json").write_text("{}")
    for call in (
        lambda: desk.who(link.token),
        lambda: desk.next("Ada"),
        lambda: desk.answer("Ada", shown.turn, 1.0, seconds=1),
        lambda: desk.skip("Ada", shown.turn),
        lambda: desk.undo("Ada"),
    ):
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.reason == "finished"
    (batch.folder / "closed.json").unlink()
    revoke_person(batch, "Ada")
    with pytest.raises(Refused) as refused:
        desk.who(link.token)
    assert refused.value.reason == "revoked"
    desk.close()


def test_a_batch_is_over_when_nobody_with_a_link_has_anything_left(tmp_path):
    batch, clocks = batch_in(tmp_path, [item("0"), item("again", repeats="0"), item("1")]), Clocks()
    desk = desk_of(batch, clocks)
    add_person(batch, "Ada", days=1, now=clocks.now)
    add_person(batch, "Ben", days=2, now=clocks.now)
    desk.answer("Ada", desk.next("Ada").turn, 1.0, seconds=1)
    desk.skip("Ada", desk.next("Ada").turn)
    assert desk.next("Ada").item.id == "again" and not desk.is_over()  # Ben may answer item 1
    desk.skip("Ben", desk.next("Ben").turn)
    assert desk.next("Ben") is None and not desk.is_over()  # Ada's repetition
    clocks.pass_by(86_400)
    assert desk.is_over()
    desk.close()


def test_a_folder_that_is_gone_is_told(tmp_path):
    batch = batch_in(tmp_path)
    desk = desk_of(batch)
    batch.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=r"cannot write .*batch.json: No such file"):
        desk.next("Ada")
    with pytest.raises(DataError, match=r"cannot read .*people.jsonl"):
        desk.who("x")
    desk.close()


def test_many_people_at_once_in_threads(tmp_path):
    batch = batch_in(tmp_path, [item(str(number)) for number in range(30)], per_item=3)
    desk = desk_of(batch)
    counted, errors = {}, []

    def label(person):
        try:
            shown = desk.next(person)
            while shown:
                told, following = desk.answer_and_next(person, shown.turn, 1.0, seconds=1)
                counted[told] = (person, shown.item.question)
                desk.progress(person)
                shown = following
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=label, args=(f"P{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not errors and not any(thread.is_alive() for thread in threads)
    given = {one.id.removeprefix("people/"): (one.annotator, one.question) for one in labels(batch)}
    assert given == counted
    # who found nothing left went while others held what was left, and those answered it
    questions = [question for _, question in given.values()]
    assert len(given) == 90 and {questions.count(question) for question in questions} == {3}
    assert desk.is_over()
    assert all(json.loads(line) for line in batch.log.read_text().splitlines())
    desk.close()
