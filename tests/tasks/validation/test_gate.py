"""The gate as a stage: rows that pass are handed on byte for byte, a refusal can be looked into."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing

from models.load import load_tokenizer, prompt_text
from models.prompt_format import decide_format
from posttrain.data.lengths import Lengths
from posttrain.errors import DataError
from posttrain.records import Message
from posttrain.settings.data import ValidationSettings
from tasks.validation.gate import REPORTS, pass_gate
from tasks.validation.lengths import lengths_in
from tasks.validation.suite import suites_digest

SUITES = Path(__file__).parents[3] / "data" / "expectations"


@pytest.fixture
def data(tiny_world, tmp_path):
    return Path(shutil.copytree(tiny_world.data, tmp_path / "data"))


def passed(tmp_path, tiny_world, data, *, context=None, **settings):
    out = tmp_path / "out"
    out.mkdir()
    return pass_gate(
        out,
        lambda *_: None,
        data=data,
        dataset="world",
        tokenizer=tiny_world.tokenizer,
        context=context or tiny_world.context,
        settings=ValidationSettings(**settings),
        expectations=SUITES,
        findings=tmp_path / "findings" / "world",
    )


def spoil(path, *lines):
    """Empty the prompts of these lines."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        rows[line - 1]["prompt"] = " "
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_clean_dataset_passes_byte_for_byte(tmp_path, tiny_world, data):
    outcome = passed(tmp_path, tiny_world, data)
    rows = sum(len(path.read_text().splitlines()) for path in data.glob("*.jsonl"))
    lengths = lengths_in(tmp_path / "out").figures()
    assert outcome.metrics == {"rows": rows, "quarantined": 0, "warnings": outcome.metrics["warnings"], **lengths}
    for path in data.glob("*.jsonl"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    for name in REPORTS:
        assert (tmp_path / "findings" / "world" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize("is_text", [False, True])
@pytest.mark.parametrize("has_bos", [False, True])
def test_the_template_and_eos_are_counted_and_bos_once(tmp_path, tiny_world, has_bos, is_text):
    """Whether the prompt is a message, or plain text that goes through the template as one."""
    reader = load_tokenizer(tiny_world.tokenizer)
    if has_bos:
        bos = TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", reader.eos_token_id)])
        reader.backend_tokenizer.post_processor = bos
    if is_text:
        reader.chat_template = "Q " + reader.chat_template
        decide_format(reader, name="reader")
    reader.save_pretrained(tmp_path / "reader")
    prompt = "how many ?" if is_text else [{"role": "user", "content": "how many ?"}]
    row = {"id": "1", "prompt": prompt, "completion": "four apples"}
    data = tmp_path / "chat"
    data.mkdir()
    (data / "demonstrations.jsonl").write_text(json.dumps(row) + "\n")
    whole = prompt_text(reader, (Message(role="user", content="how many ?"),)) + "four apples" + reader.eos_token
    tokens = len(reader(whole)["input_ids"])
    assert (whole == "Q\n\nHuman: how many ?\n\nAssistant:four apples<eos>") is is_text
    assert tokens > 1 + has_bos + len(reader("how many ?four apples", add_special_tokens=False)["input_ids"])

    def judged(context, out):
        (tmp_path / out).mkdir()
        return pass_gate(
            tmp_path / out,
            lambda *_: None,
            data=data,
            dataset="chat",
            tokenizer=tmp_path / "reader",
            context=context,
            settings=ValidationSettings(),
            expectations=SUITES,
            findings=tmp_path / "findings",
        )

    assert judged(tokens, "fits").metrics["quarantined"] == 0
    with pytest.raises(DataError, match=f"prompt and completion have more than {tokens - 1} tokens together"):
        judged(tokens - 1, "one_less")


def test_a_few_bad_rows_are_put_aside(tmp_path, tiny_world, data):
    spoil(data / "questions.jsonl", 3)
    outcome = passed(tmp_path, tiny_world, data, max_critical_share=0.1)
    assert outcome.metrics["quarantined"] == 1
    kept = (tmp_path / "out" / "questions.jsonl").read_text().splitlines()
    assert kept == [line for number, line in enumerate((data / "questions.jsonl").read_text().splitlines(), 1) if number != 3]
    aside = (tmp_path / "findings" / "world" / "quarantine.jsonl").read_text().splitlines()
    assert len(aside) == 1 and "questions-2" in aside[0]


def test_too_many_close_the_gate_and_what_was_found_stays(tmp_path, tiny_world, data):
    spoil(data / "questions.jsonl", 1, 2, 3)
    with pytest.raises(DataError) as caught:
        passed(tmp_path, tiny_world, data, max_critical_share=0.1)
    told = str(caught.value)
    assert "questions.jsonl: 3 of 24 rows" in told and "validation.max_critical_share" in told
    findings = tmp_path / "findings" / "world"
    assert told.endswith(f"The rows lie in {findings / 'quarantine.jsonl'}. Mend or drop them, then run again")
    assert {path.name for path in findings.iterdir()} == set(REPORTS)


def test_tokens_are_those_of_the_model_in_use(tmp_path, tiny_world, data):
    """No story has fewer than 8 tokens, so within a context of 8 nothing is left to answer."""
    with pytest.raises(DataError, match="the prompt leaves no room for a response within 8 tokens"):
        passed(tmp_path, tiny_world, data, context=8)


def test_the_digest_of_the_suites_follows_every_byte_of_every_suite(tmp_path):
    copies = Path(shutil.copytree(SUITES, tmp_path / "suites"))
    before = suites_digest(copies)
    assert before == suites_digest(SUITES)
    (copies / "notes.txt").write_text("no suite")
    assert suites_digest(copies) == before
    for path in sorted(copies.glob("*.json")):
        path.write_text(path.read_text() + " ")
        assert suites_digest(copies) != before
        before = suites_digest(copies)


def test_lengths_are_those_of_the_rows_that_passed_eos_included(tmp_path, tiny_world):
    data = tmp_path / "data"
    data.mkdir()
    shown = [("how many ?", "four apples"), ("how much ?", "four"), (" ", "four four four four four four")]
    rows = [{"id": str(place), "prompt": prompt, "completion": said} for place, (prompt, said) in enumerate(shown)]
    asked = {"kind": "question", "id": "q", "prompt": "how many apples ?", "answers": ["4"]}
    held_out = {**asked, "prompt": "how many pears ?", "reference": "four four four"}
    for role, told in (("demonstrations", rows), ("questions", [asked]), ("held_out", [held_out])):
        (data / f"{role}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    outcome = passed(tmp_path, tiny_world, data, max_critical_share=0.5)
    assert outcome.metrics["quarantined"] == 1, "the row without a prompt"
    reader = load_tokenizer(tiny_world.tokenizer)

    def tokens(text):
        return len(reader(text)["input_ids"])

    references = {tokens("four apples<eos>"): 1, tokens("four<eos>"): 1}
    prompts = {tokens("how many apples ?\n"): 1, tokens("how many pears ?\n"): 1}
    prompts = prompts if len(prompts) == 2 else {next(iter(prompts)): 2}
    assert lengths_in(tmp_path / "out") == Lengths("demonstrations", references, prompts)
    assert outcome.metrics["references"] == 2 and outcome.metrics["reference_tokens_max"] == max(references)
    counts = json.loads((tmp_path / "out" / "lengths.json").read_text())
    assert counts["held_out"]["completions"] == {str(tokens("four four four<eos>")): 1}
    page = (tmp_path / "out" / "validation.html").read_text()
    assert (
        f"completions: {min(references)} tokens in the median, 95 % at most {max(references)}, longest {max(references)}" in page
    )
    assert json.loads((tmp_path / "out" / "validation.json").read_text())["lengths"]["references"] == 2
