"""`make monitor`: exit codes, what is printed and written, the command that is told, and Prefect's event."""

import json
import os
from random import Random
from types import SimpleNamespace

import pytest

from flows import monitor as subject
from flows.__main__ import main
from flows.monitor import announce, asked, outcome, payload_of
from posttrain.errors import RequestError
from posttrain.records import Demonstration, Question
from tasks.data.dvc import DatasetVersion
from tasks.data.stages import as_line
from tasks.monitoring import page
from tests.flows.hearing import hearing
from tests.posttrain.drift.test_check import german, story
from tests.tasks.monitoring.checks import SCORE, drifted, fallen
from tests.tasks.monitoring.test_page import STUB

SMALL = "monitor.permutations=99 monitor.min_prompts=20"


def write(path, make, count, seed):
    random = Random(seed)
    path.write_text("".join(f"{make(random)}\n" for _ in range(count)))
    return path.name


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with a dataset, whose ledger keeps what it is given and whose figures are stubs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("# nothing differs from the defaults\n")
    folder = tmp_path / "data" / "mine"
    folder.mkdir(parents=True)
    random = Random("t")
    demonstrations = [Demonstration(id=f"d{place}", prompt=story(random), completion="x") for place in range(60)]
    held_out = [Question(id=f"h{place}", prompt=story(random)) for place in range(30)]
    for role, records in (("demonstrations", demonstrations), ("held_out", held_out)):
        (folder / f"{role}.jsonl").write_bytes(b"".join(map(as_line, records)))
    version = DatasetVersion(name="mine", folder=folder, md5="0123", files={}, notes=("a note on the data",))
    monkeypatch.setattr(subject, "bring_up_to_date", lambda paths, name: version)
    monkeypatch.setattr(subject.Ledger, "open", classmethod(lambda cls, paths, tracking: "ledger"))
    logged = []
    monkeypatch.setattr(subject, "log_check", lambda ledger, record, files: logged.append((ledger, record, files)))
    monkeypatch.setattr(page, "draw_figures", lambda record: STUB)
    before = dict(os.environ)
    os.environ.pop("PREFECT_API_URL", None)
    yield SimpleNamespace(path=tmp_path, logged=logged)
    os.environ.clear()
    os.environ.update(before)


def latest(root):
    return json.loads((root.path / "reports" / "monitor" / "latest.json").read_text())


def test_prompts_of_the_same_kind(root, capsys):
    file = write(root.path / "new.txt", story, 40, "n")
    assert main(["monitor", f"FILE={file}", "DATA=mine", f"SET={SMALL}"]) == 0
    told = capsys.readouterr()
    record = latest(root)
    at = root.path / "reports" / "monitor" / record["id"] / "index.html"
    assert told.out == f"{record['verdict']}.\npage: {at}\n" and at.is_file()
    assert record["verdict"].startswith("No drift is seen: AUC 0.") and told.err == "a note on the data\n"
    assert record["schema"] == "posttrain.monitor/1" and record["dataset"] == {"name": "mine", "md5": "0123"}
    assert record["settings"]["monitor.permutations"] == 99 and record["settings"]["split.near_duplicate"] == 0.8
    assert record["command"] == f"make monitor FILE=new.txt DATA=mine SET='{SMALL}'"
    assert (record["score"], record["unscored"], record["alarms"]) == (None, "the file has no answers", [])
    ((ledger, logged, files),) = root.logged
    assert ledger == "ledger" and logged == record and files["page"] == at


def test_a_drift_ends_with_3_after_page_and_run_are_there(root, capsys):
    file = write(root.path / "new.txt", german, 40, "n")
    assert main(["monitor", f"FILE={file}", "DATA=mine", f"SET={SMALL}"]) == 3
    told = capsys.readouterr()
    record = latest(root)
    assert record["is_drift"] and len(root.logged) == 1
    at = root.path / "reports" / "monitor" / record["id"] / "index.html"
    assert told.out == "" and told.err == (
        f"a note on the data\ncontract: {record['verdict']}. Page: {at}. Look at the prompts in it, then retrain on data like "
        "them\n"
    )
    assert "(AUC 0.9" in told.err or "(AUC 1.0" in told.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "request: monitor needs FILE: make monitor FILE=prompts.jsonl DATA=mine\n"),
        (("FILE=",), "request: monitor needs FILE: make monitor FILE=prompts.jsonl DATA=mine\n"),
        (("FILE=new.txt", "SET=monitor.levl=0.1"), "request: there is no setting monitor.levl; did you mean monitor.level?\n"),
        (
            ("FILE=new.txt", "SET=monitor.level=0.001 monitor.permutations=200"),
            "request: monitor.permutations must be at least 999 for monitor.level=0.001, got 200: p is never below "
            "1 / (permutations + 1)\n",
        ),
        (
            ("FILE=new.txt", "SET=monitor.score_questions=19"),
            "request: monitor.score_questions must be at least 20, or 0 for no score, got 19: fewer say nothing of a model\n",
        ),
        (
            ("FILE=new.txt", "FORMAT=hub"),
            "request: monitor reads files, so FORMAT=hub is none that it takes. Download the dataset, then name its file\n",
        ),
        (
            ("FILE=new.txt", f"SET={SMALL}"),
            "a note on the data\ndata: the new prompts are 5 rows with 5 different prompts, near-duplicates counted once, and "
            "monitor.min_prompts=20 are needed. Collect more, or lower it and see only large drifts\n",
        ),
    ],
)
def test_what_is_wrong_ends_with_2_and_leaves_no_check(root, capsys, words, sentence):
    write(root.path / "new.txt", story, 5, "n")
    assert main(["monitor", *words]) == 2
    assert capsys.readouterr().err == sentence
    assert not root.logged and not (root.path / "reports" / "monitor").exists()


