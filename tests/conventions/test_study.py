"""How a comparison's record becomes the published study and its pages: figures worked out by hand, refusals."""

import json

import pytest

from benchmarks import study, study_pages
from benchmarks.worlds import REPORTED
from posttrain.methods import METHODS

SEEDS = REPORTED.seeds[:2]


def bounds(estimate, low=None, high=None):
    return {"estimate": estimate, "low": low, "high": high}


def method(name, title, scores, **more):
    found = [{"seed": seed, **bounds(score)} for seed, score in scores.items()]
    return {
        "name": name,
        "title": title,
        "scores": found,
        "mean": bounds(sum(scores.values()) / len(scores), 0.5, 0.9),
        "costs": {"labels": 1234.0, "train_seconds": 90.0, "flops": 2.5e12},
        "yardsticks": None,
        "runs": [{"seed": seed, "pipeline_id": f"{name}-{seed}"} for seed in scores],
        **more,
    }


def pair(a, estimate, low, high, verdict, family="reference", **more):
    decides = {"low_decides": None if low is None else low - 0.01, "high_decides": None if high is None else high + 0.01}
    per_seed = [{"seed": seed, **bounds(estimate + shift)} for seed, shift in zip(SEEDS, (-0.02, 0.02), strict=True)]
    told = {"p": 0.0004, "p_holm": 0.0004, "verdict": verdict, "words": None, "per_seed": per_seed, **more}
    return {"a": a, "b": "sft", "family": family, **bounds(estimate, low, high), **decides, **told}


def record(**changes):
    found = {
        "schema": "posttrain.comparison/1",
        "id": "20260101-000000-abcd",
        "command": "make compare",
        "verdict": "A is the best of 3 methods.",
        "failed": [],
        "machine": {"cpu": "a processor", "cores": 2, "python": "3.11", "torch": "2", "gpu": None},
        "git_commit": "0123456789abcdef",
        "seconds": 5400.0,
        "design": {
            "metric": "accuracy",
            "metric_title": "questions answered right",
            "unit": "share",
            "higher_is_better": True,
            "margin": 0.02,
            "reference": "sft",
            "seeds": list(SEEDS),
            "questions": 1000,
            "confidence": 0.95,
            "covers": "It covers seeds and questions.",
        },
        "notes": [],
        "methods": [
            method("sft", "SFT", dict(zip(SEEDS, (0.5, 0.6), strict=True))),
            method("dpo", "A", dict(zip(SEEDS, (0.8, 0.9), strict=True))),
            method("kto", "B", dict(zip(SEEDS, (0.51, 0.61), strict=True))),
        ],
        "pairs": [
            pair("kto", 0.01, -0.03, 0.05, "undecided"),
            pair("dpo", 0.3, 0.25, 0.35, "better"),
            pair("dpo", 0.29, 0.2, 0.3, "better", family="all"),
        ],
    }
    return found | changes


def made(**changes):
    return study.study_of(record(**changes), None, world=2)


def words(name):
    return METHODS[name].learns_from.says, METHODS[name].suits


def test_the_study_says_nothing_of_where_it_ran_but_the_machine():
    """What a failed run said names files by their path in the repository; the kernel's name stays out."""
    failed = [{"method": "dpo", "seed": 10, "command": "method=dpo", "error": "no judge: /tmp/c-1/.posttrain/judge/world/j.json"}]
    machine = {"cpu": "a processor", "cores": 2, "platform": "Linux-1.2-of-somebody"}
    found = made(failed=failed, machine=machine, warnings=["see /var/clone/reports/1.json, https://a.b/data/x and data/world"])
    assert found["failed"][0]["error"] == "no judge: .posttrain/judge/world/j.json"
    assert found["warnings"] == ["see reports/1.json, https://a.b/data/x and data/world"]
    assert "somebody" not in json.dumps(found) and found["machine"]["cpu"] == "a processor"


def test_what_the_runs_noted_is_listed_once_the_figures_are_told():
    page = study_pages.results(made(notes=["one", "two"]))
    assert "## Notes\n\n- one\n- two\n" in page and page.index("## Gains") < page.index("- one")
    assert "## Notes" not in study_pages.results(made())


def test_a_bar_within_a_cell_stays_in_its_cell():
    assert study_pages.table(["a"], [["x | y"]]) == ["| a |", "| --- |", "| x \\| y |"]


def test_every_method_says_what_it_suits():
    assert all(method.suits for method in METHODS.values())


