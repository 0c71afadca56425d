"""The command that an import ends with is one that the pipeline takes for these records."""

import json

import pytest

from flows.training import check_roles
from posttrain.settings.config import merge
from tasks.data import dvc as versions
from tasks.data.dvc import bring_up_to_date
from tasks.data.importing import import_file
from tasks.data.next_step import next_step, sizes, summary
from tests.tasks.dvc_stub import stub

WORDS = [f"{one} {two} apples" for one in ("red", "green", "blue", "white", "black") for two in ("two", "six", "ten", "one")]


@pytest.fixture
def imported(paths, monkeypatch):
    monkeypatch.setattr(versions, "run_dvc", stub)

    def of(form, rows):
        (paths.root / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        import_file(paths, format=form, file="in.jsonl", name="mine")
        return bring_up_to_date(paths, "mine")

    return of


def records(kind, **fields):
    return [{"kind": kind, "id": str(number), "prompt": prompt, **fields} for number, prompt in enumerate(WORDS)]


@pytest.mark.parametrize(
    ("form", "rows", "method", "also"),
    [
        ("trl", [{"prompt": prompt, "chosen": "x", "rejected": "y"} for prompt in WORDS], "dpo", ""),
        ("trl", [{"prompt": prompt, "completion": "x"} for prompt in WORDS], "sft", ""),
        (
            "gsm8k",
            [{"question": prompt, "answer": "#### 4"} for prompt in WORDS],
            "sft",
            "METHOD=reft: the answers can be checked",
        ),
        ("records", records("question", answers=["4"]), "ppo", ""),
        ("records", records("question"), "ppo", 'SET="ppo.reward=python:<module>:<function>"'),
    ],
)
def test_the_method_that_is_named_takes_the_data(imported, form, rows, method, also):
    version = imported(form, rows)
    said = next_step(version)
    assert said.startswith(f"next: make validate DATA=mine, then make pipeline DATA=mine METHOD={method}")
    assert also in said and ("(or" in said) == ("reft" in also) and ("SET=" in said) == ("SET" in also)
    config = merge({"method": method, "data": {"name": "mine"}})
    check_roles(config, version.folder)


def test_what_no_method_takes_is_said(imported):
    said = next_step(imported("records", records("rating", completion="x", score=1, low=0, high=5)))
    assert said == (
        "next: make validate DATA=mine. Methods that learn from ratings and rankings start from SFT, which needs demonstrations: "
        "import a file that holds both (FORMAT=records)"
    )
    said = next_step(imported("trl", [{"text": "a b c"}, {"text": "d e f"}]))
    assert "no method learns from them alone" in said and "METHOD" not in said
    said = next_step(imported("trl", [{"prompt": prompt, "completion": "x"} for prompt in WORDS[:5]]))
    assert said == (
        "next: make validate DATA=mine. A pipeline asks for 2 held-out questions at least, and there are 1: import more records, "
        "or raise split.held_out in params.yaml, then make data DATA=mine"
    )


def test_the_sizes_of_all_parts_are_said(imported):
    version = imported("trl", [{"prompt": prompt, "completion": "x"} for prompt in WORDS])
    assert sizes(version) == {"corpus": 18, "demonstrations": 18, "held_out": 2, "questions": 18}
    assert summary(version) == f"split into 18 corpus, 18 demonstrations, 2 held out, 18 questions (md5 {version.md5})"
