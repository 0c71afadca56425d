"""What a report warns of, told without running a pipeline."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.conclusion import hacking, pipeline_metrics, unheard
from flows.feedback import Feedback
from flows.pipeline import found_since
from posttrain.config import merge
from posttrain.report import Gain
from tasks.records import write_rows


@pytest.mark.parametrize(
    ("file", "metrics", "warned"),
    [
        ("people.jsonl", {"labels": 3.0}, True),
        ("people.jsonl", {"labels": 3.0, "people_agreement": 0.5}, False),
        ("", {"labels": 3.0}, False),
        ("people.jsonl", None, False),
    ],
)
def test_people_whose_labels_are_of_other_pairs_than_the_judges_are_missed(
    file: str, metrics: dict[str, float] | None, warned: bool
) -> None:
    config = merge({}, [f"labels.file={file}"] if file else [])
    asked: Any = None if metrics is None else SimpleNamespace(metrics=metrics)
    told = unheard(config, Feedback(second_opinion=asked))
    assert told == (
        ["people.jsonl has labels of fewer than two questions whose pairs the judge labelled: agreement is undefined"] * warned
    )


def test_a_failed_run_keeps_what_was_found_since_it_began(tmp_path: Path) -> None:
    for name, moment in (("old.json", 90), ("new.json", 100), ("new.png", 110), ("new.html", 120), ("rows.jsonl", 130)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (moment, moment))
    assert {path.name for path in found_since(100, tmp_path)} == {"new.json", "new.png", "new.html"}
    assert found_since(0, tmp_path / "nowhere") == []


def test_costs_are_those_of_training_each_stage_once() -> None:
    def done(name: str, **costs: float) -> Any:
        return SimpleNamespace(name=name, artifact=SimpleNamespace(costs={"peak_rss_mb": 10.0, **costs}))

    stages: Any = SimpleNamespace(
        done=[
            done("base", trained_tokens=1e9, flops=1e15),
            done("sft", trained_tokens=100.0, flops=600.0, train_seconds=1.0),
            done("sample", generated_tokens=7.0, forward_tokens=20.0, flops=40.0, train_seconds=2.0),
            done("judge", trained_tokens=50.0, flops=300.0),
            done("label", labels=9.0, forward_tokens=80.0, flops=160.0),
            done("ppo", generated_tokens=3.0, trained_tokens=6.0, critic_tokens=6.0, forward_tokens=9.0, flops=5.0),
            done("evaluate-ppo", evaluated_tokens=1e6, peak_rss_mb=70.0),
        ]
    )
    final: Any = SimpleNamespace(metrics={"accuracy": 0.9})
    told = pipeline_metrics(stages, final, Gain("dpo", "sft", 0.3, 0.2, 0.4))
    assert {name: value for name, value in told.items() if name.startswith("cost/")} == {
        "cost/train_seconds": 3.0,
        "cost/generated_tokens": 10.0,
        "cost/trained_tokens": 156.0,
        "cost/critic_tokens": 6.0,
        "cost/forward_tokens": 109.0,
        "cost/flops": 1105.0,
        "cost/labels": 9.0,
        "cost/peak_rss_mb": 70.0,
    }
    gain = [told[f"eval/accuracy_gain{end}"] for end in ("", "_low", "_high")]
    assert gain == [0.3, 0.2, 0.4]
    assert pipeline_metrics(stages, final, None)["eval/accuracy_gain_low"] is None


@pytest.mark.parametrize(("error", "warned"), [(0.03, True), (0.2, False), (None, True)])
def test_hacking_is_warned_of_by_the_errors_of_the_curve(tmp_path: Path, error: float | None, warned: bool) -> None:
    gold = [0.5] * 6 + [0.2] * 6
    rows = [{"step": n, "ppo/reward": 0.1 * n, "ppo/gold": value} for n, value in enumerate(gold, start=1)]
    write_rows(tmp_path / "curves.jsonl", [row | ({} if error is None else {"ppo/gold_error": error}) for row in rows])
    told = hacking(merge({}, ["method=reft", "ppo.patience=3"]), {"reft": SimpleNamespace(path=tmp_path)})  # type: ignore[dict-item]
    assert bool(told) is warned
