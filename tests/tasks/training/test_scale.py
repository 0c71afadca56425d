"""What training really holds, counted tensor by tensor, against the sums of posttrain/advice/memory.py.

A sum may be a fifth above what is held or below (`NEAR`). Few rows tell what networks take, many rows what a row adds; where the
vocabulary is large that is logits, else activations. So a figure that is twice or half of what is held fails somewhere.
"""

from dataclasses import replace
from itertools import islice, permutations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.checkpointing import let_checkpoint
from models.load import load_tokenizer
from models.policy import policy_and_critic
from models.reward import reward_network
from models.reward_training import Group, train_reward_network
from posttrain.advice.memory import ACTIVATION_BYTES, KEPT_BYTES, TRAINED, memory_of, reward_model_memory
from posttrain.advice.situation import Asked, Base, Machine, Situation
from posttrain.methods import METHODS
from posttrain.rl.grpo import GroupRelative
from posttrain.rl.rewards import Rewards
from posttrain.rl.rollout import Sampled
from posttrain.scale.rates import Loop, update_flops
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.grpo import GRPOSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.reward_model import RewardModelSettings
from posttrain.settings.sft import SFTSettings
from tasks.training import dpo, sft
from tasks.training.trl import tokenised
from tasks.workspace.jsonl import write_rows
from tests.live_bytes import LiveBytes, bytes_of
from tests.tiny_ppo import llama, run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
NEAR = {"rel": 0.2}
PROMPT, RESPONSE = 12, 20
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 224,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.02,
}
FEW_WORDS, WORDS, MANY_WORDS = 16, 512, 8_192


def situation(rows, *, words=WORDS, **asked):
    """Return a small Llama on a machine without a GPU, where rows are as long as prompt and response."""
    return Situation(
        base=Base(
            name="a small Llama",
            is_tiny=False,
            weights=sum(weight.numel() for weight in llama(**SHAPE, vocab_size=words).parameters()),
            layers=4,
            width=64,
            cache_width=2 * 2 * 16,
            vocabulary=words,
            context=64,
        ),
        machine=Machine(),
        prompt_tokens=PROMPT,
        long_response_tokens=RESPONSE,
        asked=Asked(device_rows=dict.fromkeys(("ppo", "grpo", "sft", "dpo", "reward_model"), rows), **asked),
    )


@pytest.fixture
def states(monkeypatch):
    """Bytes of weights, gradients and Adam's moments at the last step of any optimiser, and how many weights have them."""
    seen, step = {}, torch.optim.AdamW.step

    def noted(self, *args, **how):
        weights = [weight for group in self.param_groups for weight in group["params"]]
        seen.update(
            count=sum(weight.numel() for weight in weights),
            weights=bytes_of(*weights),
            gradients=bytes_of(*(weight.grad for weight in weights)),
        )
        told = step(self, *args, **how)
        moments = [moment for one in self.state.values() for name, moment in one.items() if name.startswith("exp_avg")]
        seen["Adam"] = bytes_of(*moments)
        return told

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    return seen


def holds_what_is_counted(states):
    """Hold the bytes of a trained weight to the table, exactly."""
    assert {name: states[name] / states["count"] for name in TRAINED} == TRAINED


# --- the loop that samples as it trains -------------------------------------------------------------------------------


def loop_of(rows, *, words=WORDS, critic="separate", estimator=None):
    """Return the most that tensors held at a time in an update, from the networks on, and its operations less sampling's."""

    def fixed(asked, chance):
        # prompts and responses of one length each, of whatever tokens
        draw = torch.Generator().manual_seed(1)
        prompts, drawn = (torch.randint(2, words, (len(asked), size), generator=draw).tolist() for size in (PROMPT, RESPONSE))
        return prompts, Sampled(drawn, [torch.zeros(RESPONSE)] * len(asked), [True] * len(asked))

    # two parts a step, so that the first one's gradients are there, and two steps, so that Adam's moments are
    settings = {"episodes": 4 * rows, "mini_batch_size": 2 * rows, "device_batch_size": rows, "max_new_tokens": RESPONSE}
    with FlopCounterMode(display=False) as operations, LiveBytes() as held:
        run(
            policy_and_critic(llama(**SHAPE, vocab_size=words), critic=critic),
            draw=fixed,
            reward=lambda asked, responses: Rewards(values=[float(sum(one) % 7) for one in responses], parts={}, reasons=[]),
            critic=critic,
            estimator=estimator,
            **{**settings, "old_logprobs": "recomputed", "sampler_tolerance": 99.0, "updates": 1, "epochs": 1},
        )
    return held.peak, operations.get_total_flops()


