"""Facts of a situation, memory by hand, costs, power, and the page of rules."""

from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from posttrain.advice.costs import Cost, labels_wanted, response_length, responses_wanted
from posttrain.advice.memory import memory_of, reward_model_memory
from posttrain.advice.page import advice_page
from posttrain.advice.power import (
    EFFECTS,
    NOISES,
    QUESTION,
    RESIDUAL,
    SEEDS,
    WITHOUT_TRAINING,
    assumed_spread,
    power_table,
    questions_needed,
    smallest_effect,
)
from posttrain.advice.situation import Asked, Base, Machine, Situation, kind_of_answer, percentile
from posttrain.advice.words import cost_words, facts_lines, power_rows
from posttrain.methods import METHODS
from posttrain.settings.config import merge
from posttrain.statistics.comparisons import compare_with
from tests.posttrain.advice import situations as these

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("72", "number"),
        ("So 6 + 8.\n#### 14", "number"),
        ("$1,200.50", "number"),
        ("3/4", "number"),
        ("B", "choice"),
        ("(B)", "choice"),
        ("Paris", "text"),
        ("", "text"),
    ],
)
def test_kind_of_answer(answer, kind):
    assert kind_of_answer(answer) == kind


def test_percentile_is_a_value_that_the_share_does_not_exceed():
    assert percentile(list(range(1, 101)), 0.95) == 95
    assert percentile([7], 0.95) == 7
    assert percentile([], 0.95) == 0
    assert percentile([3, 1, 2], 0.5) == 2  # ceil(1.5) = 2 of three


# --- memory -----------------------------------------------------------------------------------------------------------


SMALL = Situation(
    prompt_tokens=10,
    long_response_tokens=20,
    base=Base(name="b", is_tiny=False, weights=1_000, adapter_width=50, layers=2, width=10, vocabulary=100, context=512),
    machine=Machine(weight_bytes=4),
    asked=Asked(device_rows={"sft": 3, "ppo": 2, "grpo": 2, "dpo": 3}),
)


@pytest.mark.parametrize(
    ("method", "least", "rows", "networks", "logits"),
    [
        # a trained weight has 16 bytes, a frozen one 4, a reference 4. Of rows of 30 tokens TRL has the logits of all, 32,768
        # words of 4 bytes and seven times 100 of them; the loop has those of 20, 100 words of 8 bytes
        ("few_shot", 4_000, 0, 1, 0),
        ("sft", 16_000, 3, 1, 30 * (32_768 * 4 + 7 * 400)),
        ("dpo", 16_000, 6, 1, 30 * (32_768 * 4 + 7 * 400)),  # chosen and rejected
        ("reft", 16_000 + 4_000 + 16_000, 2, 2, 20 * 800),
        ("grpo", 16_000 + 4_000, 2, 1, 20 * 800),
        ("rlhf", 16_000 + 4_000 + 16_000 + 4_000, 2, 2, 20 * 800),  # with its reward model
        ("drlaif", 16_000 + 4_000 + 16_000 + 4_000, 2, 2, 20 * 800),  # the base judges
    ],
)
def test_memory_by_hand(method, least, rows, networks, logits):
    needed = memory_of(METHODS[method], SMALL)
    # a token takes 2 layers · 10 wide · 96 bytes of each network
    more = rows * (30 * networks * 1_920 + logits)
    assert (needed.least, needed.likely - needed.least) == (least, more)
    assert sum(needed.parts.values()) == needed.least


def test_memory_of_a_reward_models_training():
    """It gives scores, and no logits: rows of 30 tokens, 1,920 bytes each."""
    needed = reward_model_memory(replace(SMALL, asked=Asked(device_rows={"reward_model": 4})))
    assert (needed.least, needed.likely) == (16_000, 16_000 + 4 * 30 * 1_920)


