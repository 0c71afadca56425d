"""What people said of a dataset's questions: who reads it, which stages it trains again, and what a report says of it."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.cards import simulated
from flows.feedback import Feedback, label_source, people_of, question_share
from flows.notes import notes_on_training
from flows.plan import plan
from flows.probe import Prober
from flows.situation import known_situation, of_people
from posttrain.errors import DataError, RequestError
from posttrain.feedback.labels import Label
from posttrain.methods import METHODS
from posttrain.retraining.changes import Made, Stage, changes
from posttrain.settings.config import merge
from tasks.advice.look import counted
from tasks.data.dvc import DatasetVersion
from tasks.data.dvc_stage import digest_of_files
from tasks.feedback.given import GivenLabels
from tasks.workspace.jsonl import write_rows
from tasks.workspace.paths import Paths

ROOT = Path(__file__).resolve().parents[2]
LABELLED = [name for name, row in METHODS.items() if row.is_labelled]
LEARNS = [name for name in LABELLED if not METHODS[name].learns_from.labels_by]
"""Methods that learn from anybody's labels."""


def label(number: int, **changes: Any) -> Label:
    told = {"id": f"l{number}", "prompt": f"{number} + 1", "question": f"q{number}", "group": f"q{number}", "first": "2"}
    told |= {"second": "3", "preference": 1.0, "annotator": "Ada", "source": "person"}
    return Label.model_validate(told | changes)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A dataset of a few rows, and the repository's suites and prompts."""
    folder = tmp_path / "data" / "mine"
    folder.mkdir(parents=True)
    (tmp_path / ".posttrain").mkdir()
    for name in ("expectations", "judges"):
        shutil.copytree(ROOT / "data" / name, tmp_path / "data" / name)
    write_rows(folder / "demonstrations.jsonl", [{"kind": "demonstration", "id": "d", "prompt": "1 + 1", "completion": "2"}])
    asked = [{"kind": "question", "id": f"q{number}", "prompt": f"{number} + 1", "answers": ["2"]} for number in range(4)]
    for role in ("questions", "held_out"):
        write_rows(folder / f"{role}.jsonl", asked)
    return Paths(tmp_path)


def version(paths: Paths, *labels: Label, content: bytes = b"") -> DatasetVersion:
    """Put labels beside the dataset, and return the version that they make."""
    content = content or b"".join(one.model_dump_json(exclude_none=True).encode() + b"\n" for one in labels)
    file = paths.data / "mine" / "labels.jsonl"
    file.unlink(missing_ok=True)
    files = {role: f"md5 of {role}" for role in ("demonstrations", "questions", "held_out")}
    md5 = ""
    if content:
        file.write_bytes(content)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    whole = digest_of_files({**files, **({"labels": md5} if md5 else {})})
    return DatasetVersion(name="mine", folder=paths.data / "mine", md5=whole, files=files, labels=md5)


def config(*words: str) -> Any:
    return merge({}, ["data.name=mine", *words])


def source(paths: Paths, data: DatasetVersion, *words: str) -> tuple[str, bool]:
    """Return who labels, and whether samples are drawn for it."""
    asked = config(*words)
    found = label_source(asked, data.folder, people_of(asked, paths, data))
    return found.name, found.is_sampled


def test_people_come_before_the_datasets_preferences_and_those_before_simulated_annotators(paths: Paths) -> None:
    none, given = version(paths), (label(0), label(1))
    assert source(paths, none, "method=dpo") == ("simulated", True)
    assert source(paths, version(paths, *given), "method=dpo") == ("people", False), "the labels bring their responses"
    pair = {"kind": "preference", "id": "p", "prompt": "1 + 1", "chosen": "2", "rejected": "3"}
    write_rows(paths.data / "mine" / "preferences.jsonl", [pair])
    assert source(paths, version(paths), "method=dpo") == ("dataset", False)
    data = version(paths, *given)
    assert source(paths, data, "method=dpo") == source(paths, data, "method=rlhf", "labels.source=people") == ("people", False)
    assert source(paths, data, "method=rlaif") == source(paths, data, "method=dpo", "labels.source=judge") == ("judge", True)
    assert source(paths, data, "method=dpo", "labels.source=simulated") == ("simulated", True)
    assert source(paths, data, "method=dpo", "labels.source=dataset") == ("dataset", False)
    assert source(paths, data, "method=dpo", "labels.source=people", "labels.file=x.jsonl") == ("people", True)


