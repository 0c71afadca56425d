"""`make labels`: what its words ask for, and what a user sees of each of its uses."""

import json

import pytest

from flows.keep_verbs import Start
from flows.labels import labels_request, run_labels
from flows.verbs import words_of
from posttrain.errors import PosttrainError, RequestError
from posttrain.settings.config import merge
from tasks.data.labels_file import read_people
from tasks.labelling.exchange.table import FORMS
from tests.tasks.conftest import paths  # noqa: F401 - the fixture
from tests.tasks.labelling.labelled_world import NAME, answer, batch, dataset, item


@pytest.fixture
def labels(paths, monkeypatch, capsys):  # noqa: F811
    """Run the verb in a dataset with a batch of two pairs, of which one is answered; return what was printed and said."""
    questions = dataset(paths, monkeypatch)
    made = batch(paths, [item(questions[0], 1), item(questions[1], 2)])
    answer(made, {"Ada": [1]})

    def run(*words):
        said = []
        start = Start(lambda settings: merge({}, settings), lambda config: None, said.append)
        capsys.readouterr()
        run_labels(paths, words_of("labels", [f"DATA={NAME}", *words]), start)
        return capsys.readouterr().out + "".join(f"{line}\n" for line in said)

    run.paths, run.batch = paths, made
    return run


def test_the_state_is_shown_and_kept(labels):
    told = labels("OUT=state.json")
    assert f"{NAME}: 1 label by 1 annotator, 1 of them in batches that are not finished" in told
    assert told.endswith("as JSON: state.json\n")
    assert json.loads((labels.paths.root / "state.json").read_text())["left"] == 1
    with pytest.raises(RequestError, match=r"OUT=state.json is there already"):
        labels("OUT=state.json")
    labels("OUT=state.json", "FORCE=1")


def test_a_batch_is_finished_without_the_page(labels):
    with pytest.raises(RequestError, match=r"has 1 of 2 answers\. Let people answer the rest, or take what is there"):
        labels("FINISH=1")
    told = labels("FINISH=1", "FORCE=1", f"BATCH={labels.batch.name}")
    assert told.startswith(f"batch {labels.batch.name} of {NAME}: 1 label, 1 of it new; version ")
    assert [one.annotator for one in read_people(labels.paths, NAME)] == ["Ada"]
    with pytest.raises(RequestError, match=f"there is no batch nowhere of {NAME}"):
        labels("FINISH=1", "BATCH=nowhere")


@pytest.mark.parametrize("form", FORMS)
def test_labels_go_out_and_come_back(labels, form):
    labels("FINISH=1", "FORCE=1")
    told = labels(f"EXPORT={form.upper()}", "FILE=out.json")
    assert told.startswith(f"1 label of {NAME} in out.json") and FORMS[form].says in told
    told = labels(f"IMPORT={form}", "FILE=out.json")
    assert told.startswith(f"{NAME}: 0 new labels of out.json; 1 label of the file was there already; version ")


def test_pairs_of_a_batch_go_out(labels):
    told = labels("EXPORT=argilla", f"BATCH={labels.batch.name}", "FILE=out.json")
    assert told.startswith(f"2 pairs to label, batch {labels.batch.name} of {NAME} in out.json")


def test_what_was_passed_over_is_said(labels):
    labels("FINISH=1", "FORCE=1")
    labels("EXPORT=label-studio", "FILE=out.json")
    tasks = json.loads((labels.paths.root / "out.json").read_text())
    tasks[0]["annotations"].append({"was_cancelled": True, "result": []})
    (labels.paths.root / "out.json").write_text(json.dumps(tasks))
    assert labels("IMPORT=label-studio", "FILE=out.json").endswith("out.json: 1 place passed over: skipped by its annotator\n")


def test_an_unknown_dataset_is_refused(labels):
    with pytest.raises(RequestError, match="there is no dataset mein; did you mean mine"):
        labels("DATA=mein")


def test_an_unknown_form_is_refused_before_anything_runs(labels):
    with pytest.raises(RequestError, match="IMPORT must be one of jsonl, label-studio, mlflow, argilla, got csv"):
        labels("IMPORT=csv", "FILE=out.json")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"export": "jsonl"}, "EXPORT needs FILE. It writes labels to a file: make labels EXPORT=label-studio FILE=labels.json"),
        ({"import": "jsonl", "file": " "}, "IMPORT needs FILE. It adds the labels of a file: make labels IMPORT=label-studio "),
        ({"export": "jsonl", "import": "jsonl"}, "labels does one thing at a time, got EXPORT and IMPORT. "),
        ({"finish": "2"}, "FINISH must be 1 or 0, got 2"),
        ({"force": "yes"}, "FORCE must be 1 or 0, got yes"),
        ({"file": "x"}, "labels that shows the state takes no FILE; it takes OUT and FORCE"),
        ({"batch": "x"}, "labels that shows the state takes no BATCH; "),
        ({"finish": "1", "out": "x"}, "labels with FINISH takes no OUT; it takes BATCH and FORCE"),
        ({"import": "jsonl", "file": "x", "force": "1"}, "labels with IMPORT takes no FORCE; it takes FILE"),
    ],
)
def test_words_that_do_not_go_together(given, problem):
    with pytest.raises(RequestError) as caught:
        labels_request(given)
    assert str(caught.value).startswith(problem)


def test_empty_words_count_for_nothing():
    assert labels_request({"finish": "0", "export": "", "out": "", "force": "0"}).use == ""


def test_a_damaged_file_is_no_traceback(labels):
    labels.batch.log.write_text("x\n")
    with pytest.raises(PosttrainError):
        labels()
