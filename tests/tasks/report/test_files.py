"""The report on the terminal and on the disk."""

import json
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from rich.console import Console

from posttrain.errors import StorageError
from posttrain.report.pipeline import PARENT_METRICS, build_report
from tasks.report.files import write_report
from tasks.report.pictures import picture
from tasks.report.terminal import print_report
from tasks.report.unchecked_picture import shown_figure


def share(estimate: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - 0.03, "high": estimate + 0.03}


def report(**changes: Any) -> dict[str, Any]:
    rest = {"kl": 0.0, "response_tokens": 29.0, "finished": 0.995, "win_rate": None}
    values = {name: {**rest, "accuracy": share(0.4), "accuracy_sampled": share(0.3)} for name in ("base", "sft", "dpo")}
    values["dpo"]["accuracy_gain"] = share(0.1)
    facts: dict[str, Any] = {
        "pipeline_id": "20261121-020000-dpo-world-0",
        "method": "dpo",
        "seed": 0,
        "dataset": "world",
        "data_md5": "d" * 32,
        "git_commit": "abc1234",
        "created": "2026-11-21T02:00:00+00:00",
        "stages": [{"name": "dpo", "key": "b" * 64, "cached": True, "seconds": 31.25, "run_id": "r2"}],
        "metrics": dict.fromkeys(PARENT_METRICS),
        "models": values,
        "baseline": "sft",
        "model": {"uri": "models:/posttrain-world/1", "name": "posttrain-world", "version": "1", "path": "/store/[m-1]"},
        "mlflow": {"run_id": "r0", "experiment_id": "1", "compare_url": "http://127.0.0.1:5000/#/compare-runs?runs=" + "x" * 99},
        "notes": ["labels came from simulated [annotators]"],
        "warnings": ["2 rows were quarantined"],
    }
    return build_report(**(facts | changes))


CURVES = {"sft": [{"step": step, "loss": 1 / (step + 1)} for step in range(20)], "sample": [{"step": 0, "tokens": 5.0}]}


def test_the_terminal_gets_all_of_it_within_eighty_columns() -> None:
    out = StringIO()
    print_report(report(), console=Console(file=out, width=80))
    text = out.getvalue()
    assert "accuracy, greedy (%)    40.0 [37.0–43.0]  40.0 [37.0–43.0]   40.0 [37.0–43.0]" in text
    assert ["gain", "over", "SFT", "(points)", "–", "–", "+10.0", "[7.0,", "13.0]"] in [
        line.split() for line in text.splitlines()
    ]
    assert "DPO helped: +10.0 points [7.0, 13.0] over SFT, same questions: 40.0 % right before, 40.0 % after." in text
    assert "in brackets: 95 % intervals cover the choice of held-out questions only, not" in text
    assert "dpo    reused  31.2 s  bbbbbbbbbbbb" in text
    assert "note: labels came from simulated [annotators]" in text and "warning: 2 rows were quarantined" in text
    assert "\n           http://127.0.0.1:5000/#/compare-runs?runs=" + "x" * 99 + "\n" in text
    assert "loads from /store/[m-1]\n" in text
    broken = [
        line
        for line in text.splitlines()
        if len(line) > 80 and not line.startswith(("model ", "    ", "note: ", "warning: ", "DPO helped"))
    ]
    assert broken == []


def test_the_files(tmp_path: Path) -> None:
    files = write_report(report(), tmp_path / "reports", curves=CURVES)
    assert json.loads(files["json"].read_text()) == report() == json.loads(files["latest"].read_text())
    assert files["markdown"].read_text().startswith("# dpo on world, seed 0\n")
    assert imread(BytesIO(files["picture"].read_bytes())).shape == (1050, 1500, 4)
    assert {file.name for file in (tmp_path / "reports").iterdir()} == {
        "latest.json",
        *(f"20261121-020000-dpo-world-0.{suffix}" for suffix in ("json", "md", "png")),
    }


def test_a_picture_without_curves_and_with_an_undefined_value() -> None:
    values = report()["models"]
    values["base"]["accuracy_sampled"] = None
    assert picture(report(models=values), curves={}) != picture(report(), curves={})
    assert picture(report(), curves={}) != picture(report(), curves=CURVES)
    del values["dpo"]["accuracy_gain"]
    assert picture(report(models=values), curves={}).startswith(b"\x89PNG"), "without answers there is no gain to draw"