def test_people_who_labelled_nothing_that_is_asked_are_nobody(paths: Paths) -> None:
    data = version(paths, label(9, prompt="of another dataset"))
    assert source(paths, data, "method=dpo") == ("simulated", True)
    with pytest.raises(RequestError) as told:
        source(paths, data, "method=dpo", "labels.source=people")
    assert str(told.value) == (
        'labels.source=people needs the store of labels: SET="labels.source=people labels.file=labels.jsonl"; or labels of the '
        "dataset's questions beside it (data/mine/labels.jsonl): make label DATA=mine"
    )


def test_damaged_labels_stop_whoever_reads_them_and_nobody_else(paths: Paths) -> None:
    data = version(paths, content=b"{half a lin\n")
    for method in METHODS:
        asked = config(f"method={method}")
        if METHODS[method].is_labelled:
            with pytest.raises(DataError, match=r"^data/mine/labels.jsonl: 1 of 1 labels cannot be used, so none was taken"):
                people_of(asked, paths, data)
        else:
            assert people_of(asked, paths, data) is None
    assert people_of(config("method=dpo", "labels.source=simulated"), paths, data) is None
    assert people_of(config("method=rlaif", "labels.file=people.jsonl"), paths, data) is None


# --- keys ---------------------------------------------------------------------------------------------------------------------


def keys(paths: Paths, data: DatasetVersion, *words: str) -> dict[str, str]:
    found = Prober(paths, data, ledger=lambda: pytest.fail("no reward is a registered model")).probe(config(*words))
    assert found.is_whole
    return {stage.name: stage.key for stage in found.stages}


