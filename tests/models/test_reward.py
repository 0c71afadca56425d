"""The reward model's network: its head, scores whichever way they are computed, training on groups, and its files."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, LlamaForSequenceClassification

from models import reward, reward_training
from models.lora import lora, merged
from models.packed import is_packing
from models.reward import (
    centre_of,
    centred,
    load_reward_model,
    reward_network,
    save_reward_model,
    score_texts,
    token_scores,
)
from models.reward_training import Group, steps_of, train_reward_network
from models.tokenizers import world_tokenizer
from posttrain.errors import RequestError
from posttrain.ops.losses import bradley_terry_loss
from posttrain.settings.model import ModelSettings
from posttrain.settings.reward_model import RewardModelSettings
from tests.tiny_ppo import EOS, GOOD, PAD, llama

CPU = torch.device("cpu")
SETTINGS = RewardModelSettings(epochs=12, batch_size=4, learning_rate=3e-3)
SEQUENCES = [[3, 4, 5, 6, EOS], [7, 8, EOS], [3, 4, 9, 10, 11, 12, EOS]]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def source(tmp_path):
    """A folder with a causal model."""
    llama().save_pretrained(tmp_path / "causal")
    return tmp_path / "causal"


def made(source, *, seed=0, **model):
    return reward_network(source, ModelSettings(**model), on=CPU, pad=PAD, seed=seed)


def good_against_bad(count=24, *, preference=1.0):
    """Return prompts with four responses each; those with more GOOD tokens are better."""
    chance = torch.Generator().manual_seed(5)
    groups = []
    for _ in range(count):
        prompt = torch.randint(6, 16, (3,), generator=chance).tolist()
        others = torch.randint(6, 16, (4, 3), generator=chance).tolist()
        responses = [[*prompt, *[GOOD] * number, *other, EOS] for number, other in enumerate(others)]
        pairs = [
            (one, other, preference if one > other else 1 - preference, 0.0)
            for one in range(4)
            for other in range(4)
            if one != other
        ]
        groups.append(Group(responses=responses, pairs=pairs[::3]))
    return groups


def turned(groups):
    """Return the groups with both responses of every pair swapped."""
    return [
        replace(group, pairs=[(other, one, 1 - preference, margin) for one, other, preference, margin in group.pairs])
        for group in groups
    ]


def accuracy(network, groups):
    with torch.no_grad():
        hits = []
        for group in groups:
            scores = last(network, group.responses)
            hits += [float((scores[one] > scores[other]) == (preference > 0.5)) for one, other, preference, _ in group.pairs]
    return sum(hits) / len(hits)


def last(network, sequences):
    scores, ends = token_scores(network, [sequences])
    return scores[ends - 1]


# --- the network --------------------------------------------------------------------------------------------------------


def test_the_trunk_is_the_models_and_the_head_is_drawn_from_the_seed(source):
    network = made(source, seed=3)
    assert isinstance(network, LlamaForSequenceClassification) and not network.training
    for name, weight in llama().model.named_parameters():
        assert torch.equal(dict(network.model.named_parameters())[name], weight)
    assert network.score.bias is None
    assert torch.equal(network.score.weight, made(source, seed=3).score.weight)
    assert not torch.equal(network.score.weight, made(source, seed=4).score.weight)
    assert is_packing(network.base_model)


def test_the_heads_spread_is_one_over_the_root_of_width_plus_one(tmp_path):
    llama(hidden_size=512, num_attention_heads=4).save_pretrained(tmp_path)
    # 512 draws: three standard errors of a standard deviation are 9 %
    assert made(tmp_path).score.weight.std().item() == pytest.approx(513**-0.5, rel=0.09)


def test_scores_are_those_of_plain_transformers_with_and_without_packing(source, tmp_path):
    network = made(source)
    packed, ends = token_scores(network, [SEQUENCES])
    network.base_model.set_attn_implementation("sdpa")
    plain, _ = token_scores(network, [SEQUENCES])
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=1e-5)
    assert ends.tolist() == [5, 8, 15]
    for ids, end in zip(SEQUENCES, ends.tolist(), strict=True):
        assert network(input_ids=torch.tensor([ids])).logits.item() == pytest.approx(packed[end - 1].item(), abs=1e-5)
        states = network.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        torch.testing.assert_close(network.score(states)[:, 0], packed[end - len(ids) : end], atol=1e-5, rtol=1e-5)


@given(st.permutations(range(3)), st.integers(0, 2))
def test_a_sequences_score_depends_on_no_other(order, left_out):
    network = llama(kind=LlamaForSequenceClassification, num_labels=1).eval()
    kept = [place for place in order if place != left_out]
    whole = last(network, SEQUENCES)
    some = last(network, [SEQUENCES[place] for place in kept])
    torch.testing.assert_close(some, whole[kept], atol=1e-6, rtol=1e-5)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(RequestError, match=rf"^model.base={tmp_path}: it cannot be loaded as a reward model: "):
        made(tmp_path)


def test_weights_that_are_not_there_are_refused(source):
    file = source / "model.safetensors"
    save_file({name: weight for name, weight in load_file(file).items() if "layers.1.mlp" not in name}, file, {"format": "pt"})
    with pytest.raises(RequestError) as error:
        made(source)
    assert str(error.value) == (
        f"model.base={source}: 3 of its weights are not in its files (model.layers.1.mlp.down_proj.weight), and would be random. "
        "Save the whole model with save_pretrained(folder)"
    )


# --- training -----------------------------------------------------------------------------------------------------------


def test_a_preference_that_can_be_told_is_learnt(source):
    groups = good_against_bad()
    network = made(source)
    before = accuracy(network, groups[16:])
    steps = list(train_reward_network(network, groups[:16], SETTINGS, seed=0))
    assert len(steps) == steps_of(SETTINGS, groups=16) == 48
    assert [step.step for step in steps] == list(range(1, 49))
    assert sum(step.loss for step in steps[-5:]) < 0.5 * sum(step.loss for step in steps[:5])
    assert before < 0.75 and accuracy(network, groups[16:]) > 0.9


def test_swapping_every_pair_trains_the_same_network(source):
    groups, networks = good_against_bad(12), []
    for given_groups in (groups, turned(groups)):
        network = made(source)
        steps = list(train_reward_network(network, given_groups, SETTINGS.model_copy(update={"epochs": 2.0}), seed=0))
        networks.append((network, [(step.loss, step.accuracy) for step in steps]))
    (first, told), (second, told_again) = networks
    for step, again in zip(told, told_again, strict=True):
        assert step == pytest.approx(again, abs=1e-6)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_seed_repeats_bit_for_bit_and_another_orders_otherwise(source):
    def weights(seed):
        network = made(source)
        list(train_reward_network(network, good_against_bad(12), SETTINGS.model_copy(update={"epochs": 2.0}), seed=seed))
        return torch.cat([weight.detach().flatten() for weight in network.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_labels_of_one_half_move_equal_scores_nowhere(source):
    """d = 0 for two responses that are one text; p = 1/2 has no gradient there."""
    network = made(source)
    same = [Group(responses=[[3, GOOD, EOS], [3, GOOD, EOS]], pairs=[(0, 1, 0.5, 0.0)])]
    before = [weight.detach().clone() for weight in network.parameters()]
    steps = list(train_reward_network(network, same, SETTINGS.model_copy(update={"epochs": 1.0}), seed=0))
    assert steps[0].loss == pytest.approx(0.693147, abs=1e-6) and steps[0].accuracy == 0.5
    for old, new in zip(before, network.parameters(), strict=True):
        torch.testing.assert_close(old, new, atol=1e-7, rtol=0.0)


def test_a_step_is_the_same_at_once_and_in_parts_of_whole_groups(source):
    figures = []
    for most in (1, 5, 1_000):
        network = made(source)
        settings = SETTINGS.model_copy(update={"epochs": 1.0, "device_batch_size": most})
        steps = list(train_reward_network(network, good_against_bad(8), settings, seed=0))
        figures.append(([step.loss for step in steps], [step.tokens for step in steps], [step.accuracy for step in steps]))
    for loss, tokens, hits in figures[1:]:
        assert loss == pytest.approx(figures[0][0], rel=1e-4)
        assert (tokens, hits) == (figures[0][1], pytest.approx(figures[0][2]))


def test_a_steps_loss_is_the_mean_over_its_labels_by_hand(source):
    network, groups = made(source), good_against_bad(2, preference=0.8)
    wanted = []
    with torch.no_grad():
        for group in groups:
            scores = last(network, group.responses)
            for one, other, preference, _ in group.pairs:
                wanted.append(bradley_terry_loss(scores[one] - scores[other], torch.tensor(preference), torch.tensor(0.0)).item())
    step = next(train_reward_network(network, groups, SETTINGS, seed=0))
    assert step.loss == pytest.approx(sum(wanted) / len(wanted), rel=1e-5)
    # each response goes through once, however many labels it has
    assert step.tokens == sum(len(ids) for group in groups for ids in group.responses)


def test_a_larger_network_reads_what_the_responses_to_a_prompt_begin_with_once(source, monkeypatch):
    groups = good_against_bad(4)
    read = sum(len({tuple(ids[:end]) for ids in group.responses for end in range(1, len(ids) + 1)}) for group in groups)
    for settings in (SETTINGS, SETTINGS.model_copy(update={"device_batch_size": 4})):
        found = []
        for least in (2**22, 0):
            monkeypatch.setattr(reward, "LARGE", least)
            network = made(source)
            step = next(train_reward_network(network, groups, settings, seed=0))
            found.append((step, [weight.detach() for weight in network.parameters()]))
        (whole, weights), (once, others) = found
        assert whole.tokens == sum(len(ids) for group in groups for ids in group.responses) > once.tokens == read
        assert once.loss == pytest.approx(whole.loss, rel=1e-5) and once.accuracy == whole.accuracy
        for mine, theirs in zip(others, weights, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("most", [3, 100])
@pytest.mark.parametrize("mean_over", ["prompts", "labels"])
def test_a_prompt_with_more_labels_weighs_as_much_as_another_unless_labels_are_counted(source, mean_over, most):
    """Eq. 1 of InstructGPT divides by the number of a prompt's labels; here one prompt has six labels and the other two."""
    one, other = good_against_bad(2)
    groups = [one, replace(other, pairs=[*other.pairs[:1], (*other.pairs[1][:2], 0.5, 0.0)])]
    network = made(source)
    means, labels = [], []
    with torch.no_grad():
        for group in groups:
            scores = last(network, group.responses)
            told = [
                bradley_terry_loss(scores[a] - scores[b], torch.tensor(preference), torch.tensor(0.0)).item()
                for a, b, preference, _ in group.pairs
            ]
            means.append(sum(told) / len(told))
            labels += told
    assert len(one.pairs) > 2
    wanted = sum(means) / 2 if mean_over == "prompts" else sum(labels) / len(labels)
    settings = SETTINGS.model_copy(update={"mean_over": mean_over, "device_batch_size": most})
    assert next(train_reward_network(network, groups, settings, seed=0)).loss == pytest.approx(wanted, rel=1e-5)
    assert abs(sum(means) / 2 - sum(labels) / len(labels)) > 1e-4, "else the two means cannot be told apart here"