def test_memory_in_bfloat16():
    """Products are in 2 bytes, trained weights in 4: a copy of each beside 68 bytes a token, layer and unit of width."""
    half = replace(SMALL, machine=Machine(has_gpu=True, weight_bytes=2))
    needed = memory_of(METHODS["sft"], half)
    assert needed.phases["training"] == {
        "activations": 90 * 2 * 10 * 68,
        "logits": 90 * 32_768 * 2,
        "weights in bfloat16": 2_000,
    }
    many = replace(half, asked=Asked(device_rows={"sft": 1_000}))
    assert memory_of(METHODS["sft"], many).phases["training"]["logits"] == 4_096 * 32_768 * 2, "a tile, and no more"
    assert memory_of(METHODS["reft"], half).phases["training"]["weights in bfloat16"] == 4_000, "and of the critic"
    adapted = replace(half, asked=replace(SMALL.asked, lora_rank=4))
    assert memory_of(METHODS["sft"], adapted).phases["training"]["weights in bfloat16"] == 2 * 200


def test_trls_trainers_checkpoint_by_themselves_on_a_gpu():
    asked = replace(SMALL.asked, checkpoints_itself=True)
    on_gpu = replace(SMALL, machine=Machine(has_gpu=True), asked=asked)
    assert memory_of(METHODS["sft"], on_gpu).phases["training"]["activations"] == 90 * (10 * 96 + 2 * 10 * 4)
    assert memory_of(METHODS["reft"], on_gpu).phases == memory_of(METHODS["reft"], replace(on_gpu, asked=SMALL.asked)).phases
    assert memory_of(METHODS["sft"], replace(SMALL, asked=asked)) == memory_of(METHODS["sft"], SMALL)


# --- memory of several processes --------------------------------------------------------------------------------------


def shared_out(processes, **changes):
    gpu = Machine(has_gpu=True, weight_bytes=2, memory=10_000)
    return replace(SMALL, machine=gpu, asked=replace(SMALL.asked, processes=processes, is_sharded=processes > 1, **changes))


def test_processes_that_share_weights():
    one, four = (memory_of(METHODS["rlhf"], shared_out(count)) for count in (1, 4))
    assert one.parts == {"trained network": 16_000, "reference": 4_000, "critic": 16_000, "reward model": 4_000}
    assert four.parts == {"trained network": 4_000, "reference": 1_000, "critic": 4_000, "reward model": 4_000}
    assert four.phases["training"]["activations"] == one.phases["training"]["activations"], "each has rows of its own"
    # the embedding takes all of the 1,000 weights, none are left for blocks: 2 networks · 2 bytes · 2 · 1,000
    assert four.phases["training"]["gathered blocks"] == 2 * 2 * 2 * 1_000
    assert four.phases["sampling"] == {"gathered policy": 4_000, "cache": 0}
    assert four.largest == "activations" and one.largest == "activations"
    adapted = memory_of(METHODS["reft"], shared_out(4, lora_rank=4))
    assert adapted.parts == {"trained network": 500 + 800, "critic": 800}
    assert adapted.phases["sampling"]["gathered policy"] == 2_000


def test_processes_without_a_gpu_share_one_memory():
    two = memory_of(METHODS["sft"], replace(SMALL, asked=replace(SMALL.asked, processes=2), machine=Machine(process=7)))
    one = memory_of(METHODS["sft"], replace(SMALL, machine=Machine(process=7)))
    assert (two.least, two.likely) == (2 * one.least, 2 * one.likely)
    assert two.parts == {"trained network": 32_000}


def test_vllm_takes_its_share_of_a_gpu_or_draws_elsewhere():
    asked = {"rollout_rows": 8, "max_new_tokens": 20}
    itself, within, elsewhere = (
        memory_of(METHODS["grpo"], shared_out(1, **asked, **more))
        for more in ({}, {"engine_share": 0.3}, {"draws_elsewhere": True})
    )
    # 8 rows of 30 tokens, 2 layers of 128 numbers of 2 bytes
    assert itself.phases["sampling"] == {"cache": 8 * 30 * 2 * 128 * 2}
    assert within.phases["sampling"] == elsewhere.phases["sampling"] == {}
    assert within.parts["vLLM"] == 3_000 and "vLLM" not in elsewhere.parts
    assert memory_of(METHODS["dpo"], shared_out(1, engine_share=0.3)).parts == {"trained network": 16_000}


