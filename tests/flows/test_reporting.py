"""What a report warns of, told without running a pipeline."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.feedback import Feedback
from flows.notes import notes_on_quality, notes_on_training, warnings_of_people, warnings_of_quality, warnings_of_reward
from flows.pipeline import found_since
from flows.reporting import check_answers, model_figures, pipeline_metrics, show
from posttrain.errors import ContractError
from posttrain.report.pipeline import Gain
from posttrain.settings.config import merge
from tasks.workspace.jsonl import write_rows


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
    told = warnings_of_people(config, Feedback(second_opinion=asked))
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
    metrics = pipeline_metrics(stages, final, None, given)
    for name in ("reference_loss", "preference_accuracy", "judge_win_rate"):
        assert [metrics[f"eval/{name}{bound}"] for bound in ("", "_low", "_high")] == [0.5] * 3
    assert metrics["eval/accuracy"] is None and "eval/reference_loss_change" not in metrics
    bare = pipeline_metrics(stages, told_of("accuracy"), None)
    assert bare["eval/accuracy"] == 0.5 and not any("judge" in name or "reference" in name for name in bare)
    assert model_figures(final, given)["judge_win_rate"] == {"estimate": 0.5, "low": 0.5, "high": 0.5}
    assert "judge_win_rate" not in model_figures(final)


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
    told = warnings_of_reward(merge({}, ["method=reft", "ppo.patience=3"]), {"reft": SimpleNamespace(path=tmp_path)})  # type: ignore[dict-item]
    assert bool(told) is warned


def answered(folder: Path, *texts: str) -> Any:
    rows = [{"greedy": {"text": text}, "sampled": [{"text": text}]} for text in texts]
    folder.mkdir()
    write_rows(folder / "problems.jsonl", rows)
    return SimpleNamespace(path=folder)


@pytest.mark.parametrize(
    ("is_prompted", "words"),
    [
        (
            True,
            "the demonstrations before them change nothing, and it is not registered. "
            "Show more of them (few_shot.shots), or others",
        ),
        (
            False,
            "it has learnt nothing that shows, and is not registered. Train longer or with a larger learning rate "
            "(docs/settings.md), or give it data that tell something",
        ),
    ],
)
def test_a_model_that_answers_as_its_start_is_refused(tmp_path: Path, is_prompted: bool, words: str) -> None:
    before, same, other = (answered(tmp_path / name, "4", last) for name, last in (("b", "5"), ("s", "5"), ("o", "6")))
    check_answers(other, before, name="x", start="base", is_prompted=is_prompted)
    with pytest.raises(ContractError) as caught:
        check_answers(same, before, name="x", start="base", is_prompted=is_prompted)
    assert str(caught.value) == (
        "x gives the same answers as base: all 4 responses to the 2 held-out questions are equal to the letter, so " + words
    )


def noted(method: str, *words: str, **metrics: float) -> list[str]:
    """The notes on training of a method whose trainer gave these metrics."""
    config = merge({}, [f"method={method}", *words])
    run: Any = SimpleNamespace(config=config, has_run=lambda name: False, artifact=lambda name: SimpleNamespace(metrics=metrics))
    outcomes: Any = SimpleNamespace(feedback=Feedback(), reward=None)
    return notes_on_training(run, outcomes)[1:]


@pytest.mark.parametrize(
    ("words", "shots", "found", "fewer"),
    [
        ((), 4, 64, ""),
        (("few_shot.shots=9",), 3, 64, " (few_shot.shots asks for 9; no more fit into the context)"),
        (("few_shot.shots=9",), 3, 3, " (few_shot.shots asks for 9; the dataset has no more)"),
    ],
)
def test_a_prompted_model_says_what_stood_before_the_questions(
    words: tuple[str, ...], shots: int, found: int, fewer: str
) -> None:
    metrics = {"shots": shots, "shot_tokens": 1200.0, "demonstrations": found}
    told = (
        f"few-shot is the base with {shots} demonstrations{fewer}, 1,200 tokens, before each question: nothing was trained. "
        "KL is not defined where two models read different prompts"
    )
    assert noted("few_shot", *words, "model.base=./mine", **metrics) == [told]
    of_tiny = ". The tiny base was pretrained on one document at a time, and has hardly met a question behind an answer: "
    assert noted("few_shot", *words, **metrics) == [f"{told}{of_tiny}what prompting does to it says nothing of a larger model"]


@pytest.mark.parametrize(("shown", "words"), [(64.0, " and 64 demonstrations"), (0.0, "")])
def test_self_training_says_what_it_learnt_from(shown: float, words: str) -> None:
    told = noted(
        "self_training", questions=1000.0, questions_solved=930.0, right_samples=1857.0, samples=1853.0, demonstrations=shown
    )
    assert told == [
        "self-training drew 8 samples of SFT for each of 1,000 training questions (sample.question_share); 930 have a right one. "
        f"The base learnt from 1,853 of the 1,857 different right samples{words}; nothing held out decided anything"
    ]


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_other_methods_have_no_such_note(method: str) -> None:
    assert noted(method) == []


def test_views_that_cannot_be_written_cost_a_line_and_not_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of an older MLflow knows less of its own search."""

    def refused(*_: object, **__: object) -> None:
        raise ValueError("no such operator: IS NULL")

    said: list[str] = []
    run: Any = SimpleNamespace(config=merge({}, ["method=dpo", "seed=3"]), ledger=None, say=said.append)
    named: list[str] = []
    monkeypatch.setattr("flows.reporting.describe_model", lambda *_, run_name, **__: named.append(run_name))
    monkeypatch.setattr("flows.reporting.write_views", refused)
    model: Any = None
    show(run, model, verdict="DPO helped.", dataset="mine")
    assert said == ["note: the prepared views of MLflow could not be written: no such operator: IS NULL"]
    assert named == ["dpo on mine, seed 3"]
