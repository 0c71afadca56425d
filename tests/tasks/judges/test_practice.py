"""The judge's practice: which documents it reads, what it weighs, what it leaves."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models import practice
from models.load import load_model, load_tokenizer
from models.tiny import network
from posttrain.errors import ContractError, RequestError
from posttrain.judges.reviews import VERDICTS, reviewer
from posttrain.records import Question
from posttrain.settings.feedback import LabelSettings
from posttrain.settings.judge import JudgeSettings
from posttrain.settings.model import ModelSettings, TinySettings
from tasks.feedback.sources import judge as ai
from tasks.judges import practice as subject
from tasks.judges.practice import practise_judge
from tasks.workspace.jsonl import read_records, write_rows
from tests.posttrain.data.test_world import family_of
from tests.tasks.judge_sources import judge_of

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")


def practised(out, tiny_world, *, steps=3, seed=0, tokenizer=None, log=lambda step, figures: None):
    out.mkdir()
    return practise_judge(
        out,
        log,
        data=tiny_world.data,
        base=tiny_world.base,
        tokenizer=tokenizer or tiny_world.tokenizer,
        model=ModelSettings(context=tiny_world.context),
        settings=JudgeSettings(practice_steps=steps),
        context=tiny_world.context,
        seed=seed,
    )


def weights_of(folder):
    return load_file(folder / "model" / "model.safetensors")


def read_by(monkeypatch):
    """Return where the documents land that the stage hands to the practice, which then does nothing."""
    seen = {}

    def nothing(model, documents, **how):
        seen.update(documents=documents, **how)
        with torch.no_grad():
            next(model.parameters()).add_(1.0)  # a practice that moves nothing is refused
        return iter(())

    monkeypatch.setattr(subject, "practise", nothing)
    return seen


# --- what it reads ----------------------------------------------------------------------------------------------------


def test_no_story_of_another_role_is_reviewed(tmp_path, tiny_world, monkeypatch):
    seen = read_by(monkeypatch)
    practised(tmp_path / "out", tiny_world, steps=40)
    reader = load_tokenizer(tiny_world.tokenizer)
    stories = [reader.decode(ids).partition("\n")[0] for ids in seen["documents"]]
    taken = {record.family for role, kind in subject.TAKEN for record in read_records(tiny_world.data / f"{role}.jsonl", kind)}
    assert len(stories) == 40 * subject.DOCUMENTS_A_STEP and len(taken) > 20
    assert not taken & {_family(story) for story in stories}


def test_every_taken_family_is_handed_on(tmp_path, tiny_world, monkeypatch):
    """Chance would hardly meet one, so what is handed to the author of the reviews is looked at as well."""
    seen, handed = read_by(monkeypatch), {}

    def reviews(taken, **how):
        handed.update(taken=taken, **how)
        return iter(["Tom has 2 apples, finds 3. How many?\n2 + 3 = 5. Answer: 5\nVerdict: right"])

    monkeypatch.setattr(subject, "reviews", reviews)
    practised(tmp_path / "out", tiny_world, seed=7)
    assert {role for role, _ in subject.TAKEN} == {"held_out", "questions", "demonstrations"}
    for role, kind in subject.TAKEN:
        families = {record.family for record in read_records(tiny_world.data / f"{role}.jsonl", kind)}
        assert families and families <= handed["taken"]
    assert (handed["seed"], seen["seed"]) == ("7/practice", 7)
    assert handed["by"] == reviewer("", slip_share=0.1), "as judge.misread_verbs and judge.slip_share say"


def test_a_practice_that_moves_nothing_is_refused(tmp_path, tiny_world, monkeypatch):
    monkeypatch.setattr(subject, "practise", lambda *given, **how: iter(()))
    with pytest.raises(
        ContractError, match=r"judge ended with the very weights that it started from.*Raise judge\.practice_steps, keep"
    ):
        practised(tmp_path / "out", tiny_world)


def _family(story):
    start, events = family_of(story)
    return " ".join([str(start), *(f"{verb.replace(' ', '-')} {number}" for verb, number in events)])


def test_documents_end_in_eos_within_the_context_and_verdicts_are_one_token_each(tmp_path, tiny_world, monkeypatch):
    seen = read_by(monkeypatch)
    practised(tmp_path / "out", tiny_world)
    reader = load_tokenizer(tiny_world.tokenizer)
    assert all(ids[-1] == reader.eos_token_id and len(ids) <= tiny_world.context for ids in seen["documents"])
    assert [reader.decode([token]) for token in seen["verdicts"]] == list(VERDICTS)
    assert not any(reader.unk_token_id in ids for ids in seen["documents"])


def test_a_world_without_reviews_is_refused_since_its_base_has_no_word_for_a_verdict(tmp_path, tiny_world):
    from models.tokenizers import world_tokenizer

    world_tokenizer(["Tom has 2 apples, finds 3. How many?\n2 + 3 = 5. Answer: 5"]).save_pretrained(tmp_path / "reader")
    with pytest.raises(RequestError, match="the judge's tokenizer does not know the option ' right'"):
        practised(tmp_path / "out", tiny_world, tokenizer=tmp_path / "reader")


# --- what it weighs ---------------------------------------------------------------------------------------------------


def test_the_loss_gives_a_verdict_thirty_times_the_weight(monkeypatch):
    seen = []

    def loss(logits, ids, weight):
        seen.append((ids, weight))
        return logits.sum() * 0

    monkeypatch.setattr(practice, "weighted_next_token_loss", loss)
    torch.manual_seed(0)
    model = network(TinySettings(layers=1, width=16, heads=2), vocabulary=20, context=16, pad=0, eos=1)
    steps = list(practice.practise(model, [[5, 6, 7, 1], [8, 1]], verdicts=[7, 8], steps=1, seed=0, pad=0))
    ((ids, weight),) = seen
    told = {tuple(row.tolist()): heavy.tolist() for row, heavy in zip(ids, weight, strict=True)}
    assert told == {(5, 6, 7, 1): [1, 1, 30, 1], (8, 1, 0, 0): [30, 1, 0, 0]}
    assert [one.tokens for one in steps] == [6]


def test_practice_learns_a_verdict_that_reading_alone_leaves_for_later(monkeypatch):
    """Documents of random words with one verdict that the first word decides; equal steps with and without its weight."""
    random = torch.Generator().manual_seed(0)
    documents = []
    for number in range(200):
        words = torch.randint(10, 20, (12,), generator=random).tolist()
        documents.append([4 + number % 2, *words, 2 + number % 2, 1])

    def missed(weight):
        monkeypatch.setattr(practice, "VERDICT_WEIGHT", weight)
        torch.manual_seed(0)
        model = network(TinySettings(layers=1, width=16, heads=2), vocabulary=20, context=16, pad=0, eos=1)
        for _ in practice.practise(model, documents, verdicts=[2, 3], steps=60, seed=0, pad=0):
            pass
        assert not model.training
        ids = torch.tensor(documents)
        with torch.inference_mode():
            logprobs = model(input_ids=ids).logits[:, -3].log_softmax(-1)
        return -logprobs.gather(-1, ids[:, -2:-1]).mean().item()

    assert missed(30.0) < 0.7 * missed(1.0)


# --- what it leaves ---------------------------------------------------------------------------------------------------


def test_the_judge_is_a_model_that_loads_and_is_not_the_base(tmp_path, tiny_world):
    points = []
    before = weights_of(tiny_world.base)
    outcome = practised(tmp_path / "out", tiny_world, steps=20, log=lambda step, figures: points.append((step, figures)))
    made = weights_of(tmp_path / "out")
    assert set(made) == set(before) and not any(torch.equal(made[name], before[name]) for name in made)
    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(tiny_world.base).items())
    load_model(tmp_path / "out" / "model", ModelSettings(context=tiny_world.context), on=CPU)
    assert [step for step, _ in points] == [20] and outcome.metrics == {"loss": points[0][1]["loss"]}
    assert outcome.costs["trained_tokens"] > 20 * 1_000


def test_the_same_seed_gives_the_same_judge_bit_for_bit_and_another_does_not(tmp_path, tiny_world):
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        practised(tmp_path / name, tiny_world, seed=seed)
    first, again, other = (weights_of(tmp_path / name) for name in ("first", "again", "other"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_it_takes_the_place_of_the_base_in_labelling_and_says_other_things(tmp_path, tiny_world):
    practised(tmp_path / "judge", tiny_world, steps=20)
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    rows = [
        {
            "question": question.model_dump(mode="json"),
            "responses": [[f"1 + 1 = 2. Answer: {question.answers[0]}", True], ["1 + 1 = 2. So 77", True]],
        }
        for question in read_records(tiny_world.data / "questions.jsonl", Question)
    ]
    write_rows(drawn / "samples.jsonl", rows)
    told = []
    for base in (tiny_world.base, tmp_path / "judge"):
        out = tmp_path / f"labels of {base.name}"
        out.mkdir()
        ai.label(
            out,
            lambda *_: None,
            samples=drawn,
            judge=judge_of(tiny_world, tmp_path / "cache", base=base, min_conviction=0.0, max_flips=1.0),
            settings=LabelSettings(),
            findings=tmp_path / "findings",
            model_uri="stage:sft/abc",
            seed=0,
        )
        told.append(json.loads((out / "judge.json").read_text()))
    as_it_is, after = told
    assert as_it_is["judge"] != after["judge"] and after["usage"]["cached"] == 0
    assert as_it_is["conviction"] != after["conviction"]