def test_the_table_of_readme_by_hand():
    """1,234 labels; 90 s are 1.5 minutes; +0.3 of a share is +30.0 points. The largest gain is the first row, SFT is at 0."""
    assert study_pages.readme_table(made()).splitlines() == [
        "| method | learns from | gain over SFT, points | labels | minutes | when to use |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| A | {words('dpo')[0]} | **+30.0** [+25.0, +35.0] | 1,234 | 1.5 | {words('dpo')[1]} |",
        f"| B | {words('kto')[0]} | +1.0 [-3.0, +5.0] | 1,234 | 1.5 | {words('kto')[1]} |",
        f"| SFT | {words('sft')[0]} | reference | 1,234 | 1.5 | {words('sft')[1]} |",
        "",
        "Mean of 2 seeds, 1,000 held-out questions, world 2. Brackets: 95 % intervals. "
        "Bold: different from SFT, after Holm's correction.",
    ]


def test_a_method_that_loses_stands_below_the_reference_in_bold():
    rows = study_pages.readme_table(
        made(pairs=[pair("dpo", -0.1, -0.2, -0.05, "worse"), pair("kto", 0.0, -0.1, 0.1, "disagree")])
    )
    assert [line.split(" | ")[0] for line in rows.splitlines()[2:5]] == ["| SFT", "| B", "| A"]
    assert "**-10.0** [-20.0, -5.0]" in rows and "| +0.0 [-10.0, +10.0] |" in rows


def test_a_record_without_intervals_shows_the_seeds():
    """Gains of the seeds are 0.3 - 0.02 and 0.3 + 0.02; nothing is bold and nothing is said of brackets."""
    table = study_pages.readme_table(made(pairs=[pair("dpo", 0.3, None, None, None), pair("kto", 0.0, None, None, None)]))
    assert "| +30.0 (seeds +28.0 to +32.0) |" in table and "**" not in table and "Brackets" not in table


def test_a_record_without_a_verdict_shows_no_output():
    assert study_pages.compare_output(made(verdict=None)) == ""
    assert study_pages.between(
        "a\n" + study_pages.BEGIN.format(name="x") + "old\n" + study_pages.END.format(name="x"), "x", ""
    ) == ("a\n" + study_pages.BEGIN.format(name="x") + study_pages.END.format(name="x"))


def test_the_page_of_results_by_hand():
    """At least: the lower bound of the design that decides, 0.25 - 0.01 = +24.0 points. 5,400 s are 1.5 hours."""
    page = study_pages.results(made())
    assert "**A is the best of 3 methods.**" in page
    assert "| A | 85.0 [50.0, 90.0] | **+30.0** [+25.0, +35.0] | +24.0 | < 0.001 | better |" in page
    assert "| SFT | 55.0 [50.0, 90.0] | reference | – | – | – |" in page
    assert "| A | 80.0 (+28.0) | 90.0 (+32.0) |" in page
    assert "| A | 1,234 | – | – | – | – | 2.50e+12 | 1.5 | – |" in page
    assert "It covers seeds and questions." in page
    assert "at commit `0123456789ab` in 1.5 hours on 2 cores, a processor, Python 3.11, torch 2, no GPU." in page
    assert "## What feedback was worth" not in page and "## Several samples a question" not in page


def test_a_failed_run_is_said():
    methods = [method("sft", "SFT", dict(zip(SEEDS, (0.5, 0.6), strict=True))), method("dpo", "A", {SEEDS[0]: 0.8})]
    failed = [{"method": "dpo", "seed": SEEDS[1], "error": "the disk is full"}]
    page = study_pages.results(made(methods=methods, pairs=[pair("dpo", 0.3, 0.25, 0.35, "better")], failed=failed))
    assert "| A | 80.0 (+28.0) | failed |" in page and f"- A, seed {SEEDS[1]}, failed: the disk is full" in page


def test_samples_and_the_best_have_their_lines():
    yardsticks = {"pass": {"1": bounds(0.5), "8": bounds(0.75)}, "majority": {"8": bounds(0.625)}, "best_of": None}
    methods = [method("sft", "SFT", dict(zip(SEEDS, (0.5, 0.6), strict=True)), yardsticks=yardsticks)]
    page = study_pages.results(
        made(methods=methods, pairs=[pair("dpo", 0.1, 0.0, 0.2, "better", family="best", words="better by 2")])
    )
    assert "|  | pass@1 | pass@8 | majority of 8 |" in page and "| SFT | 50.0 | 75.0 | 62.5 |" in page
    assert "dpo, the highest mean, beside each of the others:\n\n- SFT: better by 2\n" in page