def test_memory_under_lora():
    adapted = replace(SMALL, asked=replace(SMALL.asked, lora_rank=4))
    # frozen weights 4,000; adapters 4 · 50 = 200 weights of 16 bytes; no reference of its own
    assert memory_of(METHODS["sft"], adapted).least == 4_000 + 3_200
    # a critic of adapters shares the frozen weights, one that is a reward model has its own
    assert memory_of(METHODS["reft"], adapted).least == 4_000 + 2 * 3_200
    assert memory_of(METHODS["rlhf"], adapted).parts["critic"] == 4_000 + 3_200
    named = replace(adapted, asked=replace(adapted.asked, reward="model:mine"))
    assert memory_of(METHODS["ppo"], named).parts["critic"] == 4_000 + 3_200, "a reward model that is named brings its own too"
    assert memory_of(METHODS["ppo"], named).parts["reward model"] == 4_000
    shared = replace(SMALL, asked=replace(SMALL.asked, has_shared_critic=True))
    assert memory_of(METHODS["reft"], shared).least == memory_of(METHODS["grpo"], shared).least
    named = replace(SMALL, asked=replace(SMALL.asked, judge="large"))
    assert memory_of(METHODS["drlaif"], named).least == memory_of(METHODS["reft"], named).least


def test_a_copy_that_samples_takes_two_bytes_a_weight_of_methods_that_sample():
    copied = replace(SMALL, asked=replace(SMALL.asked, has_sampling_copy=True))
    for method in ("reft", "grpo", "rlhf"):
        assert memory_of(METHODS[method], copied).least == memory_of(METHODS[method], SMALL).least + 2_000
    assert memory_of(METHODS["dpo"], copied) == memory_of(METHODS["dpo"], SMALL)


def test_memory_in_4_bits():
    asked = replace(SMALL.asked, lora_rank=4, is_quantized=True)
    packed = replace(SMALL, asked=asked)
    # 1,000 weights, of which 100 words · 10 wide would be the embedding: take 20 words; 800 weights of 4.127 bits, 200 of 4 bytes
    packed = replace(packed, base=replace(packed.base, vocabulary=20))
    assert memory_of(METHODS["sft"], packed).least == 413 + 800 + 3_200
    assert memory_of(METHODS["reft"], packed).parts["critic"] == 3_200, "the critic shares them"


def test_rows_are_never_longer_than_the_context():
    long = replace(SMALL, prompt_tokens=5_000)
    assert long.sequence_tokens == 512
    assert replace(SMALL, long_response_tokens=0).sequence_tokens == 10 + 64, "without responses the limit counts"


# --- costs ------------------------------------------------------------------------------------------------------------


def test_labels_and_responses():
    config = merge(
        {}, ["labels.pairs_per_prompt=4", "labels.overlap=0.1", "sample.per_prompt=8", "ppo.updates=3", "ppo.episodes=64"]
    )
    assert labels_wanted(config, 100, labels_by="simulated") == 440  # 400 pairs, a tenth of them twice
    assert labels_wanted(config, 100, labels_by="judge") == 400
    assert labels_wanted(config, 100, labels_by="dataset") == labels_wanted(config, 100, labels_by="") == 0
    assert labels_wanted(merge({}, ["labels.budget=50"]), 100, labels_by="people") == 50
    assert responses_wanted(config, METHODS["dpo"], 100, is_sampled=True) == 800
    assert responses_wanted(config, METHODS["reft"], 0, is_sampled=False) == 192
    assert responses_wanted(config, METHODS["rlhf"], 100, is_sampled=True) == 992
    assert response_length(replace(SMALL, response_tokens=20.0)) == 20.0
    assert response_length(replace(SMALL, response_tokens=900.0)) == 64
    assert response_length(SMALL) == 64


def test_time_is_told_only_where_every_stage_has_run():
    cost = Cost(
        labels=0, labels_by="", responses=0, tokens=0, memory_least=2**30, memory_likely=2**31, stages={"sft": 3.0, "dpo": 4.0}
    )
    assert (cost.seconds, cost_words(cost)) == (7.0, "1.0 to 2.0 GB; 7 s, from runs here")
    some = replace(cost, stages={"sft": 3.0, "dpo": None}, labels=440, labels_by="simulated", responses=800, tokens=16_000)
    assert some.seconds is None and some.as_json()["seconds"] is None
    assert cost_words(some) == (
        "1.0 to 2.0 GB; 440 labels by simulated annotators; 800 responses, about 16,000 tokens; time: dpo has not run here yet"
    )
    assert cost_words(replace(cost, stages={"sft": None})).endswith("time: none has run here yet")