def test_a_margin_asks_for_more_and_counts_only_with_its_weight(source):
    def first_loss(margin, weight):
        groups = [replace(group, pairs=[(*pair[:3], margin) for pair in group.pairs]) for group in good_against_bad(4)]
        settings = SETTINGS.model_copy(update={"margin_weight": weight})
        return next(train_reward_network(made(source), groups, settings, seed=0)).loss

    assert first_loss(2.0, 0.0) == first_loss(0.0, 0.0)
    assert first_loss(1.0, 2.0) == first_loss(2.0, 1.0) > first_loss(1.0, 1.0) > first_loss(1.0, 0.0)


def test_the_tokens_mean_by_hand():
    # 3 4 are shared; 5 6 EOS score 1, 2, 6 and 9 EOS score 4, 8: means 3 and 6
    group = Group(responses=[[3, 4, 5, 6, EOS], [3, 4, 9, EOS]], pairs=[(0, 1, 1.0, 0.0), (1, 0, 0.0, 0.0)])
    scores, ends = torch.tensor([7.0, 7.0, 1.0, 2.0, 6.0, 5.0, 5.0, 4.0, 8.0]), torch.tensor([5, 9])
    pairs = reward_training._Pairs.of([group], margin_weight=0.0, on=CPU)
    assert pairs.shared.tolist() == [2, 2]
    assert pairs.mean(scores, ends).tolist() == [-3.0, 3.0]
    assert pairs.last(scores, ends).tolist() == [-2.0, 2.0]
    assert pairs.hits(torch.tensor([-2.0, 2.0])) == 0 and pairs.hits(torch.tensor([1.0, 0.0])) == 1.5


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [([3, 4, EOS], [3, 5, EOS], 1), ([3, EOS], [3, 4, EOS], 1), ([3, 4, EOS], [3, 4, EOS], 2), ([4], [3, 5], 0), ([4], [4], 0)],
)
def test_what_two_responses_share_leaves_a_token_of_each(one, other, shared):
    assert reward_training._shared(one, other) == reward_training._shared(other, one) == shared