@pytest.mark.parametrize("method", [name for name in METHODS if name not in LABELLED])
def test_new_labels_train_nothing_again_that_reads_none(paths: Paths, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.chdir(ROOT)
    before = keys(paths, version(paths), f"method={method}")
    assert keys(paths, version(paths, label(0), label(1)), f"method={method}") == before
    assert before, "questions, base and SFT are those of before"


@pytest.mark.parametrize("method", LEARNS)
def test_new_labels_train_again_what_learns_from_them_and_leave_the_stages_before(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.chdir(ROOT)
    none = keys(paths, version(paths), f"method={method}")
    first = keys(paths, version(paths, label(0), label(1)), f"method={method}")
    more = keys(paths, version(paths, label(0), label(1), label(2)), f"method={method}")
    before_labels = ["tokenizer", "validate", "base", "sft", "evaluate-sft", "evaluate-base"]
    assert [name for name in none if none[name] == first.get(name)] == before_labels
    assert "sample" in none and "sample" not in first
    assert [name for name in first if first[name] == more[name]] == before_labels
    assert "label" in first and METHODS[method].trainer in first


def test_a_judges_labels_and_what_is_trained_on_them_do_not_change_when_people_label(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    none = keys(paths, version(paths), "method=rlaif")
    some = keys(paths, version(paths, label(0), label(1)), "method=rlaif")
    assert list(none) == list(some) and [name for name in none if none[name] != some[name]] == ["second_opinion"]


def test_ppo_asks_the_same_questions_under_every_method_before_and_after_people_label(paths: Paths) -> None:
    for method in METHODS:
        assert question_share(config(f"method={method}"), paths.data / "mine") == 0.5
    write_rows(
        paths.data / "mine" / "preferences.jsonl",
        [{"kind": "preference", "id": "p", "prompt": "1 + 1", "chosen": "2", "rejected": "3"}],
    )
    shares = {
        question_share(config(f"method={method}"), paths.data / "mine") for method in METHODS if method not in ("rlaif", "drlaif")
    }
    assert shares == {0.0}


def test_a_retraining_names_labels_as_what_is_new_of_the_data(paths: Paths) -> None:
    def made(data: DatasetVersion, digest: str) -> Made:
        of_labels = Stage("label", f"key {digest}", {}, {"people": digest, "data": "d"}, digest=f"of {digest}")
        return Made(method="dpo", data_md5=data.md5, files=data.md5s, stages=(Stage("sft", "s"), of_labels))

    before, after = version(paths, label(0)), version(paths, label(0), label(1))
    found = changes(made(before, "1"), made(after, "2"))
    assert found.data == ("labels",) and found.kinds == ("data",) and found.stages == ("label",)
    assert found.says == f"data (labels; {before.md5[:8]} → {after.md5[:8]})"
    assert not changes(made(before, "1"), made(after, "1")), "of a method that reads none, nothing has changed"


# --- what is told -------------------------------------------------------------------------------------------------------------


def test_a_plan_takes_labels_that_are_there_and_asks_people_about_a_judges_pairs(paths: Paths) -> None:
    folder, people = paths.data / "mine", GivenLabels((label(0), label(1)), 1, "digest")
    to_come = plan(config("method=dpo"), folder, people)
    assert "sample" not in to_come.names and to_come.doing("label") == "taking 2 labels of people"
    judged = plan(config("method=rlaif"), folder, people)
    assert "sample" in judged.names and judged.doing("label") == "the judge compares samples"
    write_rows(folder / "questions.jsonl", [{"prompt": "1 + 1"}])
    assert "second_opinion" not in plan(config("method=rlaif"), folder).names
    assert "second_opinion" in plan(config("method=rlaif"), folder, people).names, "nothing has an answer, but people spoke"


def told(**metrics: float) -> list[str]:
    labels: Any = SimpleNamespace(metrics=metrics, costs={"labels": 412.0})
    asked = config("method=dpo")
    run: Any = SimpleNamespace(config=asked, has_run=lambda name: False)
    outcomes: Any = SimpleNamespace(feedback=Feedback(source="people", labels=labels), reward=None)
    assert simulated(config("method=dpo", "model.base=./mine"), "mine", outcomes) == []
    lines = notes_on_training(run, outcomes)[1:]
    assert not any("simulated" in line for line in lines)
    return lines


def test_a_report_says_whose_labels_they_are_how_far_they_agree_and_what_they_took() -> None:
    of_three = {"annotators": 3.0, "agreement": 0.8125, "agreement_low": 0.75, "agreement_high": 0.861, "alpha": 0.62}
    assert told(**of_three, annotator_seconds=3120.4, passed_over=12.0) == [
        "labels of people: 412 by 3 annotators; two of them agree on 81.2% [75.0, 86.1] of the pairs that both labelled "
        "(Krippendorff's α 0.62); they took 3,120 seconds; 12 more are of questions that the dataset does not ask any "
        "more, and were passed over"
    ]
    assert told(annotators=1.0, passed_over=0.0) == [
        "labels of people: 412 by 1 annotator; agreement is not defined, since no pair was labelled by two of them; how long it "
        "took is not known"
    ]


def test_advice_counts_labels_of_people_and_asks_for_no_others(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    data = version(paths, label(0), label(1), label(2, prompt="1 + 1", question="q1", annotator="Ben"))
    asked = config()
    situation = known_situation(paths, asked, data.folder, data, print)
    found = of_people(paths, asked, data.folder, data, counted(data.folder, situation))
    assert {found.labels_by(METHODS[name]) for name in LEARNS} == {"people"} and found.labels_by(METHODS["rlaif"]) == "judge"
    assert (found.labels, found.annotators, found.shared_pairs) == (3, 2, 1)

    damaged = version(paths, content=json.dumps({"id": "x"}).encode())
    found = of_people(paths, asked, data.folder, damaged, known_situation(paths, asked, data.folder, damaged, print))
    assert set(found.refused) == set(LABELLED) and "labels cannot be used" in found.refused["dpo"]