def report(**audit):
    return {"models": {"base": {"accuracy": bounds(0.25, 0.2, 0.3)}}, "audit": audit}


def test_reports_beside_the_record_give_the_base_and_the_worth_of_feedback(tmp_path):
    """The first report of a seed counts; the labels of one kind of labeller are said once a seed."""
    labels = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9}
    first, second = SEEDS
    (tmp_path / f"dpo-{first}.json").write_text(json.dumps(report(source="judge", labels=labels)))
    (tmp_path / f"kto-{first}.json").write_text(json.dumps(report(source="judge", labels=labels | {"accuracy": 0.1})))
    model = {"accuracy_gold": 0.6, "accuracy_gold_low": 0.5, "accuracy_gold_high": 0.7}
    (tmp_path / f"kto-{second}.json").write_text(json.dumps(report(source="simulated", reward_model=model)))
    found = study.study_of(record(), tmp_path, world=2)
    assert [one["seed"] for one in found["base"]] == [first, second]
    page = study_pages.results(found)
    assert "| base | 25.0 | 25.0 |" in page
    assert "| labels of an AI judge | 80.0 [70.0, 90.0] | – |" in page and "10.0 [" not in page
    assert "| reward model of the labels of simulated annotators | – | 60.0 [50.0, 70.0] |" in page


def test_what_is_kept_is_small_and_holds_no_answers():
    kept = made(answers=[{"text": "secret"}], mlflow={"url": "here"})
    assert not {"answers", "mlflow"} & set(kept) and not any("runs" in method for method in kept["methods"])
    assert {pair["family"] for pair in kept["pairs"]} == {"reference"}
    assert study.rounded({"a": [1 / 3, 2, "x", None]}) == {"a": [0.333333, 2, "x", None]}


def test_publishing_writes_every_page(tmp_path, monkeypatch):
    folder = tmp_path / "reports" / "compare" / "id"
    docs = tmp_path / "docs"
    folder.mkdir(parents=True)
    docs.mkdir()
    places = "".join(
        study_pages.BEGIN.format(name=name) + study_pages.END.format(name=name) for name in ("picture", "output", "table")
    )
    (tmp_path / "README.md").write_text(f"before\n{places}\nafter\n")
    monkeypatch.setattr(study, "ROOT", tmp_path)
    monkeypatch.setattr(study, "DOCS", docs)
    monkeypatch.setattr(study, "write_picture", lambda: (docs / "study.svg").write_text("<svg/>"))  # its own test: below
    (folder / "comparison.json").write_text(json.dumps(record()))
    assert study.main([f"from={folder / 'comparison.json'}"]) == 0
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert "\nA is the best of 3 methods.\npage       reports/compare/20260101-000000-abcd/index.html\n```\n" in text
    assert "![A is the best of 3 methods.](docs/study.svg)" in text and "**+30.0** [+25.0, +35.0]" in text
    assert study.main(["pages"]) == 0 and (tmp_path / "README.md").read_text() == text
    assert "## Gains" in (docs / "results.md").read_text() and (docs / "study.svg").is_file()


def test_the_picture_is_a_forest_that_names_its_record(tmp_path, monkeypatch):
    pytest.importorskip("tasks.comparison.charts.forest")
    monkeypatch.setattr(study, "DOCS", tmp_path)
    (tmp_path / "study.json").write_text(json.dumps(made()))
    study.write_picture()
    drawn = (tmp_path / "study.svg").read_text()
    assert drawn.startswith("<svg") and "A is the best of 3 methods." in drawn and study.digest() in drawn
    assert "+30.0" in drawn and "nan" not in drawn.lower()


def test_what_cannot_be_published_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"the record must be of the form posttrain.comparison/1, got 'other/1'"):
        study.study_of(record(schema="other/1"), None, world=2)
    design = record()["design"] | {"seeds": [0, 1]}
    (tmp_path / "comparison.json").write_text(json.dumps(record(design=design)))
    with pytest.raises(SystemExit, match=r"a published study has seeds of benchmarks/worlds.py \(.*\), got \(0, 1\)"):
        study.publish(tmp_path / "comparison.json")
    with pytest.raises(SystemExit, match=r"README\.md has no place for the study's table"):
        study_pages.between("no marks", "table", "x")
