import json
import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest

from posttrain.errors import RequestError, StorageError
from posttrain.labelling.items import Item, Response
from tasks.data.announced import mark_announced, unannounced
from tasks.data.dvc import bring_up_to_date
from tasks.data.importing import import_file
from tasks.labelling import finish
from tasks.labelling.batches import open_batch
from tasks.labelling.finish import finish_batch
from tasks.labelling.people import Refused, add_person
from tasks.workspace.paths import Paths
from tests.tasks.datasets import gsm8k, lines
from tests.tasks.labelling.batch_of import batch_in, desk_of, item


class Dataset:
    """Stands in for the dataset's labels, which tasks.data keeps."""

    def __init__(self, monkeypatch):
        self.labels = {}
        monkeypatch.setattr(finish, "bring_up_to_date", lambda paths, name: self.version)
        monkeypatch.setattr(finish, "read_people", lambda paths, name: list(self.labels.values()))
        monkeypatch.setattr(finish, "add_labels", self.add)

    def add(self, paths, name, labels):
        assert name == "mine"
        self.labels |= {label.id: label for label in labels if label.id not in self.labels}
        return self.version

    @property
    def version(self):
        return SimpleNamespace(md5=f"version of {len(self.labels)}")


@pytest.fixture
def dataset(monkeypatch):
    return Dataset(monkeypatch)


def label_all(batch, *people, most=99, choice=1.0):
    desk = desk_of(batch)
    for person in people:
        for _ in range(most):
            if shown := desk.next(person):
                desk.answer(person, shown.turn, choice, seconds=1)
    desk.close()


def test_the_labels_of_a_batch_become_a_version_once(tmp_path, dataset):
    batch = batch_in(tmp_path, per_item=2)
    label_all(batch, "Ada", "Ben")
    done = finish_batch(Paths(tmp_path), batch)
    assert (done.labels, done.new, done.md5) == (8, 8, "version of 8")
    assert done.agreement.shared_pairs == 4 and set(done.agreement.annotators) == {"Ada", "Ben"}
    assert {label.annotator for label in dataset.labels.values()} == {"Ada", "Ben"}
    told = json.loads((batch.folder / "finished.json").read_text())
    assert (told["labels"], told["new"], told["md5"]) == (8, 8, "version of 8") and told["agreement"]["pairs"] == 4
    assert batch.is_finished and batch.is_closed
    again = finish_batch(Paths(tmp_path), batch)
    assert (again.labels, again.new, again.md5, again.agreement) == (8, 0, "version of 8", done.agreement)
    assert json.loads((batch.folder / "finished.json").read_text()) == told
    with pytest.raises(RequestError, match="no batch of mine is waiting for labels"):
        open_batch(Paths(tmp_path), "mine")


def test_labels_of_another_batch_are_left_alone(tmp_path, dataset):
    first, second = batch_in(tmp_path), batch_in(tmp_path)
    for batch, count in ((first, 4), (second, 8)):
        label_all(batch, "Ada")
        done = finish_batch(Paths(tmp_path), batch)
        assert (done.labels, done.new, done.md5) == (4, 4, f"version of {count}")


def test_a_batch_that_is_not_over_is_finished_by_force_alone(tmp_path, dataset):
    batch = batch_in(tmp_path)
    with pytest.raises(RequestError, match=f"batch {batch.name} of mine has 0 of 4 answers. Let people answer the rest, or"):
        finish_batch(Paths(tmp_path), batch)
    with pytest.raises(
        RequestError, match=r"the answers of batch .* of mine make no label; there are 0. Label some first: make label"
    ):
        finish_batch(Paths(tmp_path), batch, force=True)
    label_all(batch, "Ada", most=3)
    with pytest.raises(RequestError, match=r"3 of 4 answers. .* make labels DATA=mine FINISH=1 FORCE=1"):
        finish_batch(Paths(tmp_path), batch)
    assert not batch.is_closed and not dataset.labels
    assert finish_batch(Paths(tmp_path), batch, force=True).labels == 3
    assert finish_batch(Paths(tmp_path), batch).new == 0  # it is closed, so nothing can be left


def test_links_that_hold_say_who_may_still_answer(tmp_path, dataset):
    batch = batch_in(tmp_path, [item("0"), item("1")])
    add_person(batch, "Ada")
    desk = desk_of(batch)
    desk.answer("Ada", desk.next("Ada").turn, 1.0, seconds=1)
    desk.skip("Ada", desk.next("Ada").turn)
    desk.close()
    add_person(batch, "Ben")
    with pytest.raises(RequestError, match="has 1 of 2 answers"):
        finish_batch(Paths(tmp_path), batch)
    assert finish_batch(Paths(tmp_path), batch, now=lambda: desk._now().replace(year=3000)).labels == 1


