import pytest

from posttrain.errors import DataError, RequestError, StorageError
from tasks.labelling import people
from tasks.labelling.people import Door, Refused, add_person, people_of, revoke_person
from tests.tasks.labelling.batch_of import Clocks, batch_in


@pytest.fixture
def batch(tmp_path):
    return batch_in(tmp_path)


def reason(door, token, clocks):
    with pytest.raises(Refused) as refused:
        door.who(token, clocks.now())
    return refused.value.reason


def test_a_token_tells_its_person_until_the_link_ends(batch):
    clocks = Clocks()
    ada, ben = add_person(batch, "Ada", now=clocks.now), add_person(batch, " Ben ", days=1, now=clocks.now)
    door = Door(batch)
    assert (door.who(ada.token, clocks.now()), door.who(ben.token, clocks.now())) == ("Ada", "Ben")
    assert ada.token != ben.token and len(ada.token) == 32  # 24 bytes, 192 bits
    assert reason(door, "", clocks) == "no_token" and reason(door, ada.token[:-1], clocks) == "wrong"
    assert reason(door, "\ud800", clocks) == "wrong"
    clocks.pass_by(86_399)
    assert door.who(ben.token, clocks.now()) == "Ben" and door.holding(clocks.now()) == {"Ada", "Ben"}
    clocks.pass_by(1)
    assert reason(door, ben.token, clocks) == "expired" and door.holding(clocks.now()) == {"Ada"}
    assert [person.holds(clocks.now()) for person in people_of(batch)] == [True, False]


def test_the_disk_holds_no_token(batch):
    link = add_person(batch, "Ada")
    text = (batch.folder / "people.jsonl").read_text()
    assert link.token not in text and "Ada" in text
    assert link.token not in repr(people_of(batch))


def test_links_made_and_revoked_while_the_door_is_open_count_at_once(batch):
    clocks, door = Clocks(), Door(batch)
    first = add_person(batch, "Ada", now=clocks.now)
    assert door.who(first.token, clocks.now()) == "Ada"
    revoke_person(batch, "Ada", now=clocks.now)
    assert reason(door, first.token, clocks) == "revoked" and door.holding(clocks.now()) == set()
    second = add_person(batch, "Ada", now=clocks.now)
    assert door.who(second.token, clocks.now()) == "Ada" and reason(door, first.token, clocks) == "revoked"
    third = add_person(batch, "Ada", now=clocks.now)  # a new link takes the place of the old one
    assert reason(door, second.token, clocks) == "revoked" and door.who(third.token, clocks.now()) == "Ada"
    assert [person.name for person in people_of(batch)] == ["Ada"]


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\nb", "\x1b[31m"])
def test_a_name_that_is_none_is_refused(batch, name):
    with pytest.raises(RequestError, match="a name must be 1 to 60 printable characters, got"):
        add_person(batch, name)


@pytest.mark.parametrize("days", [0, -1, 3651, float("nan")])
def test_a_link_that_would_not_hold_is_refused(batch, days):
    with pytest.raises(RequestError, match="days must be greater than 0 and at most 3650, got"):
        add_person(batch, "Ada", days=days)


def test_nobody_can_be_revoked_twice(batch):
    add_person(batch, "Ada")
    with pytest.raises(RequestError, match=r"nobody called Adi has a link to batch .*; did you mean Ada\?; links have Ada"):
        revoke_person(batch, "Adi")
    revoke_person(batch, "Ada")
    with pytest.raises(RequestError, match=r"nobody called Ada has a link to batch .*; links have none"):
        revoke_person(batch, "Ada")


def test_half_a_line_is_nobody_and_the_next_link_takes_its_place(batch):
    ada = add_person(batch, "Ada")
    file = batch.folder / "people.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"name": "Be' + b"n" * 500)  # longer than what takes its place
    assert [person.name for person in people_of(batch)] == ["Ada"]
    ben = add_person(batch, "Ben")
    assert file.read_bytes().startswith(whole) and file.read_bytes().count(b"\n") == 2
    door, clocks = Door(batch), Clocks()
    assert (door.who(ada.token, clocks.now()), door.who(ben.token, clocks.now())) == ("Ada", "Ben")


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"name": "Ada"}', '{"name": "Zoe", "revoked": "x"}'])
def test_a_damaged_file_is_refused(batch, line):
    with (batch.folder / "people.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"people.jsonl line 1 names no person with a link. Restore it from a backup"):
        people_of(batch)
    with pytest.raises(DataError, match=r"people.jsonl line 1"):
        Door(batch).who("x", Clocks().now())


def test_a_full_disk_leaves_the_file_as_it_was(batch, monkeypatch):
    add_person(batch, "Ada")
    before = (batch.folder / "people.jsonl").read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(people.os, "fsync", full)
        with pytest.raises(StorageError, match="No space left on device"):
            add_person(batch, "Ben")
    assert (batch.folder / "people.jsonl").read_bytes() == before
    add_person(batch, "Ben")
    assert [person.name for person in people_of(batch)] == ["Ada", "Ben"]
