"""What a report warns of, told without running a pipeline."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.conclusion import unheard
from flows.feedback import Feedback
from flows.pipeline import found_since
from posttrain.config import merge


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
