"""The Rao–Blackwellised KL: unbiased over every response there is, of less variance than the plain estimate, exact a step."""

from itertools import product

import pytest
import torch

from models import divergence
from models.divergence import response_kl
from tests.tiny_ppo import EOS, QUESTIONS, VOCABULARY, llama

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPT = [3, 4, 5]
EVERY = [[EOS], *([first, second] for first, second in product(range(VOCABULARY), repeat=2) if first != EOS)]
"""Every response of at most two tokens: EOS at once, or something and anything."""


@pytest.fixture(scope="module")
def models():
    return llama(seed=0).eval(), llama(seed=1).eval()


def kl(models, prompts, responses, *, temperature=1.0, batch_size=64):
    return response_kl(*models, prompts, responses, temperature=temperature, batch_size=batch_size)


def log_likelihood(model, response, *, temperature):
    """One sequence without padding, token by token."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([PROMPT + response])).logits[0].double() / temperature
    steps = logits.log_softmax(dim=-1)[len(PROMPT) - 1 : -1]
    return sum(step[token].item() for step, token in zip(steps, response, strict=True))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_it_is_unbiased_and_varies_less_than_the_plain_estimate(models, temperature):
    """Sums over all 241 responses that can be drawn, so that no sampling error blurs the comparison."""
    own, other = (
        torch.tensor([log_likelihood(model, one, temperature=temperature) for one in EVERY], dtype=torch.float64)
        for model in models
    )
    share = own.exp()
    assert share.sum().item() == pytest.approx(1, abs=1e-6)
    truth = (share * (own - other)).sum().item()
    told = kl(models, [PROMPT] * len(EVERY), EVERY, temperature=temperature)
    assert (share * told).sum().item() == pytest.approx(truth, abs=1e-5)
    assert truth > 0.05, "the two are far apart, so the tolerance can fail"
    variance, plain = ((share * (values - truth) ** 2).sum().item() for values in (told, own - other))
    assert variance < 0.5 * plain
    assert told.min() >= 0 and (own - other).min() < 0


def test_the_other_way_round_is_another_divergence(models):
    forth, back = kl(models, [PROMPT], [[7, 8, EOS]]), kl(models[::-1], [PROMPT], [[7, 8, EOS]])
    assert (forth - back).abs().item() > 1e-3


def test_a_model_is_at_no_distance_from_itself(models):
    assert kl((models[0], models[0]), [PROMPT], [[7, 8, EOS]]).tolist() == [0.0]


def test_only_the_response_counts(models):
    """Nothing is asked behind the last token, nor where a prompt's token is predicted: an empty response is at no distance."""
    assert kl(models, [PROMPT, PROMPT], [[], [7]])[0] == 0
    # the first token alone: the KL at the prompt's last position, which is a part of that of a longer response
    first, longer = kl(models, [PROMPT, PROMPT], [[7], [7, 8]]).tolist()
    assert 0 < first < longer
    assert kl(models, [PROMPT], [[9]]).item() == pytest.approx(first, abs=1e-6), "whatever token was drawn there"


@pytest.mark.parametrize("batch_size", [1, 3, 12])
@pytest.mark.parametrize("room", [1, 2, 5, 10_000])
def test_batches_padding_and_little_memory_change_nothing(models, batch_size, room, monkeypatch):
    responses = [[2 + (place * step) % 13 for step in range(1, 1 + place % 6)] for place in range(len(QUESTIONS))]
    alone = [kl(models, [prompt], [response]).item() for prompt, response in zip(QUESTIONS, responses, strict=True)]
    monkeypatch.setattr(divergence, "LARGEST_LOGITS", room * VOCABULARY)
    sizes = []
    hook = models[0].lm_head.register_forward_hook(lambda *told: sizes.append(told[2].shape[:-1].numel()))
    told = kl(models, QUESTIONS, responses, batch_size=batch_size)
    hook.remove()
    assert told.tolist() == pytest.approx(alone, abs=1e-5)
    assert max(sizes) <= room and sum(sizes) == sum(map(len, responses)), "the output layer sees the response's positions only"


def test_one_response_a_prompt_and_no_prompt_without_a_token(models):
    with pytest.raises(ValueError, match="zip"):
        kl(models, [PROMPT, PROMPT], [[7]])
    with pytest.raises(ValueError, match="a prompt needs a token"):
        kl(models, [[]], [[7]])
