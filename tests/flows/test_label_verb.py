"""`make label` on a real folder of batches: what is opened, made, printed and refused; the page itself is stood in for."""

import re
import socket
from datetime import timedelta

import pytest

from flows import label as subject
from flows.label import Over, about, earlier_of, ended_lines, label, port_of, site_of
from flows.label_items import Drawn, Prepared
from flows.label_request import LabelRequest
from posttrain.errors import RequestError
from posttrain.feedback.agreement import agreement_of
from posttrain.feedback.labels import Label
from posttrain.labelling.items import Item, Response
from posttrain.labelling.selections import SELECTIONS
from posttrain.settings.config import merge
from tasks.data.dvc import DatasetVersion
from tasks.labelling.batches import batches_of, open_batch
from tasks.labelling.candidates import texts_of
from tasks.labelling.desk import Desk, Refused
from tasks.labelling.finish import Finished
from tasks.labelling.people import people_of
from tasks.workspace.paths import Paths
from tests.ports import free_port

LINK = re.compile(r"^(\S+) +http://127\.0\.0\.1:(\d+)/#([\w-]{32})$", re.MULTILINE)
MD5 = "0123456789abcdef0123456789abcdef"


def pairs(count, prefix="item"):
    return [
        Item(
            id=f"{prefix}{number}",
            kind="pair",
            question=f"question-{number}",
            prompt=f"What is {number}?",
            responses=(Response(text="yes"), Response(text="no")),
            selection="random",
        )
        for number in range(count)
    ]


