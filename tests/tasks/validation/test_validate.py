"""Every check fires for the row that offends it and no other; what the gate leaves behind is whole."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from posttrain.data.facts import FACTS, FactTable, HeldOut
from posttrain.errors import DataError
from posttrain.records import KIND_OF_ROLE
from posttrain.settings.data import ValidationSettings
from tasks.validation.report import as_json, refusal, summary_lines
from tasks.validation.suite import Judge, load_suite
from tasks.validation.validate import read_records
from tests.tasks.validation.gates import (
    DEMONSTRATION,
    GOOD,
    PARAMETERS,
    PREFERENCE,
    QUESTION,
    RANKING,
    RATING,
    SUITES,
    gate,
    judged,
    words,
    write,
)


@pytest.fixture(scope="module")
def judge():
    return Judge(parameters=PARAMETERS)


@pytest.mark.parametrize("role", GOOD)
def test_good_rows_fire_nothing(judge, role):
    outcomes, reasons = judged(judge, role, [GOOD[role]])
    assert [outcome.expectation.says for outcome in outcomes if not outcome.holds] == []
    assert reasons == {}


def twice(row, **changes):
    return [row, {**row, "id": "2", **changes}]


MANY = [{**QUESTION, "id": str(number), "prompt": f"{number}?"} for number in range(19)] + [
    {**QUESTION, "id": "20", "prompt": "20?", "answers": ["5"]}
]

NOTHING_TO_CHECK = (
    "there is nothing to check a response against: accuracy, rewards by a grader and simulated labels leave the question out"
)

NO_MARGIN = "the margin is not greater than 0: scores and choice do not agree"

MUTANTS = [
    (
        "corpus",
        [{"id": "1", "text": " \n"}],
        "critical",
        "the text is too short (validation.min_characters=1, white space not counted)",
    ),
    ("corpus", [{"id": "1", "text": "a\x00"}], "critical", "a control character stands in the text"),
    (
        "corpus",
        [{"id": "1", "text": "a\ufffd"}],
        "critical",
        "U+FFFD or a lone surrogate stands in the text: it was decoded wrongly",
    ),
    ("corpus", [{"id": "1", "text": "cafÃ©"}], "warning", "the text looks like UTF-8 read as Latin-1 (such as Ã© for é)"),
    (
        "demonstrations",
        [{**DEMONSTRATION, "prompt": ""}],
        "critical",
        "the prompt is too short (validation.min_characters=1, white space not counted)",
    ),
    (
        "preferences",
        [{**PREFERENCE, "rejected": " "}],
        "critical",
        "a completion is too short (validation.min_characters=1, white space not counted)",
    ),
    (
        "questions",
        [{**QUESTION, "answers": ["4", ""]}],
        "critical",
        "an answer is too short (validation.min_characters=1, white space not counted)",
    ),
    (  # 4 words, and 17 of the completion
        "demonstrations",
        [{**DEMONSTRATION, "prompt": "w " * 4, "completion": "w " * 15 + "Answer: 4"}],
        "critical",
        "prompt and completion have more than 20 tokens together (model.context)",
    ),
    (
        "questions",
        [{**QUESTION, "prompt": "w " * 20}],
        "critical",
        "the prompt leaves no room for a response within 20 tokens (model.context)",
    ),
    (
        "demonstrations",
        [{**DEMONSTRATION, "answer": "5"}],
        "critical",
        "the completion ends in another answer than the row's own",
    ),
    ("demonstrations", [{**DEMONSTRATION, "completion": "so"}], "critical", "no final answer can be read from the completion"),
    ("demonstrations", twice(DEMONSTRATION, id="1", prompt="Else?"), "critical", "the id is that of an earlier row"),
    ("demonstrations", twice(DEMONSTRATION), "warning", "the row repeats an earlier row"),
    ("questions", [{**QUESTION, "answers": []}], "warning", NOTHING_TO_CHECK),
    ("questions", twice(QUESTION, answers=["four"]), "warning", "the prompt is that of an earlier row"),
    ("questions", MANY, "warning", "one answer makes up more than 90 % of all answers"),
    ("preferences", [{**PREFERENCE, "rejected": "this "}], "critical", "chosen and rejected are the same text"),
    (
        "preferences",
        [{**PREFERENCE, "margin": 0}],
        "critical",
        NO_MARGIN,
    ),
    (
        "preferences",
        [{**PREFERENCE, "margin": float("inf")}],
        "critical",
        NO_MARGIN,
    ),
    ("preferences", twice(PREFERENCE, chosen="that", rejected="this"), "critical", "the same annotator prefers the opposite"),
    (
        "preferences",
        twice(PREFERENCE, chosen="that", rejected="this", annotator="bob"),
        "warning",
        "another annotator prefers the opposite",
    ),
    (
        "preferences",
        [{**PREFERENCE, "id": str(number), "prompt": f"{number}?", "chosen": "longer"} for number in range(20)],
        "warning",
        "length may decide: the longer, or the shorter, completion is chosen in more than 90 % of the pairs",
    ),
    ("ratings", [{**RATING, "score": 2, "low": 2, "high": 2}], "critical", "the scale has no width: low and high are equal"),
    ("ratings", twice(RATING, score=4), "critical", "the same annotator gives the same completion another score"),
    (
        "ratings",
        [{**RATING, "id": str(number), "prompt": f"{number}?"} for number in range(20)],
        "warning",
        "one score makes up more than 90 % of all scores",
    ),
    ("rankings", [{**RANKING, "ranks": [0, 1, 2]}], "critical", "a rank lies below 1, the best"),
    ("rankings", [{**RANKING, "ranks": [1, 2, 4]}], "critical", "a rank is greater than the number of completions"),
    ("rankings", [{**RANKING, "ranks": [1, 1, 1]}], "warning", "all completions are tied, so the ranking yields no pair"),
    ("rankings", twice(RANKING, ranks=[2, 1, 3]), "critical", "the same annotator ranks two completions the other way round"),
    (
        "rankings",
        twice(RANKING, ranks=[2, 1, 3], annotator="bob"),
        "warning",
        "another annotator ranks two completions the other way round",
    ),
]


@pytest.mark.parametrize(
    ("role", "rows", "severity", "says"), MUTANTS, ids=lambda value: value[:40] if isinstance(value, str) else ""
)
def test_exactly_the_check_fires_that_the_row_offends(judge, role, rows, severity, says):
    outcomes, reasons = judged(judge, role, rows)
    assert [(outcome.expectation.severity, outcome.expectation.says) for outcome in outcomes if not outcome.holds] == [
        (severity, says)
    ]
    assert bool(reasons) == (severity == "critical")


def test_one_completion_is_no_ranking(judge):
    _, reasons = judged(judge, "rankings", [{**RANKING, "completions": ["x"], "ranks": [1]}])
    assert reasons == {1: ["fewer than two completions are ranked"]}


@pytest.mark.parametrize("role", GOOD)
def test_a_leak_puts_the_training_row_aside(judge, role):
    rows = [GOOD[role], {**GOOD[role], "id": "2", "prompt": "Other?", "family": "f"}]
    table = FactTable(KIND_OF_ROLE[role], count_tokens=words, held_out=HeldOut())
    table.add([KIND_OF_ROLE[role].model_validate(row) for row in rows])
    _, prompt_leaks = judged(judge, role, rows[:1], held_out=table.held_out("held_out.jsonl"))
    _, family_leaks = judged(judge, role, [{**rows[1], "prompt": "New?"}], held_out=table.held_out("held_out.jsonl"))
    assert prompt_leaks == {1: ["the prompt is held out as well (held_out.jsonl line 1)"]}
    assert family_leaks == {1: ["the family is held out as well (held_out.jsonl line 2)"]}


def test_a_context_that_is_just_long_enough_is_enough(judge):
    _, reasons = judged(judge, "questions", [{**QUESTION, "prompt": "w " * 19}])
    assert reasons == {}


def test_the_suites_name_only_facts_that_there_are():
    for path in SUITES.glob("*.json"):
        for expectation in load_suite(path, parameters=PARAMETERS):
            assert set(expectation.columns) <= set(FACTS), expectation.place


def test_every_row_ends_up_in_exactly_one_file_byte_for_byte(tmp_path):
    rows = [{**QUESTION, "id": str(number), "prompt": f"{number}?"} for number in range(200)]
    rows[7]["prompt"] = " "
    odd = b'  {"id": "odd", "prompt": "caf\\u00e9", "kind":"question"  } \r'
    folder = write(tmp_path / "data", questions=[*rows, odd], held_out=[{"id": "h", "prompt": "9?"}])
    report = gate(folder, tmp_path / "out")
    assert report.rows == {"questions": 201, "held_out": 1}
    assert report.quarantined == {"questions": 2, "held_out": 0}
    assert report.critical_share == {"questions": 2 / 201, "held_out": 0.0}
    assert report.passed
    before = (folder / "questions.jsonl").read_bytes().splitlines(keepends=True)
    assert (tmp_path / "out" / "questions.jsonl").read_bytes() == b"".join(before[:7] + before[8:9] + before[10:])
    assert (tmp_path / "out" / "held_out.jsonl").read_bytes() == (folder / "held_out.jsonl").read_bytes()
    quarantine = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_bytes().splitlines()]
    assert quarantine == [
        {
            "role": "questions",
            "file": "questions.jsonl",
            "line": 8,
            "id": "7",
            "reasons": ["the prompt is too short (validation.min_characters=1, white space not counted)"],
            "row": rows[7],
        },
        {
            "role": "questions",
            "file": "questions.jsonl",
            "line": 10,
            "id": "9",
            "reasons": ["the prompt is held out as well (held_out.jsonl line 1)"],
            "row": rows[9],
        },
    ]


def test_held_out_files_may_share_a_prompt_with_each_other(tmp_path):
    rows = {"held_out": [QUESTION], "held_out_preferences": [{**PREFERENCE, "prompt": QUESTION["prompt"]}]}
    assert gate(write(tmp_path / "data", **rows), tmp_path / "out").quarantined == {"held_out": 0, "held_out_preferences": 0}


def test_too_many_critical_rows_close_the_gate(tmp_path):
    rows = [{**PREFERENCE, "id": str(number), "prompt": f"{number}?"} for number in range(8)]
    for row in rows[2:7]:
        row["rejected"] = row["chosen"]
    rows[7]["margin"] = 0
    folder = write(tmp_path / "pairs", preferences=rows)
    report = gate(folder, tmp_path / "out")
    assert not report.passed
    assert refusal(report) == (
        f"{folder}/preferences.jsonl: 6 of 8 rows (75 %) are critical, at most 1 % may be (validation.max_critical_share):\n"
        "  5 × chosen and rejected are the same text (first: line 3, line 4, line 5, …)\n"
        "  1 × the margin is not greater than 0: scores and choice do not agree (line 8)\n"
        f"The rows lie in {tmp_path}/out/quarantine.jsonl. Mend or drop them, then run again"
    )
    assert "kept/quarantine.jsonl" in refusal(report, quarantine=Path("kept/quarantine.jsonl"))
    assert len((tmp_path / "out" / "preferences.jsonl").read_bytes().splitlines()) == 2
    assert summary_lines(report) == ["preferences           8 rows         6 quarantined   0 warnings   gate closed"]


def test_a_share_of_just_the_limit_leaves_the_gate_open(tmp_path):
    rows = [{**QUESTION, "id": str(number), "prompt": f"{number}?"} for number in range(4)]
    rows[0]["prompt"] = ""
    folder = write(tmp_path / "data", questions=rows)
    assert gate(folder, tmp_path / "open", settings=ValidationSettings(max_critical_share=0.25)).passed
    assert not gate(folder, tmp_path / "closed", settings=ValidationSettings(max_critical_share=0.24)).passed


def test_warnings_are_one_sentence_each(tmp_path):
    folder = write(
        tmp_path / "data", questions=[*twice(QUESTION), {**QUESTION, "id": "3", "prompt": ""}], ratings=[], demonstration=[]
    )
    report = gate(folder, tmp_path / "out", settings=ValidationSettings(max_critical_share=0.5))
    assert report.warnings == [
        f"{folder}/demonstration.jsonl is not read; did you mean demonstrations.jsonl?",
        f"{folder}/questions.jsonl: 1 of 3 rows (33.3 %): the prompt is too short"
        " (validation.min_characters=1, white space not counted) (line 3); quarantined",
        f"{folder}/questions.jsonl: 1 of 3 rows (33.3 %): the row repeats an earlier row (line 2)",
        f"{folder}/ratings.jsonl is empty",
    ]
    assert summary_lines(report) == [
        "questions           3 rows         1 quarantined   1 warning",
        "ratings             0 rows         0 quarantined   0 warnings",
    ]


def test_the_report_for_machines_depends_on_nothing_but_the_data(tmp_path):
    for place in ("here", "there"):
        report = gate(write(tmp_path / place / "data", questions=twice(QUESTION)), tmp_path / place / "out")
    files = [(tmp_path / place / "out" / "validation.json").read_bytes() for place in ("here", "there")]
    assert files[0] == files[1]
    saved = json.loads(files[0])
    assert saved == as_json(report)
    assert (saved["gate"], saved["roles"]["questions"]["gate"]) == ("open", "open")
    (failed,) = [entry for entry in saved["roles"]["questions"]["expectations"] if not entry["holds"]]
    assert (failed["severity"], failed["unexpected"]) == ("warning", 1)
    assert failed["examples"] == [{"line": 2, "id": "2", "detail": "line 1"}]


def test_the_page_is_whole_safe_and_needs_no_network(tmp_path):
    attack = {**QUESTION, "id": "<b>", "prompt": "<script>alert(1)</script>\x00 \x1b"}
    lone = b'{"id": "lone", "prompt": "a\\ud800b"}'
    gate(write(tmp_path / "data", questions=[attack, lone]), tmp_path / "out")
    page = (tmp_path / "out" / "validation.html").read_text(encoding="utf-8")
    opened = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            assert not {"src", "href", "onclick"} & {name for name, _ in attrs}
            if tag != "meta":
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    parser = Tags()
    parser.feed(page)
    assert opened == []
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u0000 \\u001b" in page
    assert "a\\ud800b" in page
    assert "http" not in page
    assert "The gate is closed" in page


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"id": "a", "prompt": ',
         "is not JSON (Expecting value: line 2 column 1 (char 23)): every line must hold one JSON object."
         " Mend or drop it, then run again"),
        (b'{"id": "a", "prompt": "\xff"}', "is not UTF-8 (byte 0xff at position 23): save the file as UTF-8, then run again"),
        (b'\xef\xbb\xbf{"id": "a", "prompt": "p"}',
         "begins with a byte order mark: save the file as UTF-8 without one, then run again"),
        (b"", "is empty: every line must hold one JSON object. Delete the line, then run again"),
        (b'{"id": "a"}', "is no question: prompt: field required. Mend or drop the line, then run again"),
        (b'{"id": "a", "promt": "\\ud800"}', "is no question: prompt: field required. Mend or drop the line, then run again"),
        (b'{"id": "a", "prompt": "p", "kind": "text"}', "is no question: kind: input should be 'question'."
         " Mend or drop the line, then run again"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_record_stops_everything(tmp_path, line, says):
    folder = write(tmp_path / "data", questions=[QUESTION, line])
    with pytest.raises(DataError) as raised:
        gate(folder, tmp_path / "out")
    assert str(raised.value) == f"{folder}/questions.jsonl line 2 {says}"


def test_a_rating_off_its_scale_is_no_rating(tmp_path):
    path = write(tmp_path, ratings=[{**RATING, "score": 6}]) / "ratings.jsonl"
    with pytest.raises(DataError) as raised:
        list(read_records(path, kind=KIND_OF_ROLE["ratings"]))
    says = "is no rating: score must lie between 0 and 5, got 6. Mend or drop the line, then run again"
    assert str(raised.value) == f"{path} line 1 {says}"


def test_a_lone_surrogate_is_quarantined_as_it_was_written(tmp_path):
    lone = b'{"id": "a", "prompt": "p \\ud83d q"}'
    gate(write(tmp_path / "data", questions=[QUESTION, lone]), tmp_path / "out")
    (line,) = (tmp_path / "out" / "quarantine.jsonl").read_bytes().splitlines()
    assert line.endswith(b'"row": ' + lone + b"}")


def test_a_folder_without_data_is_refused(tmp_path):
    folder = write(tmp_path / "data", nothing=[])
    with pytest.raises(DataError, match=r"data holds none of corpus\.jsonl, .*: make the data with make data, or import them"):
        gate(folder, tmp_path / "out")
