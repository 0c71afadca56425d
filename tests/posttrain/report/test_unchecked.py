"""What a report says where no program can check the answers: its rows, and its one sentence."""

from typing import Any

import pytest

from posttrain.report.pipeline import PARENT_METRICS, build_report, headline, render_markdown, result_rows


def bounds(estimate: float, margin: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - margin, "high": estimate + margin}


UNDEFINED: dict[str, Any] = {"accuracy": None, "accuracy_sampled": None, "win_rate": None, "kl": 1.0, "response_tokens": 9.0}
BASE = {**UNDEFINED, "finished": 0.5, "reference_loss": bounds(2.0, 0.1), "reference_loss_change": bounds(0.5, 0.1)}
SFT = {**UNDEFINED, "finished": 0.9, "reference_loss": bounds(1.5, 0.1), "perplexity": bounds(4.48, 0.4)}
DPO = {
    **UNDEFINED,
    "finished": 0.9,
    "reference_loss": bounds(1.52, 0.1),
    "reference_loss_change": bounds(0.02, 0.03),
    "preference_accuracy": bounds(0.7, 0.05),
    "judge_win_rate": bounds(0.6, 0.08),
}


def report(models: dict[str, Any], *, method: str = "dpo") -> dict[str, Any]:
    return build_report(
        pipeline_id="p1",
        method=method,
        seed=0,
        dataset="chat",
        data_md5="d",
        git_commit="abc",
        created="2026-11-21T02:00:00+00:00",
        stages=[],
        metrics=dict.fromkeys(PARENT_METRICS),
        models=models,
        baseline="sft",
        model={"uri": "models:/m/1", "name": "m", "version": "1", "path": "/m"},
        mlflow={"run_id": "r", "experiment_id": "1", "compare_url": "u"},
    )


def test_each_figure_has_its_row_and_what_no_model_has_has_none() -> None:
    rows = {row[0]: row[1:] for row in result_rows(report({"base": BASE, "sft": SFT, "dpo": DPO}))}
    assert rows["held-out loss (nats)"] == ["2.000 [1.900–2.100]", "1.500 [1.400–1.600]", "1.520 [1.420–1.620]"]
    assert rows["against SFT, paired"] == ["0.500 [0.400–0.600]", "–", "0.020 [-0.010, 0.050]"]
    assert rows["held-out perplexity"] == ["–", "4.48 [4.08–4.88]", "–"]
    assert rows["pairs ranked right (%)"] == ["–", "–", "70.0 [65.0–75.0]"]
    assert rows["judge's wins vs SFT (%)"] == ["–", "–", "60.0 [52.0–68.0]"]
    assert not any("accuracy" in label or label.startswith("win rate") for label in rows)
    assert "KL from SFT (nats)" in rows
    assert max(map(len, rows)) <= 24, "three models fit into 100 columns"


def test_the_headline_tells_what_there_is() -> None:
    assert headline(report({"base": BASE, "sft": SFT, "dpo": DPO})) == (
        "dpo wins 60.0 [52.0, 68.0] % of its comparisons with SFT by the judge; it ranks 70.0 [65.0, 75.0] % of the held-out "
        "pairs as their annotators did; it finds held-out completions about as likely: +0.020 [-0.010, +0.050] nats a token "
        "against SFT, on the same questions (in brackets: 95 % intervals)."
    )


def test_sft_itself_is_held_against_the_base() -> None:
    base = {**BASE, "judge_win_rate": bounds(0.2, 0.05)}
    assert headline(report({"base": base, "sft": SFT}, method="sft")) == (
        "sft wins 80.0 [75.0, 85.0] % of its comparisons with base by the judge; it finds held-out completions likelier: "
        "-0.500 [-0.600, -0.400] nats a token against base, on the same questions (in brackets: 95 % intervals)."
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [(-0.5, "completions likelier:"), (0.5, "completions less likely:"), (0.05, "completions about as likely:")],
)
def test_a_change_that_may_be_none_is_not_called_one(change: float, words: str) -> None:
    assert words in headline(
        report({"sft": SFT, "dpo": {**UNDEFINED, "finished": 1.0, "reference_loss_change": bounds(change, 0.1)}})
    )


def test_without_any_figure_the_headline_says_so() -> None:
    bare = {**UNDEFINED, "finished": 1.0}
    told = report({"base": bare, "sft": bare})
    assert headline(told) == (
        "sft has no figure of quality: the held-out questions have neither answers nor completions to compare with."
    )
    assert [row[0] for row in result_rows(told)] == ["KL from SFT (nats)", "response tokens", "ended with EOS (%)"]
    assert "accuracy, greedy" not in render_markdown(told)