def label_of(number, annotator, preference):
    return Label(
        id=f"label-{number}-{annotator}",
        prompt=f"What is {number}?",
        question=f"question-{number}",
        group=f"question-{number}",
        first="yes",
        second="no",
        preference=preference,
        annotator=annotator,
        source="person",
    )


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A repository in which a batch of three pairs is drawn without any model, and a page that nobody visits ends at once."""
    paths = Paths(tmp_path)
    (paths.data / "labelling").mkdir(parents=True)
    for kind in ("pair", "ranking", "rating"):
        (paths.data / "labelling" / f"{kind}.md").write_text(f"How to judge a {kind}.\n")
    (paths.data / "mine").mkdir()
    house = House(paths)
    version = DatasetVersion("mine", paths.data / "mine", MD5, {}, ("a note of the data",))
    monkeypatch.setattr(subject, "bring_up_to_date", lambda paths, name: version)
    monkeypatch.setattr(subject, "prepare", lambda paths, config: (Prepared(config, SELECTIONS["random"]), []))
    monkeypatch.setattr(subject, "draw_batch", house.draw)
    monkeypatch.setattr("tasks.labelling.serve.serve_page", house.serve)
    monkeypatch.setattr(subject, "finish_batch", house.finish)
    return house


class House:
    """Stands for what `make label` uses, and keeps what it was asked for."""

    def __init__(self, paths):
        self.paths, self.said, self.pages, self.ended = paths, [], [], []
        self.port = free_port()
        self.visit = lambda desk: None
        self.verdicts = {}
        self.earlier = None

    def draw(self, paths, prepared, data, earlier, say):
        self.earlier = earlier
        return Drawn(pairs(3, f"batch{earlier.batches}-"), "stage:sft/aa", self.verdicts)

    def serve(self, desk, *, port, host, hosts, verdicts, begun, ended):
        self.pages.append({"port": port, "host": host, "hosts": list(hosts), "verdicts": verdicts})
        begun()
        self.is_ended = ended
        self.visit(desk)
        desk.close()

    def finish(self, paths, batch):
        self.ended.append(batch.name)
        (batch.folder / "finished.json").write_text("{}")
        labels = [label_of(number, "ada", 1.0) for number in range(3)]
        return Finished(labels=3, new=3, md5=MD5, agreement=agreement_of(labels))

    def label(self, *settings, **words):
        config = merge({}, ["data.name=mine", f"labelling.port={self.port}", *settings])
        label(self.paths, config, LabelRequest(**words), self.said.append)


def answer_all(desk, *people):
    """Answer whatever each person is shown."""
    for person in people:
        while shown := desk.next(person):
            desk.answer(person, shown.turn, 1.0, seconds=2.0)


# --- making, opening, ending ------------------------------------------------------------------------------------------


def test_a_new_batch_is_made_its_links_are_printed_once_and_open_the_desk(house, capsys):
    house.label("seed=4", "labelling.per_item=2", people=("ada", "ben"))
    out = capsys.readouterr().out
    links = LINK.findall(out)
    assert [(name, int(port)) for name, port, _ in links] == [("ada", house.port), ("ben", house.port)]
    (batch,) = batches_of(house.paths, "mine")
    assert (batch.kind, batch.per_item, batch.seed, batch.data_md5, batch.models) == ("pair", 2, 4, MD5, ("stage:sft/aa",))
    assert batch.instructions == "How to judge a pair.\n" and batch.settings["labelling.selection"] == "random"
    desk = Desk(batch)
    assert [desk.who(token) for _, _, token in links] == ["ada", "ben"]
    desk.close()
    tokens = [token for _, _, token in links]
    assert not any(token in file.read_text() for file in batch.folder.iterdir() for token in tokens), "only digests are kept"
    assert house.said == ["a note of the data"]
    assert out.endswith(
        "the batch is not over, and what was answered is kept. Go on: make label DATA=mine. End it with what is there: "
        "make labels DATA=mine FINISH=1 FORCE=1\n"
    )


def test_an_unfinished_batch_is_opened_again_and_nobody_gets_a_second_link(house, capsys):
    house.label(people=("ada",))
    house.visit = lambda desk: answer_all(desk, "ada")
    house.label(people=("ada", "ben"), of_new=("BATCH=50", "PER_ITEM=2"))
    out = capsys.readouterr().out
    (batch,) = batches_of(house.paths, "mine")
    assert [name for name, _, _ in LINK.findall(out)] == ["ada", "ben"], "ada once, ben at the second time"
    assert house.said[1:] == [
        f"note: BATCH=50 and PER_ITEM=2 would be of a new batch, and batch {batch.name} goes on. Make another: NEW=1",
        'note: ada has a link that holds. A new one instead: make label DATA=mine PEOPLE="ada" LINKS=1',
    ]
    assert house.ended == [batch.name]


def test_a_batch_that_is_over_becomes_a_version(house, capsys):
    house.visit = lambda desk: answer_all(desk, "ada")
    house.label(people=("ada",))
    (batch,) = batches_of(house.paths, "mine")
    assert house.ended == [batch.name]
    assert capsys.readouterr().out.splitlines()[2:] == [
        f"batch {batch.name}: 3 labels by 1 person, 3 of them new to mine",
        f"version: {MD5} (data/mine/labels.jsonl)",
        "agreement: not known, as no two people labelled one pair; PER_ITEM=2 asks two about each",
        "next: make pipeline METHOD=rlhf DATA=mine; make retrain DATA=mine promotes what is better",
    ]
    house.label()
    assert len(batches_of(house.paths, "mine")) == 2, "nothing is left to open, so another is made"


def test_a_batch_that_was_over_when_the_process_died_is_ended_without_a_page(house):
    house.visit = lambda desk: answer_all(desk, "ada")
    house.label(people=("ada",))
    (batch,) = batches_of(house.paths, "mine")
    (batch.folder / "finished.json").unlink()
    house.ended.clear()
    house.label()
    assert house.ended == [batch.name] and len(house.pages) == 1


def test_a_batch_whose_end_was_interrupted_is_ended_without_a_page(house):
    house.label(people=("ada",))
    (batch,) = batches_of(house.paths, "mine")
    (batch.folder / "closed.json").write_text("{}")
    house.label()
    assert house.ended == [batch.name] and len(house.pages) == 1


def test_new_makes_another_and_what_waits_is_not_asked_in_it(house):
    house.label(people=("ada",))
    house.label(people=("ada",), is_new=True)
    assert len(batches_of(house.paths, "mine")) == 2
    assert house.earlier.batches == 1 and texts_of("question-2", ("no", "yes")) in house.earlier.waiting
    assert open_batch(house.paths, "mine").name == batches_of(house.paths, "mine")[1].name


def test_a_batch_that_another_command_ends_is_not_ended_twice(house, capsys):
    def visit(desk):
        assert not house.is_ended()
        for name in ("closed.json", "finished.json"):
            (desk.batch.folder / name).write_text("{}")
        assert house.is_ended()

    house.visit = visit
    house.label(people=("ada",))
    (batch,) = batches_of(house.paths, "mine")
    assert house.ended == []
    assert capsys.readouterr().out.endswith(f"batch {batch.name} was ended by another command, which said what came of it\n")


def test_whoever_runs_it_labels_where_nobody_is_named(house, capsys, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "dora")
    house.label()
    house.label()
    assert [name for name, _, _ in LINK.findall(capsys.readouterr().out)] == ["dora"], "and is asked in no second time"
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(KeyError("no such user")))
    assert subject.user() == "me"


# --- links while the page is open -------------------------------------------------------------------------------------


def test_links_are_made_and_ended_by_another_command_while_the_page_is_open(house, capsys):
    found = {}

    def visit(desk):
        (first,) = LINK.findall(capsys.readouterr().out)
        house.label("labelling.link_days=3", people=("cem",), is_links_only=True)
        ((_, port, token),) = LINK.findall(capsys.readouterr().out)
        found.update(name=desk.who(token), port=int(port))
        house.label(revoke=("cem",))
        for opened, reason in ((token, "revoked"), (first[2], "")):
            try:
                found[opened] = desk.who(opened)
            except Refused as refused:
                found[opened] = refused.reason
                assert refused.reason == reason
        found["ada"] = found[first[2]]

    house.visit = visit
    house.label(people=("ada",))
    assert found["name"] == "cem" and found["port"] == house.port and found["ada"] == "ada"
    person = next(one for one in people_of(open_batch(house.paths, "mine")) if one.name == "cem")
    assert person.is_revoked and person.expires - person.added_at == timedelta(days=3)
    assert "what cem answered stays" in capsys.readouterr().out


def test_links_and_revoke_without_a_batch(house):
    for words in ({"people": ("cem",), "is_links_only": True}, {"revoke": ("cem",)}):
        with pytest.raises(RequestError, match=r"no batch of mine is waiting for labels\. Make one: make label DATA=mine"):
            house.label(**words)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_port_is_that_of_the_links_unless_another_is_asked_for(house):
    other = free_port()
    house.label(people=("ada",))
    house.port, before = other, house.port
    house.label()
    assert house.pages[1]["port"] == before, "the settings say another port, and the links hold this one"
    house.label(port=other)
    assert house.pages[2]["port"] == other
    house.label()
    assert house.pages[3]["port"] == other


def test_a_port_that_is_taken_is_refused_before_anything_is_drawn(house):
    with socket.socket() as other:
        other.bind(("127.0.0.1", house.port))
        other.listen()
        with pytest.raises(RequestError) as refused:
            house.label(people=("ada",))
    assert str(refused.value) == (
        f"port {house.port} must be free for the labelling page, but another program listens there, perhaps a page of another "
        f"dataset. Take another: make label PORT={house.port + 1}"
    )
    assert house.earlier is None and not batches_of(house.paths, "mine")


@pytest.mark.parametrize(
    ("settings", "site"),
    [
        ([], "http://127.0.0.1:8010"),
        (["labelling.host=0.0.0.0"], f"http://{socket.gethostname()}:8010"),
        (["labelling.host=192.0.2.7"], "http://192.0.2.7:8010"),
        (["labelling.host=::1"], "http://[::1]:8010"),
        (["labelling.host=0.0.0.0", "labelling.site=https://label.example.org/"], "https://label.example.org"),
    ],
)
def test_what_links_begin_with(settings, site):
    assert site_of(merge({}, settings), 8010) == site


def test_a_page_beyond_this_machine_is_warned_of_and_knows_its_name(house):
    house.label("labelling.host=0.0.0.0", people=("ada",))
    assert any("without encryption" in line for line in house.said)
    assert house.pages[0]["hosts"] == [f"{socket.gethostname()}:{house.port}"]
    house.said.clear()
    house.label("labelling.host=0.0.0.0", "labelling.site=https://label.example.org")
    assert house.pages[1]["hosts"] == ["label.example.org"] and not any("encryption" in line for line in house.said)


@pytest.mark.parametrize("site", ["label.example.org", "ftp://label.example.org", "https://label.example.org/x", "https://"])
def test_a_site_that_is_no_address_is_refused(house, site):
    with pytest.raises(RequestError) as refused:
        house.label(f"labelling.site={site}")
    assert str(refused.value) == (f"labelling.site must be an address like https://label.example.org, without a path, got {site}")


def test_what_a_judge_says_is_kept_with_the_batch(house):
    house.verdicts = {"batch0-1": 0.75}
    house.label(people=("ada",))
    house.label()
    assert [page["verdicts"] for page in house.pages] == [{"batch0-1": 0.75}] * 2
    house.verdicts = {}
    house.label(is_new=True)
    assert house.pages[2]["verdicts"] is None


def test_fewer_people_than_an_item_takes_are_told_of(house):
    house.label("labelling.per_item=3", people=("ada", "ben"))
    assert house.said[0] == (
        'note: labelling.per_item=3 takes as many people, and 2 get links now. More: make label DATA=mine PEOPLE="cem" LINKS=1'
    )


def test_without_instructions_nothing_is_drawn(house):
    (house.paths.data / "labelling" / "rating.md").write_text(" \n")
    with pytest.raises(RequestError) as refused:
        house.label("labelling.kind=rating")
    assert str(refused.value) == (
        "annotators of a rating read data/labelling/rating.md before they begin, and it is not there. Write it, or get it back: "
        "git checkout data/labelling/rating.md"
    )
    assert house.earlier is None


def test_a_batch_that_another_process_serves_is_refused(house):
    house.label(people=("ada",))
    desk = Desk(open_batch(house.paths, "mine"))
    with pytest.raises(RequestError, match="is open in another process"):
        house.label()
    desk.close()
    assert len(house.pages) == 1


# --- small parts ------------------------------------------------------------------------------------------------------


def test_a_batch_is_over_only_after_a_while_in_which_an_answer_can_be_taken_back():
    state = {"over": False, "now": 100.0}
    over = Over(lambda: state["over"], seconds=20.0, clock=lambda: state["now"])
    assert not over()
    state["over"] = True
    assert not over()
    state["now"] = 119.9
    assert not over()
    state["over"] = False  # the last answer was taken back
    assert not over()
    state.update(over=True, now=130.0)
    assert not over()
    state["now"] = 149.9
    assert not over()
    state["now"] = 150.0
    assert over()


def test_what_was_asked_and_said_before(house):
    house.label(people=("ada",))
    (batch,) = batches_of(house.paths, "mine")
    desk = Desk(batch)
    shown = desk.next("ada")
    desk.answer("ada", shown.turn, 0.0, seconds=1.0)
    desk.close()
    asked = [texts_of(f"question-{number}", ("yes", "no")) for number in range(3)]
    assert earlier_of(house.paths, "mine").waiting == set(asked)
    (batch.folder / "finished.json").write_text("{}")
    (house.paths.data / "mine" / "labels.jsonl").write_text(label_of(7, "ada", 1.0).model_dump_json() + "\n")
    found = earlier_of(house.paths, "mine")
    assert found.waiting == set() and found.answered == {texts_of(shown.item.question, ("yes", "no"))}
    assert [one.question for one in found.labels] == ["question-7"] and found.batches == 1


def test_agreement_is_told_with_its_bounds(house):
    house.label("labelling.per_item=2", people=("ada",))
    batch = open_batch(house.paths, "mine")
    labels = [label_of(number, who, 1.0 if who == "ada" or number % 4 else 0.0) for number in range(12) for who in ("ada", "ben")]
    found = agreement_of(labels)
    lines = list(ended_lines(batch, Finished(labels=24, new=20, md5=MD5, agreement=found)))
    assert lines[0] == f"batch {batch.name}: 24 labels by 2 people, 20 of them new to mine"
    bounds = f"[{found.agreement.low:.1%}, {found.agreement.high:.1%}]"
    assert lines[2].startswith(f"agreement: 75.0% {bounds} on 12 pairs that two people or more labelled, kappa ")
    assert about(batch) == f"batch {batch.name} of mine: 3 items (pair), 2 people each."


def test_a_damaged_note_of_the_port_is_passed_over(house):
    house.label(people=("ada",))
    batch = open_batch(house.paths, "mine")
    (batch.folder / "page.json").write_text("{")
    assert port_of(batch, LabelRequest(), merge({}, ["labelling.port=8044"])) == 8044
