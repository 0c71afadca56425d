"""Suites of expectations that users write: their own checks, and what is wrong with one."""

import json
import shutil

import pytest

from posttrain.errors import DataError
from tasks.validation.report import refusal
from tasks.validation.suite import load_suite, percent
from tests.tasks.validation.gates import PARAMETERS, QUESTION, SUITES, gate, write


def suites_with(tmp_path, entry):
    folder = tmp_path / "suites"
    shutil.copytree(SUITES, folder)
    suite = json.loads((folder / "question.json").read_text(encoding="utf-8"))
    suite["expectations"] = [entry]
    (folder / "question.json").write_text(json.dumps(suite), encoding="utf-8")
    return folder


def entry(kind, severity="critical", **kwargs):
    return {"type": kind, "kwargs": kwargs, "meta": {"severity": severity, "says": "no"}}


def test_a_user_may_judge_the_texts_themselves(tmp_path):
    suites = suites_with(tmp_path, entry("expect_column_values_to_not_match_regex", column="prompt", regex="(?i)secret"))
    rows = [QUESTION, {**QUESTION, "id": "2", "prompt": "A SECRET?"}]
    report = gate(write(tmp_path / "data", questions=rows), tmp_path / "out", expectations=suites)
    assert report.quarantined == {"questions": 1}


def test_an_expectation_about_the_whole_file_closes_the_gate_by_itself(tmp_path):
    suites = suites_with(tmp_path, entry("expect_table_row_count_to_be_between", min_value=100))
    folder = write(tmp_path / "data", questions=[QUESTION])
    report = gate(folder, tmp_path / "out", expectations=suites)
    assert not report.passed
    assert report.quarantined == {"questions": 0}
    assert refusal(report) == (
        f"{folder}/questions.jsonl: no (observed 1; {suites}/question.json, expectation 1)\n"
        "Mend the data or the expectation, then run again"
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (entry("expect_colum_values_to_be_null", column="margin"),
         "Great Expectations has no expect_colum_values_to_be_null; did you mean expect_column_values_to_be_null?"),
        (entry("expect_column_values_to_be_null", column="promt_tokens"),
         "these rows have no fact promt_tokens; did you mean prompt_tokens?"),
        (entry("expect_column_values_to_be_null", colum="leaks_from"),
         "does not fit its type: column: field required; colum: extra"),
        (entry("expect_column_values_to_be_null", "severe", column="leaks_from"),
         "meta.severity must be critical or warning, got severe"),
        (entry("expect_column_values_to_be_between", column="prompt_tokens", max_value={"$PARAMETER": "contex"}),
         "there is no parameter contex; did you mean context?"),
        (entry("expect_column_mean_to_be_between", column="prompt", max_value=1), "cannot be computed: "),
        ({"type": "expect_column_values_to_be_null"}, "needs type, kwargs, meta.severity and meta.says, got"),
    ],
)  # fmt: skip
def test_a_broken_expectation_is_named(tmp_path, wrong, says):
    suites = suites_with(tmp_path, wrong)
    with pytest.raises(DataError) as raised:
        gate(write(tmp_path / "data", questions=[QUESTION]), tmp_path / "out", expectations=suites)
    assert f"{suites}/question.json, expectation 1" in str(raised.value)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("text", "says"), [(None, "there is no "), ("{", "is no suite: "), ("[]", "is no suite: "), ("{}", "is no suite: ")]
)
def test_a_broken_suite_is_refused(tmp_path, text, says):
    path = tmp_path / "question.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=says):
        load_suite(path, parameters=PARAMETERS)


def test_great_expectations_writes_nothing_on_the_terminal(tmp_path, capfd):
    gate(write(tmp_path / "data", questions=[{**QUESTION, "prompt": ""}]), tmp_path / "out")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("share", "text"), [(0.912, "91.2 %"), (0.01, "1 %"), (1.0, "100 %"), (0.0008, "0.08 %"), (0.0, "0 %")])
def test_shares_are_written_for_people(share, text):
    assert percent(share) == text