def test_facts_in_words():
    told = "\n".join(facts_lines(these.PREFERENCES))
    assert "5,000 preferences, 0 ratings, 0 rankings: 5,000 labelled pairs of 4 annotators, Krippendorff's α 0.70" in told
    assert "no responses to learn from" in "\n".join(facts_lines(these.QUESTIONS_ONLY))


# --- power ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "noise"), [(3, "little"), (5, "much")])
def test_a_comparison_sees_the_smallest_effect_about_as_often_as_promised(seeds, noise):
    """Six methods with the assumed variances, 200 questions: the product's own verdicts, before Holm, against the formula."""
    random, n, repetitions = np.random.default_rng(7), 200, 60
    effect = smallest_effect(seeds, n, noise=NOISES[noise])
    # two methods bring half of a difference's variance each; what the answers bring themselves is 18 points at one question
    training = sqrt((NOISES[noise] ** 2 - WITHOUT_TRAINING**2) / 2)
    seen = 0
    for _ in range(repetitions):
        cells = (
            random.normal(0, sqrt(QUESTION / 2), (6, 1, n))
            + random.normal(0, training, (6, seeds, 1))
            + random.normal(0, sqrt(RESIDUAL / 2), (6, seeds, n))
        )
        values = {f"m{place}": rows + effect * (place > 0) for place, rows in enumerate(cells)}
        seen += sum(one.p < 0.05 for one in compare_with(values, "m0", margin=0.02))
    # 80 % less what the larger of two estimates costs; the five comparisons of a repetition share their reference
    assert 0.68 < seen / (5 * repetitions) < 0.88


def test_three_seeds_by_hand():
    # at 1,000 questions: seeds 0.022² / 3 = 1.61333e-4, questions 0.05 / 1,000 = 5e-5, together 2.11333e-4, its root 0.014537
    # degrees 2.11333² / (1.61333² / 2 + 0.5² / 999) = 3.4311; Student: 2.9678 + 0.9593 = 3.9271; 3.9271 · 0.014537 = 0.05709
    assert smallest_effect(3, 1_000, noise=0.022) == pytest.approx(0.05709, abs=1e-5)
    # at 500 what is of the answers alone doubles: 0.022² + 0.018² = 8.08e-4 a seed
    assert assumed_spread(3, 500, noise=0.022).seed == pytest.approx(8.08e-4)
    assert (assumed_spread(5, 500, noise=0.022).seed_degrees, assumed_spread(1, 500, noise=0.022).seed_degrees) == (4, 0)


def test_one_seed_by_hand():
    # √(0.374 / 1,000) = 0.019339; t(999): 1.9623 + 0.8420 = 2.8043
    assert smallest_effect(1, 1_000, noise=0.5) == pytest.approx(0.05423, abs=1e-4)


def test_more_seeds_and_more_questions_see_smaller_effects():
    assert smallest_effect(5, 500, noise=0.022) < smallest_effect(3, 500, noise=0.022)
    assert smallest_effect(3, 2_000, noise=0.022) < smallest_effect(3, 500, noise=0.022) < smallest_effect(3, 500, noise=0.037)


def test_questions_needed_see_the_effect():
    count = questions_needed(0.05, 5, noise=NOISES["little"])
    assert smallest_effect(5, count, noise=NOISES["little"]) <= 0.05 < smallest_effect(5, count * 9 // 10, noise=NOISES["little"])
    assert questions_needed(0.01, 3, noise=NOISES["much"]) is None


def test_the_table_of_effects():
    head, rows = power_rows(power_table(), {(3, "little"): 0.0612})
    assert head == ["seeds", "training noise", "sees now (points)", "questions for 1", "questions for 2", "questions for 5"]
    assert len(rows) == 1 + 2 * (len(SEEDS) - 1) and len(EFFECTS) == 3
    assert next(row for row in rows if row[:2] == ["3", "little"])[2] == "6.1"
    assert rows[0][1] == "–" and "more than 20,000" in rows[0]


def test_the_page_is_made_of_the_rules():
    assert (ROOT / "docs" / "advise.md").read_text(encoding="utf-8") == advice_page(), (
        "docs/advise.md must be what posttrain/advice/page.py makes of the rules"
    )