def test_the_loss_of_the_tokens_mean_has_its_weight(source):
    def weights(token_weight):
        network, settings = made(source), SETTINGS.model_copy(update={"token_weight": token_weight})
        next(train_reward_network(network, good_against_bad(4), settings, seed=0))
        return network.score.weight.detach()

    assert not torch.allclose(weights(0.0), weights(1.0), atol=1e-6)


def test_the_rate_rises_to_its_peak_and_falls_to_nearly_nothing(source):
    settings = SETTINGS.model_copy(update={"warmup_ratio": 0.25})
    rates = [step.learning_rate for step in train_reward_network(made(source), good_against_bad(8), settings, seed=0)]
    top = rates.index(max(rates))
    assert 0.7 * settings.learning_rate < max(rates) <= settings.learning_rate and 2 <= top <= 7
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(settings.learning_rate / len(rates))


def test_large_data_take_no_more_steps_than_allowed():
    assert steps_of(RewardModelSettings(epochs=1.0, batch_size=16, max_steps=10), groups=10_000) == 10
    assert steps_of(RewardModelSettings(epochs=0.5, batch_size=16, max_steps=10), groups=33) == 2


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(1, 10))
def test_parts_keep_groups_whole_and_in_order(sizes, most):
    groups = [Group(responses=[[number]] * size, pairs=[]) for number, size in enumerate(sizes)]
    parts = list(reward_training._parts(groups, most=most))
    assert [group for part in parts for group in part] == groups
    for part in parts:
        assert len(part) == 1 or sum(len(group.responses) for group in part) <= most


