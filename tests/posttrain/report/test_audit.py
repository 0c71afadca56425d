"""The audit in words: which figure stands in which line, and what is left out."""

from typing import Any

from posttrain.report.audit import AUDIT_ROWS, WHO, audit_rows

AUDIT: dict[str, Any] = {
    "source": "simulated",
    "labels": {"labels": 2969.0, "pairs": 2700.0, "agreement": 0.9, "agreement_low": 0.88, "agreement_high": 0.92, "kappa": 0.8},
    "reward_model": {"accuracy": 0.761, "accuracy_low": 0.72, "accuracy_high": 0.8, "ece": 0.034, "length_correlation": -0.2},
    "proxy": {
        "labels_longer_beyond_gold": -0.0046,
        "labels_longer_beyond_gold_low": -0.0156,
        "labels_longer_beyond_gold_high": 0.0064,
        "end_gap": 2.444,
        "end_gold": 0.084375,
        "best_of_n": 8.0,
        "best_of_n_gold": 0.485,
    },
}


def test_every_figure_has_its_line_under_its_heading() -> None:
    assert audit_rows(AUDIT) == {
        "labels of simulated annotators": [
            ["labels", "2,969"],
            ["pairs they are of", "2,700"],
            ["two annotators agree (%)", "90.0 [88.0–92.0]"],
            ["Cohen's κ", "0.80"],
            ["lean to the longer, beyond gold (points)", "-0.5 [-1.6 to +0.6]"],
        ],
        "reward model": [
            ["accuracy against labels (%)", "76.1 [72.0–80.0]"],
            ["expected calibration error", "0.03"],
            ["correlation of score and length", "-0.20"],
        ],
        "proxy and gold": [
            ["gold after PPO (%)", "8.4"],
            ["gold of the best of 8 by proxy (%)", "48.5"],
            ["gap between them (deviations)", "+2.44"],
        ],
    }


def test_what_is_not_there_has_neither_line_nor_heading() -> None:
    assert audit_rows({}) == {}
    assert audit_rows({"labels": None, "proxy": None}) == {}
    assert list(audit_rows({"proxy": {"end_gold": 0.5}})) == ["proxy and gold"]
    assert list(audit_rows({"labels": {"labels": 3.0}})) == ["labels"], "nobody knows who labelled"


def test_simulated_labels_and_a_judges_are_called_what_they_are() -> None:
    headings = [next(iter(audit_rows({"source": source, "labels": {"labels": 3.0}}))) for source in WHO]
    assert headings == [
        "labels of simulated annotators",
        "labels of the dataset's annotators",
        "labels of an AI judge",
        "labels of people",
    ]


def test_no_figure_stands_twice() -> None:
    rows = [row for rows in AUDIT_ROWS.values() for row in rows]
    assert len({(row.part, row.key) for row in rows}) == len(rows)


def test_how_often_gold_agrees_stands_once_whoever_labelled() -> None:
    of_judge = {"source": "judge", "labels": {"accuracy": 0.6}}
    of_people = {"source": "people", "proxy": {"labels_agreement_gold": 0.61}}
    assert audit_rows(of_judge) == {"labels of an AI judge": [["gold agrees (%)", "60.0"]]}
    assert audit_rows(of_people) == {"labels of people": [["gold agrees (%)", "61.0"]]}
