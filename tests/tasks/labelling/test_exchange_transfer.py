"""Labels leave a dataset and come into another copy of it; whatever goes wrong on the way leaves both as they were."""

import errno
import json
import os
from pathlib import Path

import pytest

from posttrain.errors import DataError, RequestError, StorageError
from posttrain.feedback.labels import Label
from tasks.data.announced import unannounced
from tasks.data.labels_file import add_labels, labels_file, read_people
from tasks.labelling.exchange import transfer
from tasks.labelling.exchange.interface import Passed
from tasks.labelling.exchange.label_studio import CONFIG
from tasks.labelling.exchange.table import FORMS, form_of
from tasks.labelling.exchange.transfer import export_batch, export_labels, import_labels
from tests.tasks.labelling.labelled_world import NAME, batch, dataset, item


def label(question, number, **fields):
    told = {
        "id": f"l{number}",
        "family": question.family,
        "prompt": question.prompt,
        "question": question.id,
        "group": question.id,
        "first": f"a {number}",
        "second": "b",
        "preference": 1.0,
        "annotator": "Ada",
        "source": "person",
        "at": "2026-11-29T18:05:01+00:00",
        "seconds": 3.5,
        "selection": "random",
    }
    return Label(**(told | fields))


@pytest.fixture
def labelled(paths, monkeypatch):
    """A dataset with three labels of two people; its first question."""
    questions = dataset(paths, monkeypatch)
    labels = [
        label(questions[0], 1),
        label(questions[1], 2, preference=0.5),
        label(questions[0], 3, first="a 1", annotator="Ben"),
    ]
    add_labels(paths, NAME, labels)
    return questions[0]


def state(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def forget(paths):
    """Take the labels away, as in a copy where nobody has labelled."""
    for file in (labels_file(paths, NAME), labels_file(paths, NAME).with_name("labels.jsonl.dvc")):
        file.unlink()


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_copy_gets_the_same_labels(paths, labelled, form):
    before = read_people(paths, NAME)
    out = export_labels(paths, NAME, form=FORMS[form], file="out/labels.json", is_forced=False)
    assert out.count == 3 and out.files[0] == paths.root / "out" / "labels.json"
    forget(paths)
    got = import_labels(paths, NAME, form=FORMS[form], file="out/labels.json")
    after = read_people(paths, NAME)
    assert sorted(after, key=lambda one: one.id) == sorted(before, key=lambda one: one.id)
    assert (len(got.new), got.known) == (3, 0) and unannounced(paths) == {NAME: got.version.md5}
    # and once more: nothing is new, and nothing is written
    files = state(paths.data / NAME)
    again = import_labels(paths, NAME, form=FORMS[form], file="out/labels.json")
    assert (len(again.new), again.known, again.version.md5) == (0, 3, got.version.md5)
    assert state(paths.data / NAME) == files


def test_the_configuration_lies_beside_label_studios_tasks(paths, labelled):
    out = export_labels(paths, NAME, form=FORMS["label-studio"], file="labels.json", is_forced=False)
    assert out.files[1] == paths.root / "labels.config.xml" and out.files[1].read_text() == CONFIG
    out.files[0].unlink()
    with pytest.raises(RequestError, match=r"the file beside labels.json=.*labels.config.xml is there already"):
        export_labels(paths, NAME, form=FORMS["label-studio"], file="labels.json", is_forced=False)
    assert not (paths.root / "labels.json").exists()


def test_one_bad_line_adds_nothing(paths, labelled):
    good, bad = label(labelled, 8), label(labelled, 9, second="a 9")
    (paths.root / "in.jsonl").write_text(FORMS["jsonl"].write([good, bad]), encoding="utf-8")
    before = state(paths.data / NAME)
    with pytest.raises(
        DataError, match=r"^in.jsonl: 1 of 2 labels cannot be used, so none was taken:\n  line 2: first and second"
    ):
        import_labels(paths, NAME, form=FORMS["jsonl"], file="in.jsonl")
    assert state(paths.data / NAME) == before


def test_who_may_have_written_them_stands_beside_the_datasets_labels(paths, labelled):
    (paths.data / NAME / "labels.jsonl.annotators.json").write_text('["Ada"]')
    (paths.root / "in.jsonl").write_text(FORMS["jsonl"].write([label(labelled, 8, annotator="Eve")]), encoding="utf-8")
    with pytest.raises(DataError, match='line 1: annotator "Eve" is not on the list'):
        import_labels(paths, NAME, form=FORMS["jsonl"], file="in.jsonl")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]\n\x00", b"null", b"{}"])
@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_any_bytes_is_told_by_its_name(paths, labelled, form, content):
    (paths.root / "in.json").write_bytes(content)
    with pytest.raises(DataError, match=r"^in\.json[: ]"):
        import_labels(paths, NAME, form=FORMS[form], file="in.json")


@pytest.mark.parametrize("file", ["nowhere.json", "data", "x\0y"])
def test_a_file_that_cannot_be_read(paths, labelled, file):
    with pytest.raises(RequestError, match=r"^cannot read .*: .*\. FILE names the file to read$"):
        import_labels(paths, NAME, form=FORMS["jsonl"], file=file)


