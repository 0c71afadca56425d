"""Which demonstrations are shown, that they fit, and that nothing is trained."""

import json

import pytest
import torch
from safetensors.torch import load_file

from models.load import load_tokenizer
from models.prompt_format import decide_format
from models.shots import prompt_after, shots_of
from posttrain.errors import DataError
from posttrain.records import Demonstration
from posttrain.settings.evaluation import EvaluateSettings
from posttrain.settings.few_shot import FewShotSettings
from posttrain.settings.model import ModelSettings
from tasks.evaluation.evaluate import PROBLEMS, evaluate
from tasks.training import few_shot
from tasks.training.few_shot import drawn
from tasks.workspace.jsonl import write_rows


def shown(out, tiny_world, *, shots=2, context=None, data=None, seed=0, tokenizer=None):
    out.mkdir()
    return few_shot.train(
        out,
        lambda *_: None,
        data=data or tiny_world.data,
        start=tiny_world.base,
        tokenizer=tokenizer or tiny_world.tokenizer,
        model=ModelSettings(context=tiny_world.context),
        settings=FewShotSettings.model_construct(shots=shots),
        max_new_tokens=12,
        context=context or tiny_world.context,
        seed=seed,
    )


def lengths(tiny_world, records):
    reader = load_tokenizer(tiny_world.tokenizer)
    return [len(reader(one.prompt + "\n")["input_ids"]) for one in records]


def test_the_model_is_the_base_with_demonstrations_beside_it(tmp_path, tiny_world, world_records):
    told = shown(tmp_path / "out", tiny_world)
    weights, base = (load_file(folder / "model" / "model.safetensors") for folder in (tmp_path / "out", tiny_world.base))
    assert weights.keys() == base.keys() and all(torch.equal(weights[name], base[name]) for name in base)
    shots = shots_of(tmp_path / "out")
    assert len(shots) == 2 and all(one in world_records["demonstrations"] for one in shots)
    assert {file.name for file in (tmp_path / "out" / "model").iterdir()} >= {"config.json", "shots.json", "README.md"}
    reader = load_tokenizer(tiny_world.tokenizer)
    # two demonstrations with EOS behind each
    tokens = sum(len(reader(f"{one.prompt}\n{one.completion}")["input_ids"]) + 1 for one in shots)
    assert told.metrics == {"shots": 2, "shot_tokens": tokens, "demonstrations": 32} and not told.costs


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the recipe leaves a file to be closed
@pytest.mark.parametrize(("is_chat", "system"), [(False, None), (True, None), (True, 'Say "yes".')])
def test_the_card_puts_demonstrations_where_evaluation_had_them(tmp_path, tiny_world, is_chat, system):
    """The recipe of the card is run as it stands there, and gives the prompt that evaluation reads."""
    reader = load_tokenizer(tiny_world.tokenizer)
    if is_chat:
        reader.chat_template = "Q " + reader.chat_template
        decide_format(reader, system=system, name="x")
    reader.save_pretrained(tmp_path / "reader")
    shown(tmp_path / "out", tiny_world, tokenizer=tmp_path / "reader")
    folder = tmp_path / "out" / "model"
    recipe = "\n".join(line[4:] for line in (folder / "README.md").read_text().splitlines() if line.startswith("    "))
    asked = "Tom has 12 apples, finds 5. How many?"
    found = {"json": json, "folder": folder, "tokenizer": load_tokenizer(folder)}
    exec(recipe, found)
    assert (
        found["prompt"]["input_ids"][0].tolist() == reader(prompt_after(reader, shots_of(tmp_path / "out"), asked))["input_ids"]
    )


def test_a_larger_draw_begins_as_a_smaller_one_and_the_seed_decides(tiny_world, world_records):
    reader, found = load_tokenizer(tiny_world.tokenizer), world_records["demonstrations"]

    def draw(most, seed):
        return [one.id for one in drawn(reader, found, before="Tom.", most=most, room=10_000, seed=seed)]

    assert draw(5, 0)[:3] == draw(3, 0) != draw(3, 1)
    assert draw(99, 0) != [one.id for one in found] and sorted(draw(99, 0)) == sorted(one.id for one in found)