def kind_of_loop(case):
    """Return a method's row, what its settings ask for, and what `loop_of` takes for it."""
    if case == "grpo":
        how = {"critic": "none", "estimator": GroupRelative(GRPOSettings(num_generations=2))}
        return METHODS["grpo"], {}, how
    return METHODS["reft"], {"has_shared_critic": case == "shared"}, {"critic": case}


@pytest.mark.parametrize(
    ("case", "words"), [("separate", WORDS), ("shared", WORDS), ("grpo", WORDS), ("shared", MANY_WORDS)], ids=str
)
def test_memory_of_ppos_loop(states, case, words):
    method, asked, how = kind_of_loop(case)
    # with many words few rows have an optimiser's step as their peak, whose work on the embedding is left out of the sums
    sizes = (2, 16) if words == WORDS else (12, 32)
    few, many = (loop_of(rows, words=words, **how)[0] for rows in sizes)
    holds_what_is_counted(states)
    told = [memory_of(method, situation(rows, words=words, **asked)).likely for rows in sizes]
    assert few == pytest.approx(told[0], **NEAR)
    assert many - few == pytest.approx(told[1] - told[0], **NEAR)


@pytest.mark.parametrize("case", ["separate", "shared", "grpo"])
def test_operations_of_ppos_loop(case):
    """With a few words only, since looking an embedding up takes none, and logits are those of response tokens."""
    method, asked, how = kind_of_loop(case)
    loop = Loop(episodes=16, epochs=1, prompt=PROMPT, response=RESPONSE)
    told = update_flops(method, situation(4, words=FEW_WORDS, **asked), loop)
    assert loop_of(4, words=FEW_WORDS, **how)[1] == pytest.approx(told, rel=0.06)


# --- trainers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def start(tiny_world, tmp_path):
    """A base of the small Llama's shape with the tiny world's tokenizer, which has fewer words."""
    folder = tmp_path / "start" / "model"
    llama(**SHAPE, vocab_size=MANY_WORDS).save_pretrained(folder)
    load_tokenizer(tiny_world.tokenizer).save_pretrained(folder)
    return folder.parent


def peak_of(train, out, world, **how):
    """Return the most that tensors held at a time in a stage of two steps."""
    out.mkdir()
    with LiveBytes() as held:
        train(out, lambda *_: None, tokenizer=world.tokenizer, model=ModelSettings(), context=world.context, seed=0, **how)
    return held.peak


def compared(method, lengths, peaks, states):
    """Hold peaks of 2 and of 16 rows to the sums."""
    prompt, response = lengths
    told = [
        memory_of(
            METHODS[method], replace(situation(rows, words=MANY_WORDS), prompt_tokens=prompt, long_response_tokens=response)
        ).likely
        for rows in (2, 16)
    ]
    holds_what_is_counted(states)
    assert peaks[0] == pytest.approx(told[0], **NEAR)
    assert peaks[1] - peaks[0] == pytest.approx(told[1] - told[0], **NEAR)


def test_sft(tiny_world, world_records, start, states, tmp_path):
    one = world_records["demonstrations"][0]
    heads, tails = tokenised(load_tokenizer(tiny_world.tokenizer), [(one.prompt, one.completion, True)])
    (tmp_path / "data").mkdir()
    rows = [one.model_dump(mode="json") | {"id": f"d{number}"} for number in range(64)]
    write_rows(tmp_path / "data" / "demonstrations.jsonl", rows)
    peaks = [
        peak_of(
            sft.train,
            tmp_path / f"out {size}",
            tiny_world,
            data=tmp_path / "data",
            base=start,
            settings=SFTSettings(batch_size=2 * size, device_batch_size=size, max_steps=2),
        )
        for size in (2, 16)
    ]
    compared("sft", (len(heads[0]), len(tails[0])), peaks, states)