def test_the_picture_shows_the_paired_gain_and_no_interval_of_a_single_model() -> None:
    before = picture(report(), curves={})
    values = report()["models"]
    values["sft"]["accuracy"] |= {"low": 0.1, "high": 0.9}
    assert picture(report(models=values), curves={}) == before
    values["dpo"]["accuracy_gain"] |= {"low": -0.2}
    assert picture(report(models=values), curves={}) != before


def test_without_accuracy_the_picture_shows_the_first_figure_that_there_is() -> None:
    rest = {"accuracy": None, "accuracy_sampled": None, "win_rate": None, "kl": 0.0, "response_tokens": 9.0, "finished": 1.0}
    loss, wins = {"reference_loss": share(1.5)}, {"judge_win_rate": share(0.6)}
    told = [
        report(models={"base": {**rest, **one}, "dpo": {**rest, **one, **other}})
        for one, other in ((loss, wins), ({}, wins), ({}, {}))
    ]
    assert [shown and shown.key for shown in map(shown_figure, told)] == ["reference_loss", "judge_win_rate", None]
    drawn = [picture(one, curves={}) for one in told]
    assert all(png.startswith(b"\x89PNG") for png in drawn) and len(set(drawn)) == 3


def test_a_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(report(metrics={**dict.fromkeys(PARENT_METRICS), "eval/kl": float("nan")}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_last_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(report(), tmp_path)
    before = (tmp_path / "latest.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tasks.workspace.disk.os.fsync", full)
    with pytest.raises(StorageError) as refusal:
        write_report(report(seed=1), tmp_path)
    assert str(refusal.value) == (
        f"{tmp_path} cannot be written: No space left on device. Free the disk or its permissions, then run again: "
        "finished stages are reused"
    )
    assert (tmp_path / "latest.json").read_bytes() == before
    assert not [file for file in tmp_path.iterdir() if file.name.endswith(".new")]


def test_ppo_is_drawn_with_its_gold_score_where_there_is_one() -> None:
    curve = [{"step": step, "ppo/reward": step / 9, "ppo/gold": step / 10, "ppo/kl": step / 5} for step in range(1, 9)]
    bare = [{name: value for name, value in row.items() if name != "ppo/gold"} for row in curve]
    drawn = [picture(report(), curves={"reft": one}) for one in (curve, bare, [])]
    assert all(png.startswith(b"\x89PNG") for png in drawn)
    assert len(set(drawn)) == 3


AUDIT = {
    "source": "simulated",
    "labels": {"labels": 2969.0, "agreement": 0.9, "agreement_low": 0.88, "agreement_high": 0.92},
    "reward_model": {"accuracy": 0.76, "accuracy_low": 0.7, "accuracy_high": 0.8},
    "proxy": {"end_gap": 2.44},
}


def test_the_audit_is_told_within_eighty_columns_and_its_picture_lies_beside_the_page(tmp_path: Path) -> None:
    drawn = tmp_path / "audit.png"
    drawn.write_bytes(b"a picture")
    out = StringIO()
    print_report(report(audit=AUDIT), console=Console(file=out, width=80))
    text = out.getvalue()
    assert "labels of simulated annotators" in text
    assert [line.split() for line in text.splitlines() if "agree (" in line] == [
        ["two", "annotators", "agree", "(%)", "90.0", "[88.0–92.0]"]
    ]
    assert ".md, .json, .png, -audit.png\n" in text
    told = text[text.index("labels of sim") : text.index("DPO helped")]
    assert max(map(len, told.splitlines())) <= 80
    files = write_report(report(audit=AUDIT), tmp_path / "reports", audit_picture=drawn)
    assert files["audit"].read_bytes() == b"a picture"
    assert files["audit"].name in files["markdown"].read_text()
    assert json.loads(files["json"].read_text())["audit"] == AUDIT


@pytest.mark.parametrize("audit", [AUDIT, None])
def test_an_audit_without_its_picture_and_a_picture_without_its_audit_are_refused(tmp_path: Path, audit: Any) -> None:
    with pytest.raises(ValueError) as refusal:
        write_report(report(audit=audit), tmp_path / "reports", audit_picture=None if audit else tmp_path / "audit.png")
    assert str(refusal.value) == "a report whose audit has proxy and gold comes with their picture, and no other does"
    assert not (tmp_path / "reports").exists()
