"""The stage `part`: the ids of the held-out questions that are asked; and held-out pairs go with their questions."""

import json

import pytest
import torch

from posttrain.data.parts import part_of
from posttrain.errors import DataError
from posttrain.prompts import plain
from posttrain.records import Preference, Question
from posttrain.settings.evaluation import EvaluateSettings
from tasks.evaluation import references
from tasks.evaluation.evaluate import PART
from tasks.evaluation.part import part
from tasks.evaluation.references import PAIRS, preference_accuracy
from tasks.workspace.jsonl import write_rows

QUESTIONS = [Question(id=f"q{n}", prompt=f"n{n}a buys n{n}b n{n}c", answers=("1",)) for n in range(80)]


def written(folder, kind, **how):
    folder.mkdir(exist_ok=True)
    outcome = part(folder, lambda *_: None, settings=EvaluateSettings(part=kind), **how)
    return json.loads((folder / PART).read_text()), outcome.metrics


def test_the_two_parts_are_all_questions_and_none_twice(tmp_path):
    write_rows(tmp_path / "held_out.jsonl", (one.model_dump(mode="json") for one in QUESTIONS))
    chosen, _ = written(tmp_path / "d", "development", data=tmp_path)
    reported, metrics = written(tmp_path / "r", "reported", data=tmp_path)
    assert sorted(chosen + reported) == sorted(one.id for one in QUESTIONS)
    assert reported == [one.id for one in part_of(QUESTIONS, "reported", share=0.2)]
    assert metrics == {"questions": len(reported), "held_out": 80}


def test_without_questions_or_families_it_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"^the dataset has no held_out, which models are evaluated on\. "):
        written(tmp_path / "r", "reported", data=tmp_path)
    one = (question.model_copy(update={"family": "f"}).model_dump(mode="json") for question in QUESTIONS)
    write_rows(tmp_path / "held_out.jsonl", one)
    with pytest.raises(DataError, match=r"^the 80 held-out questions are one family "):
        written(tmp_path / "r", "reported", data=tmp_path)


def test_held_out_pairs_go_with_their_questions(tmp_path, monkeypatch):
    """Of four prompts two are asked; their margins are 3 > 1 and 0 < 2, so half of the pairs are preferred."""
    pairs = [Preference(id=str(n), prompt=f"p{n}", chosen="c", rejected="r") for n in range(4)]
    write_rows(tmp_path / PAIRS, (one.model_dump(mode="json") for one in pairs))
    asked = []

    def score(network, reader, *, prompts, responses, **how):
        asked.append(prompts)
        return torch.tensor({"p": {"c": [4, 1], "r": [2, 3]}, "q": {"c": [1, 1], "r": [1, 1]}}[network][responses[0]])

    monkeypatch.setattr(references, "score_responses", score)
    monkeypatch.setattr(references, "response_ids", lambda reader, prompts, texts, ends: texts)
    monkeypatch.setattr(references, "taught_end", lambda *_: 1)
    monkeypatch.setattr(references, "prompt_text", lambda reader, prompt: prompt)
    asked_of = {plain(prompt) for prompt in ("p1", "p3", "another")}
    told = preference_accuracy("p", "q", None, tmp_path, EvaluateSettings(), only_of=asked_of)
    assert asked[0] == ["p1", "p3"] and told.estimate == 0.5
    assert preference_accuracy("p", "q", None, tmp_path, EvaluateSettings(), only_of={plain("p1")}) is None
