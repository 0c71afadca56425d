"""`make grade`: what is read, printed and written, and the sentence for each line and grader that is wrong."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from flows.__main__ import main
from tasks import grade as subject
from tasks.grade import grade_file, print_report
from tasks.places import Places

REPOSITORY = Path(__file__).parents[2]
LINES = [
    {"completion": "Answer: 14", "answers": ["14"], "label": True},
    {"completion": "Answer: 15", "answers": ["14"], "label": 0},
    {"item": {"reference_answer": 14}, "sample": {"output_text": "so 14"}, "label": 0.2},
    {"completion": "dunno", "answer": "14", "prompt": "7 + 7 = ?"},
]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def told(report):
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=120, highlight=False))
    return stream.getvalue()


def refused(capsys, *words):
    code = main(["grade", *words])
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    return code, said.err


def test_a_file_is_graded(root):
    report = grade_file(Places(root), grader="answer", file=str(write(root / "samples.jsonl", LINES)))
    tally = report.tally
    assert (tally.count, tally.right, tally.unextracted, tally.labelled, tally.agreeing) == (4, 2, 1, 3, 2)
    assert report.audit == root / "reports" / "grades" / "samples.jsonl"
    rows = [json.loads(line) for line in report.audit.read_text().splitlines()]
    assert [(row["line"], row["is_right"], row.get("label")) for row in rows] == [
        (1, True, True),
        (2, False, False),
        (3, True, False),
        (4, False, None),
    ]
    assert rows[1] == {
        "line": 2,
        "label": False,
        "score": 0.0,
        "is_right": False,
        "is_partial": False,
        "extracted": "15",
        "compared_with": ["14"],
        "reason": "'15' is not 14",
        "parts": {},
        "errors": [],
    }
    assert sorted(path.name for path in report.audit.parent.iterdir()) == ["samples.jsonl"]


def test_what_is_printed(root):
    text = told(grade_file(Places(root), grader="answer", file=str(write(root / "samples.jsonl", LINES))))
    for part in ("completions", "0.500 [0.150–0.850]", "2   50.0 [15.0–85.0] %", "66.7 % (1 disagreements)", "0.400"):
        assert part in text, text
    assert "line 3: label wrong, grader right: '14' against 14: the same number" in text
    assert f"every decision: {root}/reports/grades/samples.jsonl" in text


def test_without_labels_nothing_is_said_of_agreement(root):
    text = told(grade_file(Places(root), grader="answer", file=str(write(root / "samples.jsonl", LINES[3:]))))
    assert "labelled" not in text and "kappa" not in text


def test_kappa_that_is_undefined_is_said(root):
    text = told(grade_file(Places(root), grader="answer", file=str(write(root / "samples.jsonl", LINES[:1]))))
    assert "undefined: grader or labels say the same of every line" in text


def test_only_the_first_disagreements_are_printed(root):
    lines = [{"completion": "Answer: 1", "answers": ["1"], "label": False}] * 9
    text = told(grade_file(Places(root), grader="answer", file=str(write(root / "samples.jsonl", lines))))
    assert text.count("label wrong, grader right") == 5


def test_a_grader_in_a_file_and_an_audit_table_elsewhere(root):
    spec = root / "grader.json"
    spec.write_text(json.dumps({"type": "answer", "partial_credit": 0.1}))
    out = root / "deep" / "audit.jsonl"
    report = grade_file(Places(root), grader=str(spec), file=str(write(root / "samples.jsonl", LINES)), out=str(out))
    assert (report.audit, report.tally.partial, out.is_file()) == (out, 1, True)
    assert not (root / "reports").exists()


def test_many_batches_are_one_file(root, monkeypatch):
    monkeypatch.setattr(subject, "BATCH", 3)
    lines = [{"completion": f"Answer: {number}", "answers": ["7"]} for number in range(20)]
    report = grade_file(Places(root), grader="answer", file=str(write(root / "samples.jsonl", lines)))
    rows = [json.loads(line) for line in report.audit.read_text().splitlines()]
    assert [row["line"] for row in rows] == list(range(1, 21))
    assert (report.tally.count, report.tally.right) == (20, 1)


def test_blank_lines_and_a_byte_order_mark_are_passed_over(root):
    path = root / "samples.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(LINES[0]).encode() + b"\n\n  \n" + json.dumps(LINES[1]).encode())
    report = grade_file(Places(root), grader="answer", file=str(path))
    assert report.tally.count == 2
    assert json.loads(report.audit.read_text().splitlines()[1])["line"] == 4


# --- refusals ---------------------------------------------------------------------------------------------------------

GOOD = json.dumps(LINES[0])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "is no JSON (Expecting property name enclosed in double quotes: line 2 column 1 (char 2))"),
        ("[1]", "must be a JSON object, got [1]"),
        ('{"completio": "x", "answers": ["1"]}', "there is no field completion; did you mean completio? the fields are "),
        ('{"answers": ["1"]}', "there is no field completion; the fields are answers"),
        ('{"completion": 3, "answers": ["1"]}', "the completion must be text, got 3"),
        ('{"item": {}, "sample": {}}', 'item and sample must be objects, and sample must have "output_text"'),
        ('{"item": 3, "sample": {"output_text": "x"}}', 'item and sample must be objects, and sample must have "output_text"'),
        ('{"item": {"answer": "3"}}', 'item and sample must be objects, and sample must have "output_text"'),
        ('{"completion": "x", "answers": ["1"], "label": "yes"}', "label must be true, false or a number from 0 to 1, got 'yes'"),
        ('{"completion": "x", "answers": ["1"], "label": 2}', "label must be true, false or a number from 0 to 1, got 2"),
        ('{"completion": "x", "prompt": "y"}', "a record has no answer to grade against: it needs one of answers, answer, "),
    ],
)
def test_a_broken_line_is_told_with_its_number(root, capsys, line, problem):
    (root / "samples.jsonl").write_text(f"{GOOD}\n{line}\n{GOOD}\n")
    code, said = refused(capsys, "grader=answer", "file=samples.jsonl")
    assert code == 2
    assert said.startswith("data: samples.jsonl line 2: ") and said.count("\n") == 1
    assert problem in said
    assert not (root / "reports" / "grades" / "samples.jsonl").exists()
    assert not list(root.rglob("*.part"))


def test_a_line_that_is_no_utf_8(root, capsys):
    (root / "samples.jsonl").write_bytes(GOOD.encode() + b'\n{"completion": "\xff"}\n')
    code, said = refused(capsys, "grader=answer", "file=samples.jsonl")
    assert code == 2 and said.startswith("data: samples.jsonl line 2: is no JSON ('utf-8' codec can't decode byte 0xff")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "request: grade needs GRADER: make grade GRADER=answer FILE=samples.jsonl"),
        (("grader=answer",), "request: grade needs FILE: make grade GRADER=answer FILE=samples.jsonl"),
        (("grader=", "file=x"), "request: grade needs GRADER: make grade GRADER=answer FILE=samples.jsonl"),
        (("grader=answer", "file=x", "seed=1"), "request: grade takes GRADER, FILE, OUT and FORCE, not seed"),
        (
            ("grader=answer", "file=none.jsonl"),
            "request: cannot read none.jsonl: No such file or directory. FILE names a file of",
        ),
        (("grader=answer", "file=."), "request: cannot read .: Is a directory. FILE names a file of JSON lines"),
        (("grader=answer", "file=empty.jsonl"), "data: empty.jsonl has no lines, so there is nothing to grade"),
        (
            ("grader=answr", "file=good.jsonl"),
            "request: there is no grader answr; did you mean answer? built in are answer, program;",
        ),
        (
            ("grader=none.json", "file=good.jsonl"),
            "request: GRADER=none.json: there is no such file. It holds a grader's settings",
        ),
        (("grader=broken.json", "file=good.jsonl"), "request: GRADER=broken.json: the file is no JSON: "),
        (("grader=list.json", "file=good.jsonl"), "request: GRADER=list.json: a grader is a JSON object with a type, got list"),
        (
            ("grader=typo.json", "file=good.jsonl"),
            "request: there is no setting grader.tolerence; did you mean tolerance? settings are ",
        ),
        (
            ("grader=field.json", "file=good.jsonl"),
            "request: good.jsonl line 1: grader.reference: there is no field item.answr; did you mean answers? the fields are ",
        ),
        (
            ("grader=judge.json", "file=good.jsonl"),
            "request: grader asks the model m, and there is none here: hand a function over as score_model, or use a grader that",
        ),
        (
            ("grader=answer", "file=good.jsonl", "out=good.jsonl"),
            "request: the audit table would overwrite good.jsonl: give another OUT",
        ),
        (("grader=answer", "file=good.jsonl", "out=."), "request: OUT must name a file, got the folder ."),
    ],
)
def test_refusals(root, capsys, words, message):
    (root / "empty.jsonl").write_text("\n")
    (root / "good.jsonl").write_text(GOOD + "\n")
    (root / "broken.json").write_text("{")
    (root / "list.json").write_text("[1]")
    (root / "typo.json").write_text('{"type": "answer", "tolerence": 1}')
    check = {"type": "string_check", "input": "x", "reference": "{{item.answr}}", "operation": "eq"}
    (root / "field.json").write_text(json.dumps(check))
    judge = {"type": "score_model", "model": "m", "input": [{"role": "user", "content": "x"}]}
    (root / "judge.json").write_text(json.dumps(judge))
    before = (root / "good.jsonl").read_bytes()
    code, said = refused(capsys, *words)
    assert code == 2 and said.startswith(message) and said.count("\n") == 1
    assert (root / "good.jsonl").read_bytes() == before


def test_an_audit_table_that_was_there_stays_when_grading_fails(root, capsys):
    (root / "samples.jsonl").write_text(f"{GOOD}\n")
    assert main(["grade", "grader=answer", "file=samples.jsonl"]) == 0
    capsys.readouterr()
    audit = root / "reports" / "grades" / "samples.jsonl"
    before = audit.read_bytes()
    (root / "samples.jsonl").write_text(f"{GOOD}\n" * 600 + "{\n")
    assert refused(capsys, "grader=answer", "file=samples.jsonl")[0] == 2
    assert audit.read_bytes() == before and len(list(audit.parent.iterdir())) == 1


def test_the_verb_imports_no_network(root):
    write(root / "samples.jsonl", LINES)
    script = (
        "import sys; from flows.__main__ import main; code = main(['grade', 'grader=answer', 'file=samples.jsonl']); "
        "print(sorted({'torch', 'transformers', 'prefect', 'mlflow', 'dvc', 'math_verify', 'sympy'} & set(sys.modules))); "
        "sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("[]\n")
