"""The report as a dict and as Markdown."""

import json
from typing import Any

import pytest

from posttrain.errors import ContractError
from posttrain.report.pipeline import (
    PARENT_METRICS,
    build_report,
    gain_of,
    has_audit_picture,
    headline,
    render_markdown,
    result_rows,
    stage_rows,
)
from posttrain.statistics.intervals import INTERVALS_COVER


def share(estimate: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - 0.03, "high": estimate + 0.03}


def facts(**changes: Any) -> dict[str, Any]:
    accuracy = {"kl": 0.0, "response_tokens": 29.0, "finished": 0.995, "win_rate": None}
    return {
        "pipeline_id": "p1",
        "method": "dpo",
        "seed": 3,
        "dataset": "world",
        "data_md5": "d" * 32,
        "git_commit": "abc1234",
        "created": "2026-11-21T02:00:00+00:00",
        "stages": [
            {"name": "sft", "key": "a" * 64, "cached": True, "seconds": 6.04, "run_id": "r1"},
            {"name": "dpo", "key": "b" * 64, "cached": False, "seconds": 31.25, "run_id": "r2"},
        ],
        "metrics": dict.fromkeys(PARENT_METRICS, 0.5),
        "models": {
            "base": {**accuracy, "accuracy": share(0.25), "accuracy_sampled": share(0.2), "kl": None},
            "sft": {**accuracy, "accuracy": share(0.46), "accuracy_sampled": share(0.43)},
            "dpo": {
                **accuracy,
                "accuracy": share(0.91),
                "accuracy_sampled": share(0.88),
                "accuracy_gain": share(0.45),
                "win_rate": share(0.72),
                "kl": 3.414,
            },
        },
        "baseline": "sft",
        "model": {"uri": "models:/posttrain-world/1", "name": "posttrain-world", "version": "1", "path": "/store/m-1"},
        "mlflow": {"run_id": "r0", "experiment_id": "1", "compare_url": "http://127.0.0.1:5000/#/compare-runs?runs=x"},
        "notes": ["labels came from simulated annotators"],
    } | changes


def test_tasks_elsewhere_have_their_lines_with_the_gain_over_the_start() -> None:
    models = facts()["models"]
    models["sft"]["tasks"] = {"arc_easy": {"questions": 50, "score": share(0.4)}}
    models["dpo"]["tasks"] = {"arc_easy": {"questions": 50, "score": share(0.38), "gain": share(-0.02)}}
    rows = {row[0]: row[1:] for row in result_rows(build_report(**facts(models=models)))}
    assert rows["arc_easy (%)"] == ["–", "40.0 [37.0–43.0]", "38.0 [35.0–41.0]"]
    assert rows["arc_easy, gain over SFT (points)"] == ["–", "–", "-2.0 [-5.0, 1.0]"]


def test_a_report_survives_json_and_promotes_nothing() -> None:
    report = build_report(**facts())
    assert json.loads(json.dumps(report)) == report
    assert report["champion"] == {
        "decision": "none",
        "is_challenger": True,
        "why": "registered as challenger; promotion is a separate step",
    }
    assert report["warnings"] == []


def test_results_in_words() -> None:
    rows = {row[0]: row[1:] for row in result_rows(build_report(**facts()))}
    assert rows["accuracy, greedy (%)"] == ["25.0 [22.0–28.0]", "46.0 [43.0–49.0]", "91.0 [88.0–94.0]"]
    assert rows["win rate vs SFT (%)"] == ["–", "–", "72.0 [69.0–75.0]"]
    assert rows["KL from SFT (nats)"] == ["–", "0.00", "3.41"]
    assert rows["ended with EOS (%)"] == ["99.5"] * 3


def test_a_method_without_sft_is_compared_with_its_base() -> None:
    labels = [row[0] for row in result_rows(build_report(**facts(baseline="base")))]
    assert "win rate vs base (%)" in labels
    assert "KL from base (nats)" in labels


def test_stages_in_words() -> None:
    assert stage_rows(build_report(**facts())) == [
        ["sft", "reused", "6.0 s", "a" * 12],
        ["dpo", "ran", "31.2 s", "b" * 12],
    ]


def test_the_headline_is_the_paired_gain_over_the_start() -> None:
    report = build_report(**facts())
    assert headline(report) == (
        "DPO helped: +45.0 points [42.0, 48.0] over SFT, same questions: 46.0 % right before, 91.0 % after."
    )
    assert report["gain"] == {"model": "dpo", "over": "sft", "estimate": 0.45, "low": 0.45 - 0.03, "high": 0.45 + 0.03}
    assert result_rows(report)[0] == ["gain over SFT (points)", "–", "–", "+45.0 [42.0, 48.0]"]