def test_ratings_without_a_partner_make_no_label(tmp_path, dataset):
    batch = batch_in(tmp_path, [item("0", kind="rating", texts=("a",))])
    label_all(batch, "Ada", choice=4)
    with pytest.raises(RequestError, match=r"make no label \(ratings make labels where one person rated two .*; there are 1\."):
        finish_batch(Paths(tmp_path), batch)
    assert not batch.is_closed


def test_an_open_page_takes_no_answer_from_then_on(tmp_path, dataset):
    batch = batch_in(tmp_path)
    desk = desk_of(batch)
    link = add_person(batch, "Ada")
    shown = desk.next("Ada")
    _, following = desk.answer_and_next("Ada", shown.turn, 1.0, seconds=1)
    assert finish_batch(Paths(tmp_path), batch, force=True).labels == 1
    for call in (
        lambda: desk.answer("Ada", following.turn, 1.0, seconds=1),
        lambda: desk.undo("Ada"),
        lambda: desk.who(link.token),
    ):
        with pytest.raises(Refused, match="finished"):
            call()
    desk.close()
    assert finish_batch(Paths(tmp_path), batch).labels == 1


def test_no_answer_is_acknowledged_and_left_out(tmp_path, dataset):
    """People answer while the batch is ended under them."""
    batch = batch_in(tmp_path, [item(str(number)) for number in range(400)])
    desk, acknowledged, begun = desk_of(batch), [], threading.Event()

    def label():
        with suppress(Refused):
            shown = desk.next("Ada")
            while shown:
                event, shown = desk.answer_and_next("Ada", shown.turn, 1.0, seconds=1)
                acknowledged.append(f"people/{event}")
                begun.set()

    thread = threading.Thread(target=label)
    thread.start()
    assert begun.wait(60)
    finish_batch(Paths(tmp_path), batch, force=True)
    thread.join(60)
    desk.close()
    assert not thread.is_alive() and list(dataset.labels) == acknowledged


class Killed(BaseException):
    pass


def dies(*_, **__):
    raise Killed


@pytest.mark.parametrize("at", ["closed", "before adding", "after adding", "finished", "whole"])
def test_a_kill_at_any_point_is_completed_by_the_next_call(tmp_path, dataset, monkeypatch, at):
    batch = batch_in(tmp_path)
    label_all(batch, "Ada")
    write = finish._write

    def add_and_die(*arguments):
        dataset.add(*arguments)
        raise Killed

    def write_some(batch, name, told):
        if name == f"{at}.json":
            raise Killed
        write(batch, name, told)

    with monkeypatch.context() as patched:
        patched.setattr(finish, "_write", write_some)
        patched.setattr(finish, "add_labels", {"before adding": dies, "after adding": add_and_die}.get(at, dataset.add))
        with pytest.raises(Killed):
            finish_batch(Paths(tmp_path), batch)
            raise Killed
    assert batch.is_finished == (at == "whole")
    if at not in ("closed", "whole"):
        assert open_batch(Paths(tmp_path), "mine") == batch  # it is still waiting
    done = finish_batch(Paths(tmp_path), batch)
    assert (done.labels, done.md5) == (4, "version of 4") and batch.is_finished and len(dataset.labels) == 4


def test_a_disk_that_refuses_the_note_is_told(tmp_path, dataset, monkeypatch):
    batch = batch_in(tmp_path)
    label_all(batch, "Ada")

    def no_room(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(finish, "write_whole", no_room)
        with pytest.raises(StorageError, match=r"cannot write .*closed.json: No space left on device"):
            finish_batch(Paths(tmp_path), batch)
    assert not batch.is_closed and not dataset.labels
    assert finish_batch(Paths(tmp_path), batch).new == 4


def test_a_dataset_that_is_not_there_closes_no_batch(paths):
    batch = batch_in(paths.root)
    label_all(batch, "Ada")
    with pytest.raises(RequestError, match="there is no dataset mine"):
        finish_batch(paths, batch)
    assert not batch.is_closed


@pytest.mark.slow
def test_a_finished_batch_is_a_new_version_that_others_are_told_of(paths):
    """With a real DVC."""
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="gsm")
    before = bring_up_to_date(paths, "gsm")
    mark_announced(paths, {"gsm": before.md5})
    responses = (Response(text="So 1."), Response(text="So 2."))
    items = [
        Item(id=row["id"], kind="pair", question=row["id"], prompt=row["prompt"], responses=responses, selection="random")
        for row in lines(before.folder / "questions.jsonl")[:3]
    ]
    batch = batch_in(paths.root, items, dataset="gsm")
    label_all(batch, "Ada")
    done = finish_batch(paths, batch)
    after = bring_up_to_date(paths, "gsm")
    assert done.md5 == after.md5 != before.md5 and unannounced(paths) == {"gsm": after.md5}
    kept = lines(before.folder / "labels.jsonl")
    assert [(row["question"], row["annotator"]) for row in kept] == [(one.id, "Ada") for one in items]
    assert (before.folder / "labels.jsonl.dvc").exists()
    assert finish_batch(paths, batch).new == 0 and bring_up_to_date(paths, "gsm").md5 == done.md5