def test_dpo(tiny_world, world_records, start, states, tmp_path):
    question = world_records["questions"][0]
    label = {"kind": "label", "source": "person", "annotator": "a", "preference": 1.0}
    label |= {"prompt": question.model_dump(mode="json")["prompt"], "second": "8 7 6 5 4 3 2 1"}
    orders = islice(permutations("12345678"), 64)
    rows = [
        label | {"first": " ".join(order), "question": f"q{number}", "id": f"l{number}", "group": f"g{number}"}
        for number, order in enumerate(orders)
    ]
    (tmp_path / "labels").mkdir()
    write_rows(tmp_path / "labels" / "labels.jsonl", rows)
    heads, tails = tokenised(load_tokenizer(tiny_world.tokenizer), [(question.prompt, label["second"], True)])
    peaks = [
        peak_of(
            dpo.train,
            tmp_path / f"out {size}",
            tiny_world,
            labels=tmp_path / "labels",
            start=start,
            settings=DPOSettings(batch_size=2 * size, device_batch_size=size, max_steps=2),
        )
        for size in (2, 16)
    ]
    compared("dpo", (len(heads[0]), len(tails[0])), peaks, states)


def reward_models_of(folder, rows, checkpointing, *, layers=4):
    """Return the most that tensors held at a time while a reward model was trained, for each number of rows at once."""
    llama(**{**SHAPE, "num_hidden_layers": layers}, vocab_size=WORDS).save_pretrained(folder)
    model, peaks = ModelSettings(gradient_checkpointing=checkpointing), []
    for size in rows:
        with LiveBytes() as held:
            network = reward_network(folder, model, on=torch.device("cpu"), pad=0, seed=0)
            draw = torch.Generator().manual_seed(1)
            responses = torch.randint(2, WORDS, (4 * size, PROMPT + RESPONSE), generator=draw).tolist()
            groups = [Group(responses[place : place + 2], [(0, 1, 1.0, 0.0)]) for place in range(0, 4 * size, 2)]
            settings = RewardModelSettings(batch_size=size, device_batch_size=size, epochs=1)
            list(train_reward_network(let_checkpoint(network, model).train(), groups, settings, seed=0))
        peaks.append(held.peak)
    return peaks


def test_a_reward_model(states, tmp_path):
    """A score and no logits: what a row adds is activations."""
    few, many = reward_models_of(tmp_path, (4, 32), "off")
    holds_what_is_counted(states)
    # half of the words' weights: it has no output layer
    told = [reward_model_memory(situation(rows, words=WORDS // 2)).likely for rows in (4, 32)]
    assert few == pytest.approx(told[0], **NEAR)
    assert many - few == pytest.approx(told[1] - told[0], **NEAR)


def test_activations_that_are_computed_again(tmp_path):
    """Each block adds its input; one block, and what is behind the last one, is whole at a time."""
    added = {}
    for layers in (4, 12):
        few, many = reward_models_of(tmp_path / str(layers), (4, 32), "on", layers=layers)
        added[layers] = (many - few) / (28 * (PROMPT + RESPONSE) * SHAPE["hidden_size"])
    assert (added[12] - added[4]) / 8 == pytest.approx(KEPT_BYTES, **NEAR)
    assert added[4] == pytest.approx(4 * KEPT_BYTES + ACTIVATION_BYTES[4], rel=0.3)
    told = [reward_model_memory(situation(rows, is_checkpointed=True)).likely for rows in (4, 32)]
    assert (told[1] - told[0]) / (28 * (PROMPT + RESPONSE) * SHAPE["hidden_size"]) == 4 * KEPT_BYTES + ACTIVATION_BYTES[4]
