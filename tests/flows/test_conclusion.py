"""What a report warns of, told without running a pipeline."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.conclusion import model_figures, notes_on_quality, pipeline_metrics, unheard, warnings_of_quality
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


def told_of(*names: str, path: Path | None = None) -> Any:
    """An artifact with these metrics, and their bounds."""
    metrics = {f"{name}{bound}": 0.5 for name in names for bound in ("", "_low", "_high")}
    return SimpleNamespace(
        metrics={**metrics, "kl": 0.1, "kl_low": 0.0, "kl_high": 0.2, "response_tokens": 9.0, "finished": 1.0}, path=path
    )


def verdict(folder: Path, *names: str, refused: str = "") -> Any:
    (folder / "judge.json").write_text(json.dumps({"judge": "m", "compared": 1200, "refused": refused}))
    return told_of(*names, path=folder)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), []),
        (("win_rate", "accuracy"), ["gold judge of the win rate"]),
        (("reference_loss", "perplexity"), ["held-out loss and perplexity"]),
        (("reference_loss", "preference_accuracy"), ["held-out loss and perplexity", "implicit reward"]),
    ],
)
def test_notes_speak_of_the_figures_that_are_there_and_of_no_other(names: tuple[str, ...], words: list[str]) -> None:
    told = notes_on_quality({"base": told_of(), "sft": told_of(*names)}, {})
    assert len(told) == len(words) and all(word in note for word, note in zip(words, told, strict=True))


def test_a_judges_win_rate_comes_with_who_gave_it_and_a_refused_one_with_why(tmp_path: Path) -> None:
    results = {"sft": told_of("reference_loss"), "dpo": told_of("reference_loss")}
    given = {"dpo": verdict(tmp_path, "judge_win_rate")}
    assert any(
        "the opinion of m on greedy answers to 1,200 held-out questions" in note for note in notes_on_quality(results, given)
    )
    assert warnings_of_quality(results, given) == []
    refused = {"dpo": verdict(tmp_path, refused="the judge m is not fit")}
    assert warnings_of_quality(results, refused) == ["no win rate of dpo by the judge: the judge m is not fit"]
    assert not any("win rate" in note for note in notes_on_quality(results, refused))


def test_only_where_nothing_at_all_says_how_good_answers_are_is_that_warned_of(tmp_path: Path) -> None:
    (told,) = warnings_of_quality({"base": told_of(), "sft": told_of()}, {})
    assert "nothing says how good the answers are" in told and "evaluate.judge=true" in told
    for name in ("accuracy", "reference_loss", "preference_accuracy"):
        assert warnings_of_quality({"base": told_of(), "sft": told_of(name)}, {}) == []
    assert warnings_of_quality({"base": told_of(), "sft": told_of()}, {"base": verdict(tmp_path, "judge_win_rate")}) == []


def test_figures_that_need_no_answer_reach_report_and_ledger_where_they_are_defined(tmp_path: Path) -> None:
    stages: Any = SimpleNamespace(done=[SimpleNamespace(name="sft", artifact=SimpleNamespace(costs={"peak_rss_mb": 1.0}))])
    final, given = told_of("reference_loss", "preference_accuracy"), verdict(tmp_path, "judge_win_rate")
    metrics = pipeline_metrics(stages, final, given)
    for name in ("reference_loss", "preference_accuracy", "judge_win_rate"):
        assert [metrics[f"eval/{name}{bound}"] for bound in ("", "_low", "_high")] == [0.5] * 3
    assert metrics["eval/accuracy"] is None and "eval/reference_loss_change" not in metrics
    bare = pipeline_metrics(stages, told_of("accuracy"))
    assert bare["eval/accuracy"] == 0.5 and not any("judge" in name or "reference" in name for name in bare)
    assert model_figures(final, given)["judge_win_rate"] == {"estimate": 0.5, "low": 0.5, "high": 0.5}
    assert "judge_win_rate" not in model_figures(final)
