"""Training on the tiniest world: SFT learns completions and nothing else, DPO widens the margin, the same seed repeats itself."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from models.encoding import response_ids
from models.load import load_model, load_tokenizer
from models.logprobs import score_responses
from models.size import size_of
from posttrain.errors import ContractError, DataError
from posttrain.feedback.labels import Label, as_preferences
from posttrain.records import Demonstration
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.self_training import SelfTrainingSettings
from posttrain.settings.sft import SFTSettings
from tasks.feedback.labels import read_labels
from tasks.training import dpo, self_training, sft
from tasks.workspace.jsonl import read_records, write_rows

pytestmark = [
    pytest.mark.slow,
    # trl 1.16 and peft 0.21.2 ask transformers 5.23 by the name it had before
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

SFT = SFTSettings(epochs=6, batch_size=8, learning_rate=3e-3)
DPO = DPOSettings(epochs=3, batch_size=8, learning_rate=1e-3, beta=0.3, nll_weight=0.0)


def run_sft(out, tiny_world, *, data=None, settings=SFT, seed=0, **model):
    out.mkdir()
    points = []
    outcome = sft.train(
        out,
        lambda step, figures: points.append((step, figures)),
        data=data or tiny_world.data,
        base=tiny_world.base,
        tokenizer=tiny_world.tokenizer,
        model=ModelSettings(context=tiny_world.context, **model),
        settings=settings,
        context=tiny_world.context,
        seed=seed,
    )
    return SimpleNamespace(outcome=outcome, points=points, model=out / "model")


def run_dpo(out, tiny_world, labels, *, settings=DPO, seed=0):
    out.mkdir()
    points = []
    outcome = dpo.train(
        out,
        lambda step, figures: points.append((step, figures)),
        labels=labels,
        start=tiny_world.base,
        tokenizer=tiny_world.tokenizer,
        model=ModelSettings(context=tiny_world.context),
        settings=settings,
        context=tiny_world.context,
        seed=seed,
    )
    return SimpleNamespace(outcome=outcome, points=points, model=out / "model")


def scores(folder, tiny_world, prompts, responses):
    reader = load_tokenizer(tiny_world.tokenizer)
    return score_responses(
        load_model(folder, ModelSettings(), on=torch.device("cpu")),
        reader,
        prompts,
        response_ids(reader, prompts, responses, ends=[reader.eos_token_id] * len(responses)),
        temperature=1.0,
        batch_size=16,
    )


def same_weights(first, second):
    one, other = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def demonstrations(tiny_world):
    return list(read_records(tiny_world.data / "demonstrations.jsonl", Demonstration))


@pytest.fixture(scope="module")
def after_sft(tiny_world, tmp_path_factory):
    return run_sft(tmp_path_factory.mktemp("sft") / "out", tiny_world)


def label_of(demonstration, *, first, second, preference):
    return Label(
        id=f"{demonstration.id}-{preference}",
        prompt=demonstration.prompt,
        question=demonstration.id,
        group=demonstration.id,
        first=first,
        second=second,
        preference=preference,
        annotator="somebody",
        source="person",
    )


@pytest.fixture(scope="module")
def labels(tiny_world, tmp_path_factory, demonstrations):
    """Careful solutions over the same ones with another ending and another number, shown now first, now second; and one tie."""
    folder = tmp_path_factory.mktemp("labels")
    rows = []
    for number, one in enumerate(demonstrations):
        careless = f"{one.completion.partition('. ')[0]}. So 7"
        first, second = (one.completion, careless) if number % 2 else (careless, one.completion)
        rows.append(label_of(one, first=first, second=second, preference=0.8 if number % 2 else 0.0))
    rows.append(label_of(demonstrations[0], first="this", second="that", preference=0.5))
    write_rows(folder / "labels.jsonl", (row.model_dump(mode="json") for row in rows))
    return folder


@pytest.fixture(scope="module")
def after_dpo(tiny_world, labels, tmp_path_factory):
    return run_dpo(tmp_path_factory.mktemp("dpo") / "out", tiny_world, labels)


# --- SFT --------------------------------------------------------------------------------------------------------------


def test_sft_makes_completions_likelier_and_lowers_its_loss(after_sft, tiny_world, demonstrations):
    prompts, completions = [one.prompt + "\n" for one in demonstrations], [one.completion for one in demonstrations]
    before = scores(tiny_world.base / "model", tiny_world, prompts, completions)
    after = scores(after_sft.model, tiny_world, prompts, completions)
    assert (after > before).float().mean() > 0.9 and (after - before).mean() > 1
    losses = [figures["loss"] for _, figures in after_sft.points]
    assert len(losses) == 6 * 32 / 8
    assert sum(losses[-4:]) / 4 < 0.9 * sum(losses[:2]) / 2
    assert after_sft.outcome.metrics == {"loss": losses[-1], "demonstrations": 32, "epochs": 6.0}


def test_the_first_loss_is_that_of_completions_with_eos_and_without_prompts(tiny_world, tmp_path, demonstrations):
    """One step over all demonstrations at once, before anything is learned: the mean over completion tokens, EOS included.

    A loss over prompts too, or without EOS, would be another number, as the last lines show.
    """
    everything = SFTSettings(epochs=1, batch_size=32, learning_rate=1e-9, warmup_ratio=0.0)
    told = run_sft(tmp_path / "out", tiny_world, settings=everything).points[0][1]["loss"]
    reader = load_tokenizer(tiny_world.tokenizer)
    prompts, completions = [one.prompt + "\n" for one in demonstrations], [one.completion for one in demonstrations]
    tokens = sum(len(ids) + 1 for ids in reader(completions)["input_ids"])
    wanted = -scores(tiny_world.base / "model", tiny_world, prompts, completions).sum().item() / tokens
    assert told == pytest.approx(wanted, rel=1e-4)
    first, rest = zip(*((prompt[:3], prompt[3:] + text) for prompt, text in zip(prompts, completions, strict=True)), strict=True)
    with_prompts = -scores(tiny_world.base / "model", tiny_world, first, rest).sum().item()
    with_prompts /= sum(len(ids) + 1 for ids in reader(list(rest))["input_ids"])
    assert with_prompts != pytest.approx(wanted, rel=1e-2)


def test_a_large_batch_is_the_sum_of_small_ones(tiny_world, tmp_path):
    """16 at once, or 4 times 4 accumulated, give the same step up to rounding."""
    folders = []
    for size in (16, 4):
        settings = SFTSettings(epochs=1, batch_size=16, learning_rate=1e-3, device_batch_size=size)
        folders.append(run_sft(tmp_path / str(size), tiny_world, settings=settings))
    one, other = (load_file(run.model / "model.safetensors") for run in folders)
    assert [len(run.points) for run in folders] == [2, 2]
    base = load_file(tiny_world.base / "model" / "model.safetensors")
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=1e-3)
    assert any(not torch.allclose(one[name], base[name], atol=1e-4) for name in one), "the tolerance can fail"


def test_adapters_are_trained_and_merged(tiny_world, tmp_path, after_sft):
    told = run_sft(tmp_path / "out", tiny_world, lora_rank=4)
    weights, base = load_file(told.model / "model.safetensors"), load_file(tiny_world.base / "model" / "model.safetensors")
    assert weights.keys() == base.keys()
    changed = {name for name in base if not torch.equal(weights[name], base[name])}
    assert changed and all("proj" in name for name in changed), "only linear layers carry adapters"
    assert told.points[-1][1]["loss"] < told.points[0][1]["loss"]


def test_costs_are_tokens_and_seconds(tiny_world, tmp_path):
    run = run_sft(tmp_path / "out", tiny_world, settings=SFTSettings(epochs=1, batch_size=8))
    assert run.outcome.costs["trained_tokens"] == run.points[-1][1]["num_tokens"]
    assert run.outcome.costs["train_seconds"] > 0
    weights = size_of(load_model(run.model, ModelSettings(), on=torch.device("cpu"))).weights
    assert run.outcome.costs["flops"] == 6 * weights * run.outcome.costs["trained_tokens"]
    assert run.outcome.costs["forward_tokens"] == 0


def test_the_reference_of_dpo_reads_each_pair_once(after_dpo):
    costs = after_dpo.outcome.costs
    weights = size_of(load_model(after_dpo.model, ModelSettings(), on=torch.device("cpu"))).weights
    assert costs["trained_tokens"] == DPO.epochs * costs["forward_tokens"] > 0
    assert costs["flops"] == 6 * weights * costs["trained_tokens"] + 2 * weights * costs["forward_tokens"]


def test_sft_without_demonstrations_is_refused(tiny_world, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=r"^the dataset has no demonstrations, which SFT imitates\. "):
        run_sft(tmp_path / "out", tiny_world, data=tmp_path / "data")


# --- DPO --------------------------------------------------------------------------------------------------------------


def test_dpo_widens_the_margin_of_chosen_over_rejected(after_dpo, tiny_world, labels):
    pairs = as_preferences(read_labels(labels))
    prompts = [pair.prompt + "\n" for pair in pairs]
    margins = [
        scores(folder, tiny_world, prompts, [pair.chosen for pair in pairs])
        - scores(folder, tiny_world, prompts, [pair.rejected for pair in pairs])
        for folder in (tiny_world.base / "model", after_dpo.model)
    ]
    assert (margins[1] > margins[0]).all() and (margins[1] - margins[0]).mean() > 1
    told = after_dpo.outcome.metrics
    assert told["pairs"] == 32 and told["equal_pairs"] == 1 and told["margin"] > 0.3 and told["pair_accuracy"] == 1.0


def test_dpo_starts_at_no_margin_and_the_logarithm_of_two(after_dpo):
    """Policy and reference are one model at first, so every reward is 0 and the loss -log σ(0)."""
    first = after_dpo.points[0][1]
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert after_dpo.points[-1][1]["loss"] < 0.6


def test_the_margin_told_is_beta_times_that_of_the_log_probabilities(tiny_world, labels, tmp_path):
    """Two epochs of one step each at a rate of 1e-3: the second step tells the margin that the first one has made."""
    how = {"batch_size": 32, "learning_rate": 1e-3, "warmup_ratio": 0.0, "nll_weight": 0.0, "beta": 0.2}
    twice = run_dpo(tmp_path / "twice", tiny_world, labels, settings=DPOSettings(epochs=2, **how))
    pairs = as_preferences(read_labels(labels))
    prompts = [pair.prompt + "\n" for pair in pairs]
    # a linear schedule over two steps gives its first step the whole rate, one over one step as well
    once = run_dpo(tmp_path / "once", tiny_world, labels, settings=DPOSettings(epochs=1, **how))
    gains = [
        scores(once.model, tiny_world, prompts, texts) - scores(tiny_world.base / "model", tiny_world, prompts, texts)
        for texts in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    ]
    wanted = 0.2 * (gains[0] - gains[1]).mean().item()
    assert twice.points[1][1]["rewards/margins"] == pytest.approx(wanted, rel=1e-3)
    assert wanted > 0.01


def test_the_nll_of_the_chosen_keeps_it_likely(tiny_world, labels, tmp_path, after_dpo):
    with_nll = DPOSettings(**{**DPO.model_dump(), "nll_weight": 1.0})
    told = run_dpo(tmp_path / "out", tiny_world, labels, settings=with_nll)
    assert told.points[0][1]["loss"] > after_dpo.points[0][1]["loss"] + 0.5
    assert told.outcome.metrics["chosen_reward"] > after_dpo.outcome.metrics["chosen_reward"]


def test_dpo_without_a_better_response_is_refused(tiny_world, tmp_path, demonstrations):
    even = [label_of(demonstrations[n], first="this", second="that", preference=0.5) for n in range(3)]
    write_rows(tmp_path / "labels.jsonl", (label.model_dump(mode="json") for label in even))
    with pytest.raises(DataError) as caught:
        run_dpo(tmp_path / "out", tiny_world, tmp_path)
    assert str(caught.value) == (
        "DPO has nothing to learn from: of the 3 pairs that were labelled, none has a better response (labels average to 0.5). "
        "Ask more annotators or another judge (labels.*)"
    )


def test_dpo_puts_no_eos_behind_a_response_that_was_cut_off(tiny_world, tmp_path, demonstrations, monkeypatch):
    """An EOS behind half a solution teaches to stop in its middle; behind a whole one it teaches to stop."""
    seen = []
    trained = dpo.EndsAsSampled.train
    monkeypatch.setattr(dpo.EndsAsSampled, "train", lambda self: (seen.append(self.train_dataset), trained(self)))
    flags = [(True, False), (False, True), (None, None), (False, False)]
    labels = [
        label_of(demonstrations[n], first=f"1 + {n} = 3", second=f"2 + {n} = 4. So 4", preference=1.0).model_copy(
            update={"first_finished": first, "second_finished": second}
        )
        for n, (first, second) in enumerate(flags)
    ]
    write_rows(tmp_path / "labels.jsonl", (label.model_dump(mode="json") for label in labels))
    told = run_dpo(tmp_path / "out", tiny_world, tmp_path, settings=DPOSettings(epochs=2, batch_size=4, warmup_ratio=0.0))
    eos = load_tokenizer(tiny_world.tokenizer).eos_token_id
    ends = [tuple(row[f"{side}_ids"][-1] == eos for side in ("chosen", "rejected")) for row in seen[0]]
    assert ends == [(True, False), (False, True), (True, True), (False, False)]
    assert all(row["chosen_ids"].count(eos) <= 1 for row in seen[0]) and told.outcome.metrics["cut_off"] == 4


@pytest.mark.parametrize("train", ["sft", "dpo"])
def test_a_training_that_moves_no_weight_is_refused(tiny_world, tmp_path, labels, train):
    with pytest.raises(ContractError, match=rf"{train} ended with the very weights .* Raise {train}\.learning_rate"):
        if train == "sft":
            run_sft(tmp_path / "out", tiny_world, settings=SFTSettings(epochs=1, batch_size=8, learning_rate=1e-30))
        else:
            run_dpo(tmp_path / "out", tiny_world, labels, settings=DPOSettings(epochs=1, batch_size=16, learning_rate=1e-30))


# --- self-training ----------------------------------------------------------------------------------------------------


def run_self_training(out, tiny_world, samples, *, seed=0, **settings):
    out.mkdir()
    outcome = self_training.train(
        out,
        lambda *_: None,
        samples=samples,
        data=tiny_world.data,
        start=tiny_world.base,
        tokenizer=tiny_world.tokenizer,
        model=ModelSettings(context=tiny_world.context),
        settings=SelfTrainingSettings(**{"epochs": 6, "batch_size": 8, "learning_rate": 3e-3, **settings}),
        context=tiny_world.context,
        seed=seed,
    )
    return SimpleNamespace(outcome=outcome, model=out / "model")


@pytest.fixture(scope="module")
def samples(tiny_world, world_records, tmp_path_factory):
    """Of half the questions three samples each: two right ones in different words, and a wrong one."""
    folder = tmp_path_factory.mktemp("samples")
    rows = []
    for question in world_records["questions"][:12]:
        (answer,) = question.answers
        texts = [f"Answer: {answer}", f"So {answer}", "Total 100"]
        rows.append({"question": question.model_dump(mode="json"), "responses": [[text, True] for text in texts]})
    write_rows(folder / "samples.jsonl", rows)
    return folder


def test_self_training_makes_right_samples_likelier_than_sft_does(tiny_world, samples, tmp_path, after_sft):
    told = run_self_training(tmp_path / "out", tiny_world, samples)
    rows = [json.loads(line) for line in (samples / "samples.jsonl").read_text().splitlines()]
    prompts = [row["question"]["prompt"] + "\n" for row in rows]
    gains = [
        scores(told.model, tiny_world, prompts, texts) - scores(after_sft.model, tiny_world, prompts, texts)
        for texts in ([row["responses"][place][0] for row in rows] for place in range(3))
    ]
    assert all((gain > 0).float().mean() > 0.9 for gain in gains[:2]), "the right ones, in both forms"
    assert (gains[0] - gains[2]).mean() > 1, "and more so than the wrong ones, which nothing was to learn"
    assert told.outcome.metrics["samples"] == 24 and told.outcome.metrics["demonstrations"] == 32


def test_self_training_on_the_same_examples_is_sft(tiny_world, samples, tmp_path):
    """The same examples in the same order give the same weights, so nothing but the data tells it from SFT."""
    rows = [json.loads(line) for line in (samples / "samples.jsonl").read_text().splitlines()]
    data = tmp_path / "data"
    data.mkdir()
    examples = [
        Demonstration(id=f"{place}", prompt=row["question"]["prompt"], completion=text)
        for place, row in enumerate(rows)
        for text, _ in row["responses"][:2]
    ]
    write_rows(data / "demonstrations.jsonl", (one.model_dump(mode="json") for one in examples))
    how = {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3}
    by_sft = run_sft(tmp_path / "sft", tiny_world, data=data, settings=SFTSettings(**how))
    by_samples = run_self_training(tmp_path / "out", tiny_world, samples, with_demonstrations=False, **how)
    assert same_weights(by_sft.model, by_samples.model)


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_sft_repeats_itself_bit_for_bit_and_follows_its_seed(tiny_world, tmp_path, after_sft):
    again, other = (run_sft(tmp_path / str(seed), tiny_world, seed=seed) for seed in (0, 1))
    assert same_weights(after_sft.model, again.model)
    assert not same_weights(after_sft.model, other.model)


def test_dpo_repeats_itself_bit_for_bit_and_follows_its_seed(tiny_world, labels, tmp_path, after_dpo):
    again, other = (run_dpo(tmp_path / str(seed), tiny_world, labels, seed=seed) for seed in (0, 1))
    assert same_weights(after_dpo.model, again.model)
    assert not same_weights(after_dpo.model, other.model)