def test_as_many_are_shown_as_leave_every_response_its_room(tmp_path, tiny_world, world_records):
    told = shown(tmp_path / "out", tiny_world, shots=30)
    shots, reader = shots_of(tmp_path / "out"), load_tokenizer(tiny_world.tokenizer)
    assert 1 <= len(shots) == told.metrics["shots"] < 30

    def most(shots):
        prompts = [prompt_after(reader, shots, one.prompt) for one in world_records["held_out"]]
        return max(len(reader(prompt)["input_ids"]) for prompt in prompts) + 12

    assert most(shots) <= tiny_world.context
    left = [one for one in world_records["demonstrations"] if one not in shots]
    assert all(most([*shots, one]) > tiny_world.context for one in left), "not one more would have fitted"


def test_a_demonstration_may_fill_the_room_to_the_last_token(tiny_world, world_records):
    reader, found = load_tokenizer(tiny_world.tokenizer), world_records["demonstrations"][:1]
    tokens = len(reader(prompt_after(reader, found, "Tom."))["input_ids"])
    assert drawn(reader, found, before="Tom.", most=1, room=tokens, seed=0) == found
    assert drawn(reader, found, before="Tom.", most=1, room=tokens - 1, seed=0) == []


def test_one_that_fills_the_context_is_passed_over(tiny_world, world_records):
    reader = load_tokenizer(tiny_world.tokenizer)
    long = [Demonstration(id=f"long {n}", prompt="Tom has 3 apples. " * 40, completion="Answer: 3") for n in range(20)]
    short = world_records["demonstrations"][:2]
    told = drawn(reader, [*long, *short], before="Tom.", most=2, room=200, seed=0)
    assert sorted(one.id for one in told) == sorted(one.id for one in short)


def test_no_room_for_one_is_refused(tmp_path, tiny_world, world_records):
    longest = max(lengths(tiny_world, world_records["held_out"]))
    with pytest.raises(DataError) as caught:
        shown(tmp_path / "out", tiny_world, context=longest + 15)
    assert str(caught.value) == (
        f"few-shot prompting has no room for one demonstration: the longest held-out prompt has {longest} tokens, a response 12 "
        f"(evaluate.max_new_tokens), and the context {longest + 15}. Raise model.context, or lower evaluate.max_new_tokens"
    )
    assert not list((tmp_path / "out").iterdir())


def test_without_demonstrations_it_is_refused(tmp_path, tiny_world, world_records):
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "held_out.jsonl", (one.model_dump(mode="json") for one in world_records["held_out"]))
    with pytest.raises(DataError, match=r"^the dataset has no demonstrations, which few-shot prompting shows\. Import"):
        shown(tmp_path / "out", tiny_world, data=tmp_path / "data")


# --- evaluation ---------------------------------------------------------------------------------------------------------


def evaluated(out, tiny_world, subject, *, against=None):
    out.mkdir()
    return evaluate(
        out,
        lambda *_: None,
        title="test",
        data=tiny_world.data,
        part=None,
        subject=subject,
        reference=tiny_world.base,
        reference_results=against,
        is_policy=False,
        tokenizer=tiny_world.tokenizer,
        model=ModelSettings(context=tiny_world.context),
        settings=EvaluateSettings(max_questions=6, max_new_tokens=12, batch_size=16),
        context=tiny_world.context,
        seed=0,
    )


@pytest.fixture(scope="module")
def of_base(tmp_path_factory, tiny_world):
    out = tmp_path_factory.mktemp("evaluated") / "base"
    evaluated(out, tiny_world, tiny_world.base)
    return out


def test_no_demonstration_at_all_gives_the_bases_answers_to_the_bit(tmp_path, tiny_world, of_base, monkeypatch):
    shown(tmp_path / "model", tiny_world, shots=1)
    file = tmp_path / "model" / "model" / "shots.json"
    file.write_text('{"text": "", "shots": []}')
    told = evaluated(tmp_path / "out", tiny_world, tmp_path / "model", against=of_base)
    assert (tmp_path / "out" / PROBLEMS).read_bytes() == (of_base / PROBLEMS).read_bytes()
    assert told.metrics["kl"] == 0.0, "the prompts are the same, so it is defined"


def test_demonstrations_change_what_is_answered_and_leave_no_kl(tmp_path, tiny_world, of_base):
    shown(tmp_path / "model", tiny_world)
    told = evaluated(tmp_path / "out", tiny_world, tmp_path / "model", against=of_base)
    assert (tmp_path / "out" / PROBLEMS).read_bytes() != (of_base / PROBLEMS).read_bytes()
    assert not {"kl", "kl_low", "kl_high", "preference_accuracy"} & told.metrics.keys()
    assert {"accuracy", "accuracy_gain", "win_rate", "finished"} <= told.metrics.keys()
