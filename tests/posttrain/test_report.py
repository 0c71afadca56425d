"""The report as a dict and as Markdown."""

import json
from typing import Any

import pytest

from posttrain.errors import ContractError
from posttrain.report import (
    PARENT_METRICS,
    build_report,
    has_audit_picture,
    headline,
    render_markdown,
    result_rows,
    stage_rows,
)


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
            "dpo": {**accuracy, "accuracy": share(0.91), "accuracy_sampled": share(0.88), "win_rate": share(0.72), "kl": 3.414},
        },
        "compared_with": "sft",
        "model": {"uri": "models:/posttrain-world/1", "name": "posttrain-world", "version": "1", "path": "/store/m-1"},
        "mlflow": {"run_id": "r0", "experiment_id": "1", "compare_url": "http://127.0.0.1:5000/#/compare-runs?runs=x"},
        "notes": ["labels came from simulated annotators"],
    } | changes


def test_a_report_survives_json_and_promotes_nothing() -> None:
    report = build_report(**facts())
    assert json.loads(json.dumps(report)) == report
    assert report["champion"] == {"decision": "none", "why": "registered as challenger; promotion is a separate step"}
    assert report["warnings"] == []


def test_results_in_words() -> None:
    rows = {row[0]: row[1:] for row in result_rows(build_report(**facts()))}
    assert rows["accuracy, greedy (%)"] == ["25.0 [22.0–28.0]", "46.0 [43.0–49.0]", "91.0 [88.0–94.0]"]
    assert rows["win rate vs SFT (%)"] == ["–", "–", "72.0 [69.0–75.0]"]
    assert rows["KL from SFT (nats)"] == ["–", "0.00", "3.41"]
    assert rows["ended with EOS (%)"] == ["99.5"] * 3


def test_a_method_without_sft_is_compared_with_its_base() -> None:
    labels = [row[0] for row in result_rows(build_report(**facts(compared_with="base")))]
    assert "win rate vs base (%)" in labels
    assert "KL from base (nats)" in labels


def test_stages_in_words() -> None:
    assert stage_rows(build_report(**facts())) == [
        ["sft", "reused", "6.0 s", "a" * 12],
        ["dpo", "ran", "31.2 s", "b" * 12],
    ]


def test_the_headline_compares_with_sft_or_else_with_the_base() -> None:
    assert headline(build_report(**facts())) == (
        "dpo answers 91.0 % of the held-out questions right (95 % interval 88.0 % to 94.0 %); sft 46.0 % (43.0 % to 49.0 %)."
    )
    only = {name: values for name, values in facts()["models"].items() if name != "dpo"}
    assert headline(build_report(**facts(models=only, method="sft"))).endswith("; base 25.0 % (22.0 % to 28.0 %).")


def test_markdown_has_every_part() -> None:
    page = render_markdown(build_report(**facts(warnings=["2 rows | quarantined"])))
    assert "| accuracy, greedy (%) | 25.0 [22.0–28.0] | 46.0 [43.0–49.0] | 91.0 [88.0–94.0] |" in page
    assert "![accuracy and training curves](p1.png)" in page
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
        "a pipeline must report every metric of PARENT_METRICS (posttrain/report.py); missing: eval/kl. "
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