def labelled(root, *, answers, completion=""):
    """Write questions as rows with an answer, or with a completion alone, and return the file's name."""
    random = Random("n")
    told = {"answer": "4", "question": ""} if answers else {"completion": completion, "prompt": ""}
    rows = [told | {next(name for name in told if not told[name]): story(random)} for _ in range(40)]
    file = root.path / "fresh.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file.name


def test_a_score_that_has_fallen_ends_with_3_as_a_drift_does(root, capsys, monkeypatch):
    asked, announced = [], []

    def score(paths, config, ledger, *, labels, read, known, say):
        asked.append((ledger, labels.answered, len(list(read())), len(known)))
        return SCORE, ""

    monkeypatch.setattr(subject, "score_champion", score)
    monkeypatch.setattr(subject, "announce", lambda record, say: announced.append(record))
    file = labelled(root, answers=True)
    assert main(["monitor", f"FILE={file}", "DATA=mine", f"SET={SMALL}"]) == 3
    record = latest(root)
    assert asked == [("ledger", 40, 40, 90)], "60 prompts of training and 30 held out are known"
    assert (record["score"], record["is_drift"], record["alarms"]) == (SCORE, False, ["score"])
    assert announced == [record] and len(root.logged) == 1
    at = root.path / "reports" / "monitor" / record["id"] / "index.html"
    assert capsys.readouterr().err == (
        f"a note on the data\ncontract: {SCORE['says']}. {record['verdict']}. Page: {at}. Look at the wrong answers in it, then "
        "retrain on data like them\n"
    )


def test_why_there_is_no_score_is_said_where_one_could_be_hoped_for(root, capsys, monkeypatch):
    words = ["DATA=mine", f"SET={SMALL}"]
    file = labelled(root, answers=False, completion="It is 4")
    assert main(["monitor", f"FILE={file}", *words]) == 0
    assert capsys.readouterr().err.endswith(
        "note: no score of the champion: the file has 40 rows with completions, pairs or ratings, but no answer that a program "
        "can check\n"
    )
    monkeypatch.setattr(subject, "score_champion", lambda *_, **how: (None, "there is no champion"))
    assert main(["monitor", f"FILE={labelled(root, answers=True)}", *words]) == 0
    assert capsys.readouterr().err.endswith("note: no score of the champion: there is no champion\n")
    assert latest(root)["unscored"] == "there is no champion"
    words[1] = f"SET={SMALL} monitor.score_questions=0"
    assert main(["monitor", f"FILE={labelled(root, answers=True)}", *words]) == 0
    assert "no score" not in capsys.readouterr().err, "it was asked for"


def test_what_is_shown_of_both_alarms_and_what_the_event_says_of_a_score():
    both = outcome({"is_drift": True}, SCORE, "")
    assert both["alarms"] == ["prompts", "score"]
    assert outcome({"is_drift": True}, SCORE | {"is_alarm": False}, "")["alarms"] == ["prompts"]
    assert outcome({"is_drift": False}, None, "why") == {"score": None, "unscored": "why", "alarms": []}
    assert payload_of(drifted() | both) == {
        "check": drifted()["id"],
        "verdict": f"{drifted()['verdict']}. {SCORE['says']}",
        "auc": 0.8312,
        "p": 0.001,
        "reason": "prompts and score",
        "fresh_accuracy": 0.712,
        "gate_accuracy": 0.843,
    }
    assert payload_of(fallen())["reason"] == "score"


def test_a_file_that_is_not_there(root, capsys):
    assert main(["monitor", "FILE=missing.jsonl", "DATA=mine"]) == 2
    assert capsys.readouterr().err.startswith("request: ")


def test_the_command_that_makes_the_check_again():
    given = {"file": "my prompts.jsonl", "map": "prompt=said", "format": ""}
    assert asked(given, ["data.name=mine", "seed=1", "monitor.level=0.01"]).command == (
        "make monitor FILE='my prompts.jsonl' MAP=prompt=said DATA=mine SET='seed=1 monitor.level=0.01'"
    )
    assert asked({"file": "p.txt"}, []).command == "make monitor FILE=p.txt"
    with pytest.raises(RequestError, match="monitor needs FILE"):
        asked({}, [])


# --- the event --------------------------------------------------------------------------------------------------------


def test_without_a_server_of_prefect_nothing_is_sent(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert announce(drifted(), print) is False


def test_the_event_of_a_drift(monkeypatch):
    with hearing() as server:
        monkeypatch.setenv("PREFECT_API_URL", server.api)
        assert announce(drifted(), print) is True
    (event,) = server.events
    assert (event["event"], event["resource"]["prefect.resource.id"]) == ("posttrain.drift", "dataset.mine")
    told = {"check": drifted()["id"], "verdict": drifted()["verdict"], "auc": 0.8312, "p": 0.001}
    assert event["payload"] == {**told, "reason": "prompts"}


def test_a_server_that_is_gone_is_told_in_a_line(monkeypatch):
    said = []
    with hearing() as server:
        monkeypatch.setenv("PREFECT_API_URL", server.api)
    assert announce(drifted(), said.append) is False
    assert said == [
        "note: Prefect's server did not take the event posttrain.drift (ConnectError), so no automation hears of the drift"
    ]
