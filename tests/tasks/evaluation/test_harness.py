"""Tasks of lm-evaluation-harness: what is refused beforehand, which score is read, gains by hand, and the real thing."""

import json
from pathlib import Path

import pytest

from flows.elsewhere import task_figures
from posttrain.errors import DataError, RequestError
from posttrain.settings.model import ModelSettings
from tasks.evaluation import harness as subject
from tasks.evaluation.harness import SAMPLES, called, check_tasks, evaluate_tasks, tasks_digest
from tasks.workspace.jsonl import read_rows

TASK = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {data}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture
def task(tmp_path):
    """Have a task in a file, with its data beside it."""
    rows = [{"question": f"{number} + 1 =", "choices": [f" {number + 1}", f" {number + 7}"], "answer": 0} for number in range(8)]
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = folder / "sums.yaml"
    file.write_text(TASK.format(name="sums_of_ours", data=folder / "sums.jsonl"))
    return file


def stage(world, out, tasks, baseline=None, questions=0):
    out.mkdir()
    return evaluate_tasks(
        out,
        lambda step, metrics: None,
        title="tasks",
        subject=world.base,
        baseline=baseline,
        tokenizer=world.tokenizer,
        model=ModelSettings(),
        context=64,
        tasks=tasks,
        questions=questions,
        batch_size=4,
        seed=0,
    )


def found(*scores, metrics=("acc",), task="t", filters=("none",), **changes):
    samples = [
        {"doc_id": place, "metrics": list(metrics), "filter": used, **dict.fromkeys(metrics, score)}
        for used in filters
        for place, score in enumerate(scores)
    ]
    return {"samples": {task: samples}, "higher_is_better": {task: dict.fromkeys(metrics, True)}, **changes}


def test_a_file_is_called_by_the_name_in_it(task):
    assert called(f"arc_easy, {task}  hellaswag") == ["arc_easy", "sums_of_ours", "hellaswag"]
    assert called("") == []


@pytest.mark.parametrize(("text", "fault"), [(None, "cannot be read"), ("dataset_path: json\n", "has no line `task: name`")])
def test_a_file_that_is_no_task_is_refused(tmp_path, text, fault):
    if text is not None:
        (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(RequestError, match=rf"^evaluate\.tasks: .*t\.yaml {fault}"):
        called(str(tmp_path / "t.yaml"))


def test_without_the_tool_nothing_is_asked_and_without_tasks_nobody_misses_it(monkeypatch):
    monkeypatch.setattr(subject, "find_spec", lambda name: None)
    check_tasks("")
    with pytest.raises(RequestError, match=r"^evaluate\.tasks needs lm-evaluation-harness.*\[tasks\]"):
        check_tasks("arc_easy")


def test_a_name_that_the_tool_does_not_know_is_refused(monkeypatch):
    monkeypatch.setattr(subject, "find_spec", lambda name: object())
    monkeypatch.setattr(subject, "_manager", lambda asked: type("Manager", (), {"all_tasks": ["arc_easy"]}))
    check_tasks("arc_easy")
    with pytest.raises(RequestError, match="has no task arc_esay; did you mean arc_easy"):
        check_tasks("arc_esay")


def test_what_lies_beside_a_task_belongs_to_it(task):
    before = tasks_digest(str(task))
    assert tasks_digest(str(task)) == before != tasks_digest("arc_easy") == tasks_digest("")
    (task.parent / "sums.jsonl").write_text("{}")
    assert tasks_digest(str(task)) != before


def test_which_score_is_read():
    assert [row["score"] for row in subject._rows(found(1.0, 0, True))] == [1.0, 0.0, 1.0]
    rows = list(subject._rows(found(1.0, metrics=("exact_match", "acc", "acc_norm"))))
    assert rows == [{"task": "t", "id": 0, "metric": "acc_norm", "score": 1.0}]
    assert len(list(subject._rows(found(1.0, 0.5, filters=("strict", "flexible"))))) == 2, "by the first filter alone"


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        (found(3.5), "gives a question no score between 0 and 1"),
        (found((1, 2)), "gives a question no score between 0 and 1"),
        (found(0.5, higher_is_better={"t": {"acc": False}}), "of t less acc is better"),
    ],
)
def test_scores_that_are_no_shares_are_refused(told, fault):
    with pytest.raises(RequestError, match=fault):
        list(subject._rows(told))


def test_gains_are_paired_by_question(tiny_world, tmp_path, monkeypatch):
    scores = iter([found(0.0, 1.0, 1.0, 0.0), found(1.0, 1.0, 1.0, 0.0), found(1.0, 1.0)])
    monkeypatch.setattr(subject, "_answered", lambda *_, **__: next(scores))
    before = stage(tiny_world, tmp_path / "before", "t").metrics
    assert before["t"] == 0.5 and before["t_questions"] == 4 and "t_gain" not in before
    after = stage(tiny_world, tmp_path / "after", "t", baseline=tmp_path / "before").metrics
    assert after["t"] == 0.75 and after["t_gain"] == 0.25
    assert after["t_gain_low"] < 0 < after["t_gain_high"]
    told = task_figures(after)["t"]
    assert told["questions"] == 4 and told["gain"]["estimate"] == 0.25 and told["score"]["low"] == after["t_low"]
    assert "gain" not in task_figures(before)["t"]
    with pytest.raises(DataError, match="t asked other questions"):
        stage(tiny_world, tmp_path / "other", "t", baseline=tmp_path / "before")


def test_a_task_of_local_files_is_asked_for_real(tiny_world, task, tmp_path):
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: pip install -e '.[tasks]'")
    check_tasks(str(task))
    first = stage(tiny_world, tmp_path / "first", str(task), questions=6)
    rows = list(read_rows(tmp_path / "first" / SAMPLES))
    assert [(row["task"], row["id"], row["metric"]) for row in rows] == [("sums_of_ours", place, "acc") for place in range(6)]
    assert first.metrics["sums_of_ours"] == sum(row["score"] for row in rows) / 6
    again = stage(tiny_world, tmp_path / "again", str(task), baseline=tmp_path / "first", questions=6)
    assert again.metrics["sums_of_ours_gain"] == 0.0
    with pytest.raises(RequestError, match="has no task sums_of_yours; did you mean sums_of_ours"):
        check_tasks(f"{task} sums_of_yours")
    Path(task.parent / "sums.jsonl").unlink()
    with pytest.raises(RequestError, match="could not ask it"):
        stage(tiny_world, tmp_path / "none", str(task), questions=7)
