"""What `ppo.reward` may name, and what each kind gives."""

import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig

from models.load import load_tokenizer, prompt_text
from models.size import size_of
from posttrain.compute import reading
from posttrain.errors import RequestError
from posttrain.graders import Grade
from tasks.rewards.load import graded, reward_function
from tasks.rewards.table import reward_source


def source(name, **how):
    return reward_source(name, **({"partial_credit": 0.0, "registered": Path} | how))


RECORD = {"id": "q1", "prompt": "Tom has 3 apples and finds 4. How many?", "answers": ["7"]}


def test_the_answer_grader_pays_right_answers_and_partial_credit_as_asked():
    texts = ["3 + 4 = 7. Answer: 7", "Answer: 8", "no idea"]
    told = reward_function(source("answer"))([""] * 3, texts, [RECORD] * 3)
    assert list(told.values) == [1.0, 0.0, 0.0]
    told = reward_function(source("answer", partial_credit=0.1))([""] * 3, texts, [RECORD] * 3)
    assert list(told.values) == [1.0, 0.1, 0.0]
    assert told.parts["right"] == [1.0, 0.0, 0.0]
    assert told.parts["partial"] == [0.0, 1.0, 0.0]
    assert len(told.reasons) == 3


def test_programs_are_run_and_their_value_is_compared():
    texts = ["def solution():\n    return 3 + 4\n", "def solution():\n    return 3 * 4\n", "Answer: 7"]
    told = reward_function(source("program", partial_credit=0.1))([""] * 3, texts, [RECORD] * 3)
    assert list(told.values) == [1.0, 0.1, 0.0]


def test_a_grader_of_a_file_is_read_and_its_text_is_part_of_the_key(tmp_path):
    file = tmp_path / "grader.json"
    spec = {
        "type": "string_check",
        "name": "polite",
        "operation": "like",
        "input": "{{sample.output_text}}",
        "reference": "please",
    }
    file.write_text(json.dumps(spec))
    first = source(str(file))
    told = reward_function(first)(["", ""], ["yes please", "no"], [RECORD] * 2)
    assert list(told.values) == [1.0, 0.0]
    file.write_text(json.dumps(spec | {"reference": "thanks"}))
    assert source(str(file)).digest != first.digest
    assert source("answer").digest != source("answer", partial_credit=0.1).digest


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("anser", "ppo.reward=anser: there is no such reward. It is answer, program, a grader's JSON file, model:"),
        ("python:nowhere", "a function is written python:<module>:<function>"),
        ("python:no_such_module_here:score", "there is no module no_such_module_here. Put no_such_module_here.py into"),
        ("model:/no/such/folder", "/no/such/folder is no model directory with config.json and *.safetensors"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_runs(name, said):
    with pytest.raises(RequestError) as error:
        source(name)
    assert said in str(error.value)
    assert str(error.value).startswith(f"ppo.reward={name}")


def test_a_registered_model_is_asked_for_by_its_address(tmp_path):
    (tmp_path / "config.json").write_text('{"id2label": {"0": "LABEL_0"}}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    asked = []

    def registered(uri):
        asked.append(uri)
        return tmp_path

    told = source("model:models:/rewards@challenger", registered=registered)
    assert asked == ["models:/rewards@challenger"]
    assert (told.kind, told.path, told.name) == ("model", str(tmp_path), "model:models:/rewards@challenger")
    assert told.digest == source(f"model:{tmp_path}").digest


def test_grades_with_different_parts_make_whole_columns():
    class Uneven:
        def grade(self, samples):
            return [Grade(1.0, True, parts={"polite": 0.5}), Grade(0.0, False, parts={"brief": 1.0})]

    told = graded(Uneven())(["", ""], ["a", "b"], [RECORD] * 2)
    assert told.parts["polite"] == [0.5, 0.0] and told.parts["brief"] == [0.0, 1.0]


def test_a_grader_file_that_is_no_grader_is_refused(tmp_path):
    file = tmp_path / "grader.json"
    file.write_text("{broken")
    with pytest.raises(RequestError, match="the file is no JSON"):
        source(str(file))
    file.write_text("[1]")
    with pytest.raises(RequestError, match="a grader is a JSON object with a type, got list"):
        source(str(file))
    file.write_text('{"type": "strng_check"}')
    with pytest.raises(RequestError, match="string_check"):
        source(str(file))


def test_functions_that_cannot_be_used_are_refused(tmp_path, monkeypatch):
    (tmp_path / "rewards_of_mine.py").write_text("score = 3\nraise_on_import = None\n")
    (tmp_path / "broken_rewards.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RequestError, match="score is int, not a function"):
        source("python:rewards_of_mine:score")
    with pytest.raises(RequestError, match="cannot be imported: AttributeError"):
        source("python:rewards_of_mine:scoer")
    with pytest.raises(RequestError, match="cannot be imported: ModuleNotFoundError: No module named 'no_such_library'"):
        source("python:broken_rewards:score")
    for name in ("rewards_of_mine", "broken_rewards"):
        sys.modules.pop(name, None)


def test_a_model_scores_prompt_and_completion_together(tiny_world, tmp_path):
    reader = load_tokenizer(tiny_world.tokenizer)
    torch.manual_seed(0)
    size = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    config = LlamaConfig(vocab_size=len(reader), pad_token_id=reader.pad_token_id, num_labels=1, **size)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(tmp_path / "model")
    reader.save_pretrained(tmp_path / "model")
    named = source(f"model:{tmp_path / 'model'}")
    prompt = prompt_text(reader, RECORD["prompt"])
    told = reward_function(named)([prompt, prompt], ["Answer: 7", "3 + 4 = 7. Answer: 7"], [RECORD] * 2)
    for text, value in zip(("Answer: 7", "3 + 4 = 7. Answer: 7"), told.values, strict=True):
        ids = reader(prompt + text + reader.eos_token, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            assert value == pytest.approx(model(ids).logits.item(), abs=1e-6)
    texts = [prompt + text + reader.eos_token for text in ("Answer: 7", "3 + 4 = 7. Answer: 7")]
    assert told.compute == reading(size_of(model), sum(map(len, reader(texts)["input_ids"])))
    (tmp_path / "model" / "extra.txt").write_text("another")
    assert source(named.name).digest != named.digest


def test_a_model_with_several_scores_is_refused(tiny_world, tmp_path):
    reader = load_tokenizer(tiny_world.tokenizer)
    size = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    config = LlamaConfig(vocab_size=len(reader), num_labels=3, **size)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    reader.save_pretrained(tmp_path)
    with pytest.raises(RequestError, match="a reward model has one score, this one has 3"):
        source(f"model:{tmp_path}")
