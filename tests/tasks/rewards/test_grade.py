"""`make grade`: what is read, printed and written, and the sentence for each line and grader that is wrong."""

import io
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from flows.__main__ import main
from posttrain.errors import PosttrainError
from posttrain.printable import printable
from tasks.rewards import grade as subject
from tasks.rewards.grade import grade_file, print_report
from tasks.workspace.paths import Paths

REPOSITORY = Path(__file__).parents[3]
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
    report = grade_file(Paths(root), grader="answer", file=str(write(root / "samples.jsonl", LINES)))
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
    text = told(grade_file(Paths(root), grader="answer", file=str(write(root / "samples.jsonl", LINES))))
    for part in ("completions", "0.500 [0.150–0.850]", "2   50.0 [15.0–85.0] %", "66.7 % (1 disagreements)", "0.400"):
        assert part in text, text
    assert "line 3: label wrong, grader right: '14' against 14: the same number" in text
    assert f"every decision: {root}/reports/grades/samples.jsonl" in text


def test_without_labels_nothing_is_said_of_agreement(root):
    text = told(grade_file(Paths(root), grader="answer", file=str(write(root / "samples.jsonl", LINES[3:]))))
    assert "labelled" not in text and "kappa" not in text


def test_kappa_that_is_undefined_is_said(root):
    text = told(grade_file(Paths(root), grader="answer", file=str(write(root / "samples.jsonl", LINES[:1]))))
    assert "undefined: grader or labels say the same of every line" in text


def test_only_the_first_disagreements_are_printed(root):
    lines = [{"completion": "Answer: 1", "answers": ["1"], "label": False}] * 9
    text = told(grade_file(Paths(root), grader="answer", file=str(write(root / "samples.jsonl", lines))))
    assert text.count("label wrong, grader right") == 5


def test_a_grader_in_a_file_and_an_audit_table_elsewhere(root):
    spec = root / "grader.json"
    spec.write_text(json.dumps({"type": "answer", "partial_credit": 0.1}))
    out = root / "deep" / "audit.jsonl"
    report = grade_file(Paths(root), grader=str(spec), file=str(write(root / "samples.jsonl", LINES)), out=str(out))
    assert (report.audit, report.tally.partial, out.is_file()) == (out, 1, True)
    assert not (root / "reports").exists()


def test_many_batches_are_one_file(root, monkeypatch):
    monkeypatch.setattr(subject, "BATCH", 3)
    lines = [{"completion": f"Answer: {number}", "answers": ["7"]} for number in range(20)]
    report = grade_file(Paths(root), grader="answer", file=str(write(root / "samples.jsonl", lines)))
    rows = [json.loads(line) for line in report.audit.read_text().splitlines()]
    assert [row["line"] for row in rows] == list(range(1, 21))
    assert (report.tally.count, report.tally.right) == (20, 1)


def test_blank_lines_and_a_byte_order_mark_are_passed_over(root):
    path = root / "samples.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(LINES[0]).encode() + b"\n\n  \n" + json.dumps(LINES[1]).encode())
    report = grade_file(Paths(root), grader="answer", file=str(path))
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
        (("grader=answer", "file=good.jsonl", "out=."), "request: OUT must name a regular file, got ., which is a folder"),
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


# --- what OUT may name ----------------------------------------------------------------------------------------------------


@pytest.fixture
def samples(root):
    return str(write(root / "samples.jsonl", LINES))


def test_a_file_that_is_there_is_replaced_only_where_that_is_allowed(root, capsys, samples):
    kept = root / "mine.txt"
    kept.write_text("of mine")
    code, said = refused(capsys, "grader=answer", f"file={samples}", "out=mine.txt")
    assert code == 2 and said == (
        "request: OUT=mine.txt is there already, and would be replaced. Name another file, or allow it: FORCE=1\n"
    )
    assert kept.read_text() == "of mine" and not list(root.glob(".*.part"))
    assert main(["grade", "grader=answer", f"file={samples}", "out=mine.txt", "force=1"]) == 0
    assert len(kept.read_text().splitlines()) == 4


def test_a_link_to_a_file_stays_a_link_and_its_file_is_what_is_guarded(root, capsys, samples):
    (root / "real.txt").write_text("of mine")
    (root / "link.txt").symlink_to("real.txt")
    assert refused(capsys, "grader=answer", f"file={samples}", "out=link.txt")[0] == 2
    assert main(["grade", "grader=answer", f"file={samples}", "out=link.txt", "force=1"]) == 0
    assert (root / "link.txt").is_symlink() and len((root / "real.txt").read_text().splitlines()) == 4


