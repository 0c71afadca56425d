"""LOGS=: which file is which system and seed, and what is refused; with real files of both tools under `real/`."""

import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.comparison.record import build_comparison
from posttrain.errors import DataError, RequestError
from tasks.comparison.logs import read_logs
from tests.posttrain.comparison.made import FACTS

REAL = Path(__file__).parent / "real"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Paths in messages are short."""
    monkeypatch.chdir(tmp_path)


def jsonl(name, rows):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def plain(name, scores, **more):
    return jsonl(name, [{"question": f"q{place}", "score": score, **more} for place, score in enumerate(scores)])


def lm_row(place, *, score=1.0, name="acc", used="none", **more):
    row = {"doc_id": place, "doc": {"question": f"what is {place}?"}, "target": str(place), "filter": used, "metrics": [name]}
    arguments = {"gen_args_0": {"arg_0": f"Q: what is {place}?"}}
    return {
        **row,
        "arguments": arguments,
        "resps": [["so 1"]],
        "filtered_resps": ["1"],
        "doc_hash": f"h{place}",
        name: score,
        **more,
    }


def inspect_log(name, scores, *, model="m", status="success", seed=None, **more):
    samples = [
        {
            "id": place,
            "epoch": epoch + 1,
            "input": f"what is {place}?",
            "target": str(place),
            "output": {"completion": "so 1"},
            "scores": {"match": {"value": value}},
        }
        for place, values in enumerate(scores)
        for epoch, value in enumerate(values)
    ]
    about = {"task": "t", "model": model, "model_args": {}}
    whole = {"version": 2, "status": status, "eval": about, "plan": {"config": {"seed": seed}}, "samples": samples, **more}
    Path(name).write_text(json.dumps(whole, indent=2), encoding="utf-8")
    return name


def scores_of(found, system):
    return {seed: result.scores.tolist() for seed, result in found.methods[system].by_seed.items()}


def test_a_plain_table_holds_systems_and_seeds():
    lines = ["system;seed;question;score;answer;text;group"]
    for system, gain in (("base", 0), ("tuned", 1)):
        lines += [f'{system};{seed};q{q};{int(q + gain > 1)};5;"so; {q}";sums' for seed in (3, 4) for q in range(3)]
    Path("table.txt").write_text("\n".join(lines))  # what it is, its first line says, not its name
    design, questions, methods, notes = found = read_logs(["table.txt"])
    assert [one.name for one in methods] == ["base", "tuned"]
    assert scores_of(found, 0) == {3: [0, 0, 1], 4: [0, 0, 1]} and scores_of(found, 1) == {3: [0, 1, 1], 4: [0, 1, 1]}
    assert (questions[2].id, questions[2].answers, questions[2].group) == ("q2", ("5",), "sums")
    assert methods[0].by_seed[3].texts == ["so; 0", "so; 1", "so; 2"]
    assert (design.reference, design.unit, design.metric, design.higher_is_better) == ("base", "share", "score", True)
    assert notes == [
        f"two seeds of {name} gave the same answer to every question: they look like one model run twice, "
        "and then the intervals are too narrow"
        for name in ("base", "tuned")
    ]


def test_names_are_given_and_files_of_one_system_are_its_seeds():
    words = [f"sft={plain('a.jsonl', [1, 0])}", f"sft={plain('b.jsonl', [1, 1])}", f"dpo={plain('c.jsonl', [0, 0])}"]
    found = read_logs(words, reference="dpo", margin=0.1, confidence=0.9)
    assert [one.name for one in found.methods] == ["sft", "dpo"]
    assert scores_of(found, 0) == {0: [1, 0], 1: [1, 1]}
    assert (found.design.reference, found.design.margin, found.design.confidence) == ("dpo", 0.1, 0.9)
    assert found.notes == ["seeds are numbered in the order of the logs, since not each log has a seed of its own"]


def test_questions_are_paired_by_id_whatever_their_order():
    jsonl("a.jsonl", [{"question": name, "score": number} for name, number in (("x", 1), ("y", 0))])
    jsonl("b.jsonl", [{"question": name, "score": number} for name, number in (("y", 0), ("x", 1))])
    found = read_logs(["a.jsonl", "b.jsonl"])
    assert scores_of(found, 0) == scores_of(found, 1) == {0: [1, 0]}


def test_scores_outside_shares_and_losses():
    found = read_logs([plain("a.jsonl", [3.5, -1]), plain("b.jsonl", [2, 8])])
    assert found.design.unit == "score" and found.design.higher_is_better
    rows = [[lm_row(place, score=place + extra, name="perplexity") for place in range(2)] for extra in (1, 2)]
    found = read_logs([f"a={jsonl('c.jsonl', rows[0])}", f"b={jsonl('d.jsonl', rows[1])}"])
    assert not found.design.higher_is_better and scores_of(found, 0) == {0: [-1, -2]}
    found = read_logs(["a.jsonl", "b.jsonl"], lower_is_better=True)
    assert scores_of(found, 0) == {0: [-3.5, 1]}


def test_inspect_letters_and_epochs():
    inspect_log("a.json", [["C", "I"], ["P", "N"]], model="base", seed=7)
    inspect_log("b.json", [[True, True], ["yes", "0"]], model="tuned", seed=7)
    found = read_logs(["a.json", "b.json"])
    assert scores_of(found, 0) == {7: [0.5, 0.25]} and scores_of(found, 1) == {7: [1, 0.5]}
    assert found.methods[0].by_seed[7].sampled is None, "a partial score is neither right nor wrong"
    assert found.methods[1].by_seed[7].sampled.tolist() == [[1, 1], [1, 0]]
    assert found.notes == ["each question was answered 2 times, and its score is the mean"]


def test_metrics_and_filters_are_chosen():
    rows = [lm_row(place, score=place, name="em", used=used) for used in ("strict", "loose") for place in range(2)]
    for name in "ab":
        jsonl(f"{name}.jsonl", [row | {"note": name} for row in rows])
    words = ["a=a.jsonl", "b=b.jsonl"]
    found = read_logs(words, metric="em,loose")
    assert found.design.metric == "em,loose" and scores_of(found, 0) == {0: [0, 1]}
    assert (found.questions[1].prompt, found.questions[1].answers) == ("what is 1?", ("1",))
    assert refused(words) == ('a.jsonl has several metrics: em,strict, em,loose. Choose one: SET="compare.metric=em,strict"')
    assert refused(words, metric="acc") == (
        "a.jsonl has no metric acc (it has: em,strict, em,loose). Name one of them: compare.metric"
    )


def refused(words, **how):
    with pytest.raises((DataError, RequestError)) as error:
        read_logs(words, **how)
    return str(error.value)


SAME = "Evaluate both on one held-out set"
KNOWN = (
    "Known are lm-evaluation-harness by doc_id, doc and filtered_resps (samples_*.jsonl); inspect_ai by eval, status and samples "
    "(.json; .eval is a zip archive); a plain table by question and score (JSON lines or csv)"
)


def test_what_is_refused_of_files():
    plain("a.jsonl", [1, 0])
    Path("empty.jsonl").write_text("")
    Path("other.jsonl").write_text('{"text": "hello"}\n')
    Path("wrong.jsonl").write_bytes(b'{"question": "q0", "score": 1}\n{"question": "\xe9", "score": 1}\n')
    Path("copy.jsonl").write_bytes(Path("a.jsonl").read_bytes())
    Path("broken.eval").write_bytes(b"PK\x03\x04 and then nothing")
    Path("folder").mkdir()
    assert refused([]) == 'LOGS names no file. Give the logs of two systems: LOGS="sft=a.jsonl dpo=b.jsonl"'
    assert refused(["none.jsonl"]) == "there is no file none.jsonl (from LOGS). Give the path of a log, or of a folder of logs"
    assert refused(["sft="]) == "LOGS names the system sft without a file. Give one: sft=samples.jsonl"
    whole = "Check that it is the file you meant and was written to its end"
    assert refused(["empty.jsonl"]) == f"empty.jsonl has no rows. {whole}"
    assert refused(["other.jsonl"]) == f"other.jsonl is no log of a known form (it begins with: 'text'). {KNOWN}"
    assert refused(["folder"]) == f"the folder folder holds no log of a known form. {KNOWN}"
    assert refused(["x=a.jsonl", "y=copy.jsonl"]) == (
        "copy.jsonl holds the same bytes as a.jsonl: two copies of one run are no two seeds and no two systems. "
        "Give each log once"
    )
    assert refused(["a.jsonl"]) == (
        "all of the logs are of one system, a, so there is nothing to compare. "
        'Name the systems where the logs do not: LOGS="sft=a.jsonl dpo=b.jsonl"'
    )
    assert "byte 45 of the file is 0xe9, which is not UTF-8" in refused(["a.jsonl", "wrong.jsonl"])
    assert refused(["broken.eval"]).startswith("broken.eval is a damaged zip archive (")


def test_a_line_that_no_memory_holds_is_refused(monkeypatch):
    monkeypatch.setattr("tasks.data.rows.LONGEST_LINE", 200)
    plain("a.jsonl", [1, 0])
    jsonl("b.jsonl", [{"question": "q0", "score": 1}, {"question": "q1", "score": 1, "text": "a" * 300}])
    assert refused(["a.jsonl", "b.jsonl"]).startswith("b.jsonl line 2 is longer than ")


def test_a_folder_of_logs_leaves_out_what_is_none():
    for system in ("base", "sft"):
        Path(system).mkdir()
        jsonl(f"{system}/samples_t_2026.jsonl", [lm_row(place, answer=system) for place in range(2)])
        Path(f"{system}/results_2026.json").write_text(json.dumps({"results": {}, "configs": {}}, indent=2))
    found = read_logs(["base", "sft"])
    assert [one.name for one in found.methods] == ["base", "sft"]
    assert found.notes == [f"1 of 2 files in {name} are no per-question logs, and were left out" for name in ("base", "sft")]


def test_what_is_refused_of_rows():
    plain("a.jsonl", [1, 0])
    row = {"question": "q0", "score": 1}
    cases = {
        "line 2: score must be a number, got 'good'": [row, {"question": "q1", "score": "good"}],
        "line 2: score must be a number, got nan": [row, {"question": "q1", "score": float("nan")}],
        "line 2: there is no score": [row, {"question": "q1"}],
        "line 2: the question 'q0' stands in line 1 already": [row, row],
        "line 1: seed must be a whole number, got 1.5": [row | {"seed": 1.5}],
        "line 1: question must be text or a whole number, got [1]": [{"question": [1], "score": 1}],
    }
    for problem, rows in cases.items():
        jsonl("b.jsonl", rows)
        assert refused(["a.jsonl", "b.jsonl"]) == f"b.jsonl {problem}. Correct the file, or write it again".replace(
            "line", "line", 1
        )


def test_other_questions_are_refused_naming_both_files():
    plain("a.jsonl", [1, 0, 1])
    plain("b.jsonl", [1, 0])
    assert refused(["a.jsonl", "b.jsonl"]) == (
        f"a.jsonl and b.jsonl do not hold the same questions: 1 of 3 stand in one of them only, the first is 'q2'. {SAME}"
    )
    jsonl("c.jsonl", [lm_row(0), lm_row(1)])
    jsonl("d.jsonl", [lm_row(0), lm_row(1, doc_hash="other")])
    assert refused(["c=c.jsonl", "d=d.jsonl"]) == (
        "c.jsonl and d.jsonl do not hold the same questions: 1 of 2 have the same id and another content, the first is '1'. "
        f"{SAME}"
    )


def test_unfinished_and_mixed_logs_of_inspect():
    inspect_log("a.json", [["C"], ["I"]], status="error")
    assert refused(["a.json"]) == (
        "a.json is the log of a run that did not finish (status error), so its questions are not all there. "
        "Finish it: inspect eval-retry"
    )
    inspect_log("b.json", [["C"], ["I"]])
    inspect_log("c.json", [["C"], ["C"]], eval={"task": "t", "model": "m", "model_args": {"temperature": 2}})
    assert refused(["b.json", "c.json"]) == (
        "b.json and c.json are both of m, with other tasks or settings, so they are no two seeds. "
        'Name the systems: LOGS="one=b.json two=c.json"'
    )
    assert refused(["one=b.json", "two=c.json"], reference="tow") == (
        "there is no system tow; did you mean two? in the logs (there are: one, two). Name one of them: compare.reference"
    )
    with zipfile.ZipFile("d.eval", "w") as archive:
        archive.writestr("_journal/start.json", "{}")
    assert "did not finish (status started)" in refused(["d.eval"])


def test_real_files_of_lm_evaluation_harness():
    folder = REAL / "lm_eval"
    found = read_logs([str(folder / "seed-0"), str(folder / "seed-1")], metric="exact_match,last-number")
    assert [one.name for one in found.methods] == ["models/base", "models/sft"] and len(found.questions) == 16
    assert [sorted(one.by_seed) for one in found.methods] == [[0, 1], [0, 1]]
    assert found.questions[0].prompt == "Mia has 13 coins, loses 4, multiplies 2 times. How many?"
    assert found.questions[0].answers == ("18",)
    whole = 'several metrics: exact_match,first-number, exact_match,last-number. Choose one: SET="compare.metric='
    assert whole in refused([str(folder / "seed-0")])


def test_real_choices_become_a_record():
    found = read_logs([str(REAL / "lm_eval" / "choice")], metric="acc_norm")
    rows = [json.loads(line) for line in next((REAL / "lm_eval/choice/models__sft").iterdir()).read_text().splitlines()]
    sft = next(one for one in found.methods if one.name == "models/sft")
    assert sft.by_seed[0].scores.tolist() == [row["acc_norm"] for row in rows]
    assert found.questions[0].answers == (rows[0]["doc"]["choices"][rows[0]["doc"]["gold"]],)
    record = build_comparison(
        design=found.design, questions=found.questions, methods=found.methods, facts=FACTS | {"source": "logs"}
    )
    assert record["verdict"].endswith("one seed: this speaks of these models, not of systems.")


@pytest.mark.parametrize(("form", "questions", "epochs"), [("eval", 6, 2), ("json", 2, 1)])
def test_real_files_of_inspect(form, questions, epochs):
    found = read_logs([str(REAL / "inspect_ai" / form)])
    assert [one.name for one in found.methods] == ["hf/base", "hf/sft"] and len(found.questions) == questions
    assert list(found.methods[0].by_seed) == [0]
    assert found.questions[0].prompt.endswith("How many?") and found.questions[0].answers[0].isdecimal()
    assert ("each question was answered 2 times, and its score is the mean" in found.notes) == (epochs == 2)


TEXT = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.dictionaries(TEXT, st.tuples(st.floats(-1e6, 1e6), TEXT), min_size=1, max_size=6),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
)
def test_a_plain_table_gives_back_what_was_written(tmp_path_factory, rows, seeds):
    folder = tmp_path_factory.mktemp("plain")
    for system in ("one", "two"):
        jsonl(
            str(folder / f"{system}.jsonl"),
            [
                {"system": system, "seed": seed, "question": name, "score": score, "text": text}
                for seed in seeds
                for name, (score, text) in rows.items()
            ],
        )
    found = read_logs([str(folder / "one.jsonl"), str(folder / "two.jsonl")])
    assert [question.id for question in found.questions] == list(rows)
    assert scores_of(found, 1) == {seed: [score for score, _ in rows.values()] for seed in seeds}
    assert found.methods[0].by_seed[seeds[0]].texts == [text for _, text in rows.values()]


@settings(max_examples=60, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["question", "score", "seed", "doc_id", "doc", "filtered_resps", "eval", "status", "samples"]
                    ),
                    inner,
                    max_size=9,
                )
            ),
            max_leaves=12,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "any.jsonl"
    path.write_bytes(content)
    with pytest.raises((DataError, RequestError)):
        read_logs([str(path)])