def test_a_file_that_is_there_is_replaced_only_by_force(paths, labelled):
    (paths.root / "labels.json").write_text("mine")
    with pytest.raises(RequestError) as caught:
        export_labels(paths, NAME, form=FORMS["jsonl"], file="labels.json", is_forced=False)
    told = "FILE=labels.json is there already, and would be replaced. Name another file, or allow it: FORCE=1"
    assert str(caught.value) == told and (paths.root / "labels.json").read_text() == "mine"
    export_labels(paths, NAME, form=FORMS["jsonl"], file="labels.json", is_forced=True)
    assert len((paths.root / "labels.json").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("out", "which is a folder. Name another"),
        (f"data/{NAME}/labels.jsonl", "FILE must lie outside "),
        ("labelling/x.json", "FILE must lie outside "),
        ("/dev/null", "which is a device, pipe or socket. Name another"),
        ("x\0y", "FILE names no file: "),
    ],
)
def test_where_nothing_may_be_written(paths, labelled, file, problem):
    (paths.root / "out").mkdir()
    before = state(paths.data / NAME)
    with pytest.raises(RequestError) as caught:
        export_labels(paths, NAME, form=FORMS["jsonl"], file=file, is_forced=True)
    assert problem in str(caught.value) and state(paths.data / NAME) == before


def test_a_full_disk_leaves_the_old_file_and_nothing_half(paths, labelled, monkeypatch):
    folder = paths.root / "out"
    folder.mkdir()
    (folder / "labels.json").write_text("mine")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"^the export: the disk is full \("):
        export_labels(paths, NAME, form=FORMS["jsonl"], file="out/labels.json", is_forced=True)
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("labels.json", "mine")]


def test_a_full_disk_while_importing_leaves_the_dataset(paths, labelled, monkeypatch):
    (paths.root / "in.jsonl").write_text(FORMS["jsonl"].write([label(labelled, 8)]), encoding="utf-8")
    before = state(paths.data / NAME)

    def full(paths, name, labels):
        raise StorageError("the disk is full")

    monkeypatch.setattr(transfer, "add_labels", full)
    with pytest.raises(StorageError):
        import_labels(paths, NAME, form=FORMS["jsonl"], file="in.jsonl")
    assert state(paths.data / NAME) == before


@pytest.mark.parametrize("form", ["label-studio", "mlflow", "argilla"])
def test_pairs_of_a_batch_are_labelled_in_the_other_tool(paths, labelled, form):
    """What the batch knows of a pair comes back with the label, whichever side it stood on."""
    gold = [item(labelled, number, gold=0.9, selection="spread") for number in range(8)]
    repeated = gold[0].model_copy(update={"id": "again", "repeats": "item-0"})
    made = batch(paths, [*gold, repeated])
    out = export_batch(paths, made, form=FORMS[form], file="pairs.json", is_forced=False)
    assert out.count == 8
    text = (paths.root / "pairs.json").read_text()
    assert all(isinstance(one, Passed) and one.why == "not labelled yet" for one in FORMS[form].read(text))
    rows = json.loads(text)
    for row in rows:
        if form == "label-studio":
            region = {"type": "pairwise", "value": {"selected": "left"}}
            row["annotations"] = [{"id": 7, "unique_id": row["data"]["first"], "completed_by": 3, "result": [region]}]
        elif form == "mlflow":
            source = {"source_type": "HUMAN", "source_id": "3"}
            row["info"]["assessments"] = [{"assessment_name": "preference", "source": source, "feedback": {"value": "first"}}]
        else:
            row["responses"] = {"preference": [{"value": "first", "user_id": "3"}]}
    (paths.root / "done.json").write_text(json.dumps(rows))
    got = import_labels(paths, NAME, form=FORMS[form], file="done.json").new
    assert len(got) == 8 and {one.selection for one in got} == {"spread"}
    assert {one.prompt_version for one in got} == {made.prompt_version} and {one.annotator for one in got} == {"3"}
    yes = [one for one in got if one.first.startswith("yes")]
    no = [one for one in got if one.first.startswith("no")]
    assert yes and no, "the order is drawn"
    assert {(one.gold, one.first_model, one.first_finished) for one in yes} == {(0.9, "models:/m/1", True)}
    assert {(round(one.gold, 9), one.second_model, one.second_finished) for one in no} == {(0.1, "models:/m/1", True)}


def test_what_cannot_be_asked_elsewhere(paths, labelled):
    made = batch(paths, [item(labelled, 1)])
    with pytest.raises(RequestError, match="jsonl holds labels, and no pairs that are to be labelled"):
        export_batch(paths, made, form=FORMS["jsonl"], file="x.json", is_forced=False)
    ranked = batch(paths, [item(labelled, 1, kind="ranking")], kind="ranking")
    with pytest.raises(RequestError, match=r"asks for a ranking, and mlflow takes pairs\. Name a batch of pairs"):
        export_batch(paths, ranked, form=FORMS["mlflow"], file="x.json", is_forced=False)


def test_without_labels_there_is_nothing_to_export(paths, monkeypatch):
    dataset(paths, monkeypatch)
    with pytest.raises(RequestError, match=f"nobody has labelled {NAME} yet, so there is nothing to export"):
        export_labels(paths, NAME, form=FORMS["jsonl"], file="x.json", is_forced=False)
    assert not Path("x.json").exists()


def test_forms_are_named(paths):
    assert form_of("label_studio", word="EXPORT") is FORMS["label-studio"]
    with pytest.raises(RequestError) as caught:
        form_of("labelstudio", word="EXPORT")
    told = "EXPORT must be one of jsonl, label-studio, mlflow, argilla, got labelstudio; did you mean label-studio?"
    assert str(caught.value) == told


def test_what_argilla_gives_out_is_one_line_of_json(paths, labelled):
    export_labels(paths, NAME, form=FORMS["argilla"], file="labels.json", is_forced=False)
    records = json.loads((paths.root / "labels.json").read_text())
    (paths.root / "lines.json").write_text("\n".join(map(json.dumps, records)))
    assert import_labels(paths, NAME, form=FORMS["argilla"], file="lines.json").known == 3