def test_a_pipe_or_a_device_is_never_replaced(root, capsys, samples):
    """As root a rename over /dev/null succeeds, and every program of the machine writes into a file from then on."""
    os.mkfifo(root / "pipe")
    (root / "to a pipe").symlink_to("pipe")
    for out in ("pipe", "to a pipe"):
        code, said = refused(capsys, "grader=answer", f"file={samples}", f"out={out}", "force=1")
        assert code == 2 and said.startswith(
            f"request: OUT must name a regular file, got {out}, which is a device, pipe or socket."
        )
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)


def test_the_file_itself_under_another_name_is_not_overwritten(root, capsys, samples):
    os.link(samples, root / "other.jsonl")
    code, said = refused(capsys, "grader=answer", f"file={samples}", "out=other.jsonl", "force=1")
    assert code == 2 and "the audit table would overwrite" in said
    assert len((root / "samples.jsonl").read_text().splitlines()) == len(LINES)


@pytest.mark.parametrize(
    ("out", "said"), [("a" * 300, "names no file: "), ("a\0b", "names no file: "), (".", "which is a folder")]
)
def test_a_name_that_no_file_can_have_is_told(root, capsys, samples, out, said):
    code, told = refused(capsys, "grader=answer", f"file={samples}", f"out={out}", "force=1")
    assert code == 2 and said in told


def test_force_is_yes_or_no(root, capsys, samples):
    assert refused(capsys, "grader=answer", f"file={samples}", "force=please") == (
        2,
        "request: FORCE must be 1 (replace the file that OUT names) or 0, got please\n",
    )


# --- foreign text ---------------------------------------------------------------------------------------------------------


def test_a_line_of_gigabytes_is_refused_before_it_is_read_whole(root, capsys, monkeypatch):
    monkeypatch.setattr(subject, "LONGEST_LINE", 2**20)
    (root / "long.jsonl").write_bytes(b'{"completion": "' + b"x" * 2**22)
    code, said = refused(capsys, "grader=answer", "file=long.jsonl")
    assert (code, said) == (2, "data: long.jsonl line 1: is longer than 1 MB. Correct or drop the line\n")


def test_neither_a_files_name_nor_what_is_in_it_commands_the_terminal(root):
    name = "a[red]\x1b[2J\u202e.jsonl"
    lines = [{"completion": "Answer: \x1b[31m5\x1b[0m [bold]\ud800", "answers": ["7\r\x1b[1A"], "label": True}]
    write(root / name, lines)
    text = told(grade_file(Paths(root), grader="answer", file=name))
    assert "\x1b" not in text and "\r" not in text and "\u202e" not in text
    assert "a[red]\\x1b[2J\\u202e.jsonl by answer" in text and text.encode()


ODD = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["\ud800", "\x1b[2J", "[/bold]", "Answer: 5", "$\\frac{1}{2}$", "1e999", "\0", "[red]"]),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.none(),
    st.booleans(),
)
VALUE = st.recursive(ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3))
ROW = st.one_of(
    VALUE,
    st.fixed_dictionaries({}, optional=dict.fromkeys(("completion", "answers", "label", "item", "sample"), VALUE)),
    st.fixed_dictionaries({"completion": st.text(max_size=12), "answers": st.lists(ODD, max_size=3)}, optional={"label": VALUE}),
    st.fixed_dictionaries({"sample": st.fixed_dictionaries({"output_text": ODD}), "item": VALUE}, optional={"label": VALUE}),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ROW, min_size=1, max_size=3), st.binary(max_size=6), st.booleans())
def test_no_file_brings_a_traceback(rows, junk, is_cut):
    """The whole command, from bytes to what is printed: either a table or one sentence."""
    with tempfile.TemporaryDirectory() as scratch:
        body = "\n".join(json.dumps(row) for row in rows).encode()
        path = Path(scratch, "x.jsonl")
        path.write_bytes(body + junk if is_cut else body)
        try:
            report = grade_file(Paths(Path(scratch)), grader="answer", file=str(path))
        except PosttrainError as error:
            assert printable(str(error)).encode()
        else:
            assert told(report).encode() and report.audit.read_bytes()
