"""Tables and lines of what a base takes, by hand on a base of a thousand million weights without activations to speak of."""

from dataclasses import replace

import pytest

from posttrain.advice.memory import memory_of
from posttrain.advice.situation import Asked, Base
from posttrain.methods import METHODS
from posttrain.scale.page import Plan, memory_table, planned, plans_of, rates_table, report
from posttrain.scale.rates import GB, Device, Loop

BASE = Base(name="b", is_tiny=False, weights=GB, adapter_width=1_000, layers=1, width=1, cache_width=1, vocabulary=1, context=512)
ASKED = Asked(has_shared_critic=True)
DEVICE = Device(memory=20 * GB)
LENGTHS = {"prompt": 6, "response": 4}
LOOP = Loop(episodes=8, epochs=1, **LENGTHS)


def plan(name):
    return Plan(name, lambda situation: memory_of(METHODS[name], situation), ASKED)


def test_a_table_by_hand():
    """SFT: 16 + 2 GB fit into 20; ReFT: 16 + 4 + 2 do not, of two GPUs 10 each and a whole policy of 4 do."""
    told = memory_table(BASE, [plan("sft"), plan("reft")], gpus=[1, 2], device=DEVICE, **LENGTHS)
    assert told.splitlines() == [
        "| GB of each GPU | 1 GPU | 2 GPUs | fits from |",
        "|---|---|---|---|",
        "| sft | **18** | **14** | 1 |",
        "| reft | 22: trained network | **16** | 2 |",
        "| evaluation | **4** | **4** | 1 |",
    ]


def test_what_never_fits_is_told_with_what_is_in_the_way():
    told = memory_table(BASE, [plan("reft")], gpus=[1], device=Device(memory=3 * GB), **LENGTHS)
    assert told.splitlines()[2:] == [
        "| reft | 22: trained network | never: gathered blocks |",
        "| evaluation | 4: two models | never: one process |",
    ]


def test_a_row_for_each_trainer_with_all_weights_and_with_adapters():
    plans = plans_of({False: Asked(), True: Asked(lora_rank=16)})
    assert len(plans) == 16 and len({one.title for one in plans}) == 16
    assert [one.title for one in plans if one.asked.lora_rank][:2] == ["SFT, LoRA", "DPO, LoRA"]
    here = {one.title: one.memory(planned(BASE, one.asked, gpus=1, **LENGTHS)).least / GB for one in plans}
    assert here["SFT"] == here["DPO"] == here["KTO"] == here["reward model"] == 16
    assert here["GRPO, RLOO"] == here["PPO, shared critic"] == 20
    assert here["PPO, critic of its own"] == 36 and here["PPO, shared critic and a reward model"] == 24
    assert here["SFT, LoRA"] == pytest.approx(2, abs=0.01)


def test_a_report_by_hand():
    lines = report(METHODS["reft"], planned(BASE, ASKED, gpus=4, device=DEVICE, **LENGTHS), LOOP, DEVICE)
    assert lines[:7] == [
        "ReFT on b, 4 GPUs of 20 GB that share the weights, rows of 10 tokens",
        "  trained network            4.0 GB  weights 1.0, gradients 1.0, Adam 2.0",
        "  reference                  1.0 GB",
        # the base's one block has all the weights but one: 2 bytes · 3 of it
        "  training adds              6.0 GB  activations 0.0, logits 0.0, gathered blocks 6.0",
        "  sampling adds              4.0 GB  gathered policy 4.0",
        "  of each GPU               11.0 GB  of 20 GB: it fits",
        "  evaluation                 4.0 GB  two models and a cache, in one process",
    ]
    assert lines[7].startswith("a weight sync hands 4 GB to a rollout engine (0.0 s by NVLink)")
    tight = report(METHODS["sft"], planned(BASE, ASKED, gpus=1, device=Device(memory=GB), **LENGTHS), LOOP, Device(memory=GB))
    assert tight[-2] == "  of each GPU               18.0 GB  of 1 GB: it does not fit, most of all for: trained network"


def test_rates_have_a_row_for_each_number_of_gpus_and_kind_of_training():
    told = rates_table(BASE, {False: ASKED, True: replace(ASKED, lora_rank=16)}, LOOP, gpus=[1, 8]).splitlines()
    assert [line.split(" | ")[:2] for line in told[2:]] == [
        ["| 1", "all weights"],
        ["| 1", "LoRA"],
        ["| 8", "all weights"],
        ["| 8", "LoRA"],
    ]
    assert told[2].endswith("| weights | 4 |") and told[3].endswith("| weights | 2 |")