def with_gain(low: float, high: float, **changes: Any) -> dict[str, Any]:
    models = facts()["models"]
    models["dpo"]["accuracy_gain"] = {"estimate": (low + high) / 2, "low": low, "high": high}
    return build_report(**facts(models=models, **changes))


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.001, 0.021, "DPO helped: +1.1 points [0.1, 2.1] over SFT, same questions"),
        (-0.01, 0.03, "DPO and SFT are not told apart: +1.0 points [-1.0, 3.0], same questions"),
        (0.0, 0.02, "DPO and SFT are not told apart: +1.0 points [0.0, 2.0], same questions"),
        (-0.02, 0.0, "DPO and SFT are not told apart: -1.0 points [-2.0, 0.0], same questions"),
        (-0.05, -0.01, "DPO did harm: -3.0 points [-5.0, -1.0] against SFT, same questions"),
    ],
)
def test_only_an_interval_beside_0_is_a_verdict(low: float, high: float, words: str) -> None:
    assert headline(with_gain(low, high)) == f"{words}: 46.0 % right before, 91.0 % after."


def test_sft_is_compared_with_the_base_though_the_base_was_measured_beside_it() -> None:
    """The evaluations of METHOD=sft are taken against SFT, so the base has the gain, and SFT what the base lacks."""
    models = {name: values for name, values in facts()["models"].items() if name != "dpo"}
    models["base"]["accuracy_gain"] = {"estimate": -0.21, "low": -0.25, "high": -0.18}
    models["sft"]["accuracy_gain"] = {"estimate": 0.0, "low": 0.0, "high": 0.0}
    report = build_report(**facts(models=models, method="sft"))
    assert headline(report) == (
        "SFT helped: +21.0 points [18.0, 25.0] over the base, same questions: 25.0 % right before, 46.0 % after."
    )
    assert result_rows(report)[0] == ["gain over base (points)", "–", "+21.0 [18.0, 25.0]"]


def test_without_answers_there_is_no_gain_and_no_verdict() -> None:
    models = {name: {**values, "accuracy": None} for name, values in facts()["models"].items()}
    del models["dpo"]["accuracy_gain"]
    report = build_report(**facts(models=models))
    assert report["gain"] is None
    assert headline(report) == (
        "dpo has no figure of quality: the held-out questions have neither answers nor completions to compare with."
    )
    assert "gain" not in result_rows(report)[0][0]
    assert gain_of({"base": models["base"]}, baseline="base") is None, "nothing was trained"


def test_markdown_has_every_part() -> None:
    page = render_markdown(build_report(**facts(warnings=["2 rows | quarantined"])))
    assert "| accuracy, greedy (%) | 25.0 [22.0–28.0] | 46.0 [43.0–49.0] | 91.0 [88.0–94.0] |" in page
    assert "![accuracy, paired gain and training curves](p1.png)" in page
    assert f"In brackets: {INTERVALS_COVER}. The gain is paired" in page and "not training" in INTERVALS_COVER
    assert "- Model: `models:/posttrain-world/1` in `/store/m-1`" in page
    assert "## Notes\n\n- labels came from simulated annotators" in page
    assert "## Warnings\n\n- 2 rows | quarantined\n" in page
    assert "## Warnings" not in render_markdown(build_report(**facts()))


def test_a_report_that_lacks_a_metric_is_refused_and_one_with_more_is_not() -> None:
    complete = dict.fromkeys(PARENT_METRICS, 0.5)
    assert build_report(**facts(metrics=complete | {"eval/bleu": 1.0}))["metrics"]["eval/bleu"] == 1.0
    with pytest.raises(ContractError) as refusal:
        build_report(**facts(metrics={name: value for name, value in complete.items() if name != "eval/kl"}))
    assert str(refusal.value) == (
        "a pipeline must report every metric of PARENT_METRICS (posttrain/report/pipeline.py); missing: eval/kl. "
        "Give None where one is undefined"
    )


def test_an_interval_in_nats_is_not_written_as_a_share() -> None:
    models = {name: {**found, "kl": {"estimate": 0.996, "low": 0.9, "high": 1.08}} for name, found in facts()["models"].items()}
    row = next(row for row in result_rows(build_report(**facts(models=models))) if row[0].startswith("KL"))
    assert row[1:] == ["1.00 [0.90–1.08]"] * len(models)


def test_an_audit_has_its_sections_and_its_picture() -> None:
    audit = {"source": "judge", "labels": {"labels": 3.0}, "proxy": {"end_gap": 0.5}}
    report = build_report(**facts(audit=audit))
    assert report["audit"] == audit and has_audit_picture(report)
    page = render_markdown(report)
    assert "## Audit: labels of an AI judge\n\n|  |  |\n| --- | --- |\n| labels | 3 |\n" in page
    assert "| gap between them (deviations) | +0.50 |\n\n![proxy and gold over √KL](p1-audit.png)\n" in page
    assert page.index("![proxy") < page.index("## Stages")


def test_a_report_without_an_audit_is_as_it_was() -> None:
    report = build_report(**facts())
    assert "audit" not in report and not has_audit_picture(report)
    assert "audit" not in render_markdown(report).lower()
    labelled = build_report(**facts(audit={"source": "simulated", "labels": {"labels": 3.0}, "proxy": None}))
    assert not has_audit_picture(labelled) and "-audit.png" not in render_markdown(labelled)