@pytest.mark.parametrize("is_equal", [True, False])
def test_processes_that_gather_together_make_as_many_passes(monkeypatch, is_equal):
    groups = [Group(responses=[[number]] * size, pairs=[]) for number, size in enumerate([3, 1, 1])]
    monkeypatch.setattr(reward_training, "processes", lambda: 2)
    passes = []
    for number in range(2):
        monkeypatch.setattr(reward_training, "rank", lambda number=number: number)
        passes.append(list(reward_training._passes(groups, 2, is_equal=is_equal)))
    assert [len(each) for each in passes] == ([2, 2] if is_equal else [2, 1])
    counted = [group for each in passes for part, counts in each if counts for group in part]
    assert sorted(group.responses[0][0] for group in counted) == [0, 1, 2] and {counts for part, counts in passes[0]} == {1.0}
    assert [counts for part, counts in passes[1]] == ([1.0, 0.0] if is_equal else [1.0])


# --- files --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader():
    return world_tokenizer(["ab cd 1 2 + = ."])


TEXTS = ["1 + 2 = 12. ab", "2", "1 + 1 = 2. cd ab 12"]


def test_a_saved_directory_is_plain_transformers_and_scores_the_same(source, tmp_path, reader):
    network = centred(made(source), at=0.25)
    told = score_texts([network], reader, TEXTS, batch_size=2)
    save_reward_model([network], reader, tmp_path / "saved")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    for text, score in zip(TEXTS, told, strict=True):
        ids = torch.tensor([[*reader(text)["input_ids"], reader.eos_token_id]])
        assert plain(input_ids=ids).logits.item() - 0.25 == pytest.approx(score, abs=1e-5)
    assert plain.config.posttrain_centre == 0.25
    assert "posttrain_packed" not in (tmp_path / "saved" / "config.json").read_text()
    (loaded,) = load_reward_model(tmp_path / "saved", on=CPU)
    assert score_texts([loaded], reader, TEXTS, batch_size=8) == pytest.approx(told, abs=1e-5)


def test_an_ensemble_scores_its_members_centred_mean(source, tmp_path, reader):
    members = [centred(made(source, seed=seed), at=float(seed)) for seed in range(3)]
    save_reward_model(members, reader, tmp_path / "saved")
    loaded = load_reward_model(tmp_path / "saved", on=CPU)
    assert [centre_of(member) for member in loaded] == [0.0, 1.0, 2.0]
    alone = [score_texts([member], reader, TEXTS, batch_size=3) for member in members]
    wanted = [sum(scores) / 3 for scores in zip(*alone, strict=True)]
    assert score_texts(loaded, reader, TEXTS, batch_size=1) == pytest.approx(wanted, abs=1e-5)
    assert alone[0] != pytest.approx(wanted, abs=1e-3)


def test_a_reward_model_of_anybody_has_no_centre(source):
    network = made(source)
    assert centre_of(network) == 0.0
    assert json.loads(network.config.to_json_string()).get("posttrain_centre") is None


def test_no_text_gets_no_score(source, reader):
    assert score_texts([made(source)], reader, [], batch_size=4) == []


# --- LoRA ---------------------------------------------------------------------------------------------------------------


def test_adapters_and_head_are_trained_and_merge_into_a_plain_model(source, tmp_path, reader):
    settings = ModelSettings(lora_rank=4, dtype="float32")
    network = get_peft_model(made(source, lora_rank=4, dtype="float32"), lora(settings, task="SEQ_CLS"))
    groups = good_against_bad()
    list(train_reward_network(network, groups[:16], SETTINGS, seed=0))
    assert accuracy(network, groups[16:]) > 0.8
    with torch.no_grad():
        before = last(network, SEQUENCES)
        whole = merged(network)
        after = last(whole, SEQUENCES)
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)
    save_reward_model([whole], reader, tmp_path / "saved")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    assert plain(input_ids=torch.tensor([SEQUENCES[0]])).logits.item() == pytest.approx(after[0].item(), abs=1e-4)
