"""Log-probabilities by hand, against softmax, and unmoved by padding."""

from math import log

import pytest
import torch

from posttrain.ops.logprobs import entropies, response_logprobs, stepwise_kl, taken_logprobs, token_logprobs

# Two words, three places: e^0 : e^0 = 1/2, 1/2 at place 0; e^log3 : e^0 = 3/4, 1/4 at place 1; place 2 predicts nothing.
LOGITS = torch.tensor([[[0.0, 0.0], [log(3), 0.0], [7.0, -7.0]]], dtype=torch.float64)
IDS = torch.tensor([[0, 1, 0]])  # log p = log 1/2 for the 1 at place 1, log 3/4 for the 0 at place 2


def random_case(seed=0, batch=3, time=6, vocabulary=11):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, time, vocabulary, generator=generator, dtype=torch.float64) * 3
    return logits, torch.randint(vocabulary, (batch, time), generator=generator)


def test_by_hand():
    told = token_logprobs(LOGITS, IDS, temperature=1.0)
    torch.testing.assert_close(told, torch.tensor([[log(1 / 2), log(3 / 4)]], dtype=torch.float64))
    assert not torch.allclose(told, torch.tensor([[log(1 / 2), log(1 / 4)]], dtype=torch.float64))  # it can fail


def test_temperature_by_hand():
    # T = 1/2 doubles the logits: e^(2 log 3) : 1 = 9 : 1, so 9/10
    told = token_logprobs(LOGITS, IDS, temperature=0.5)
    torch.testing.assert_close(told, torch.tensor([[log(1 / 2), log(9 / 10)]], dtype=torch.float64))


def test_a_response_is_the_sum_of_its_tokens_by_hand():
    whole = torch.tensor([[False, True, True]])
    last = torch.tensor([[False, False, True]])
    assert response_logprobs(LOGITS, IDS, whole, temperature=1.0).item() == pytest.approx(log(1 / 2 * 3 / 4))
    assert response_logprobs(LOGITS, IDS, last, temperature=1.0).item() == pytest.approx(log(3 / 4))


def test_no_response_is_certain():
    assert response_logprobs(LOGITS, IDS, torch.zeros(1, 3, dtype=torch.bool), temperature=1.0).tolist() == [0.0]


def test_they_are_those_of_log_softmax():
    logits, ids = random_case()
    wanted = torch.log_softmax(logits[:, :-1] / 0.7, dim=-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(token_logprobs(logits, ids, temperature=0.7), wanted)


def test_the_probabilities_of_all_words_sum_to_one():
    logits, ids = random_case(vocabulary=5)
    total = sum(token_logprobs(logits, torch.full_like(ids, word), temperature=1.3).exp() for word in range(5))
    torch.testing.assert_close(total, torch.ones_like(total))


def test_a_constant_added_to_all_logits_changes_nothing_however_large():
    logits, ids = random_case()
    torch.testing.assert_close(
        token_logprobs(logits + 1e4, ids, temperature=1.0), token_logprobs(logits, ids, temperature=1.0), atol=1e-9, rtol=0
    )


def test_padding_changes_nothing_bit_for_bit():
    logits, ids = random_case()
    is_response = torch.zeros_like(ids, dtype=torch.bool)
    is_response[:, 3:] = True
    alone = response_logprobs(logits, ids, is_response, temperature=1.0)
    padding = torch.full((3, 4, 11), 1e9, dtype=torch.float64)
    padded = response_logprobs(
        torch.cat([logits, padding], dim=1),
        torch.cat([ids, torch.zeros(3, 4, dtype=torch.int64)], dim=1),
        torch.cat([is_response, torch.zeros(3, 4, dtype=torch.bool)], dim=1),
        temperature=1.0,
    )
    assert torch.equal(alone, padded)


def test_a_word_that_cannot_be_outside_the_response_does_no_harm():
    logits, ids = random_case()
    logits[:, 0, :] = -torch.inf
    logits[:, 0, 0] = 0.0
    is_response = torch.zeros_like(ids, dtype=torch.bool)
    is_response[:, 3:] = True
    assert response_logprobs(logits, ids, is_response, temperature=1.0).isfinite().all()


def test_the_gradient_pushes_taken_words_up_and_sums_to_nought():
    logits, ids = random_case()
    logits.requires_grad_()
    token_logprobs(logits, ids, temperature=1.0).sum().backward()
    torch.testing.assert_close(logits.grad.sum(dim=-1), torch.zeros(3, 6, dtype=torch.float64), atol=1e-12, rtol=0)
    assert (logits.grad[:, :-1].gather(-1, ids[:, 1:, None]) > 0).all()
    assert (logits.grad[:, -1] == 0).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match=rf"^temperature must be greater than 0, got {temperature}$"):
        token_logprobs(LOGITS, IDS, temperature=temperature)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"^logits \(1, 3, 2\) and ids \(1, 2\) must agree in batch and time$"):
        token_logprobs(LOGITS, IDS[:, :2], temperature=1.0)
    with pytest.raises(ValueError, match=r"^is_response \(1, 2\) and ids \(1, 3\) must have one shape$"):
        response_logprobs(LOGITS, IDS, torch.zeros(1, 2, dtype=torch.bool), temperature=1.0)


def test_a_response_cannot_start_at_the_very_beginning():
    with pytest.raises(
        ValueError, match=r"^a response cannot start at position 0: no token stands before it to predict it from$"
    ):
        response_logprobs(LOGITS, IDS, torch.ones(1, 3, dtype=torch.bool), temperature=1.0)


# --- flat, for PPO ----------------------------------------------------------------------------------------------------


def test_taken_by_hand():
    logits = torch.tensor([[0.0, 0.0], [log(3), 0.0]], dtype=torch.float64)
    told, entropy = taken_logprobs(logits, torch.tensor([1, 0]), temperature=1.0)
    torch.testing.assert_close(told, torch.tensor([log(1 / 2), log(3 / 4)], dtype=torch.float64))
    assert entropy.tolist() == pytest.approx([log(2), -(3 / 4) * log(3 / 4) - (1 / 4) * log(1 / 4)], abs=1e-12)
    # T = 1/2 doubles the logits: 9 : 1
    told, entropy = taken_logprobs(logits, torch.tensor([1, 0]), temperature=0.5)
    torch.testing.assert_close(told, torch.tensor([log(1 / 2), log(9 / 10)], dtype=torch.float64))
    assert entropy[1].item() == pytest.approx(-0.9 * log(0.9) - 0.1 * log(0.1))


@pytest.mark.parametrize("at_once", [1, 30, 2**18], ids=["a row", "two rows", "all rows"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_taken_are_those_of_whole_sequences_and_so_is_their_gradient(temperature, at_once, monkeypatch):
    monkeypatch.setattr("posttrain.ops.logprobs._AT_ONCE", at_once)
    logits, ids = random_case()
    logits.requires_grad_()
    weight = torch.linspace(-1, 2, 15, dtype=torch.float64)
    flat, entropy = taken_logprobs(logits[:, :-1].reshape(-1, 11), ids[:, 1:].reshape(-1), temperature=temperature)
    (mine,) = torch.autograd.grad((flat * weight).sum(), logits)
    whole = token_logprobs(logits, ids, temperature=temperature).reshape(-1)
    (wanted,) = torch.autograd.grad((whole * weight).sum(), logits)
    torch.testing.assert_close(flat, whole)
    torch.testing.assert_close(mine, wanted)
    torch.testing.assert_close(entropy, entropies(logits[:, :-1].reshape(-1, 11), temperature=temperature))
    assert not entropy.requires_grad


def test_takens_gradient_is_that_of_finite_differences():
    logits, ids = random_case(batch=1, time=4, vocabulary=5)
    flat, taken = logits[0].requires_grad_(), ids[0]
    assert torch.autograd.gradcheck(lambda given: taken_logprobs(given, taken, temperature=1.3)[0], flat)


def test_taking_leaves_the_logits_as_they_were():
    logits, ids = random_case()
    flat = logits[0].clone().requires_grad_()
    taken_logprobs(flat, ids[0], temperature=1.0)[0].sum().backward()
    assert torch.equal(flat.detach(), logits[0])


def test_entropy_by_hand():
    logits = torch.tensor([[0.0, 0.0], [log(3), 0.0], [500.0, -500.0]], dtype=torch.float64)
    wanted = [log(2), -(3 / 4) * log(3 / 4) - (1 / 4) * log(1 / 4), 0.0]
    assert entropies(logits, temperature=1.0).tolist() == pytest.approx(wanted, abs=1e-12)
    # at T = 1/2 the second is 9/10 and 1/10
    assert entropies(logits, temperature=0.5)[1].item() == pytest.approx(-0.9 * log(0.9) - 0.1 * log(0.1))


def test_taken_shapes_and_temperature_are_checked():
    logits, ids = torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"^logits \(3, 4\) and ids \(2,\) must agree in their first dimension$"):
        taken_logprobs(logits, ids, temperature=1.0)
    with pytest.raises(ValueError, match=r"^temperature must be greater than 0, got 0.0$"):
        taken_logprobs(logits, torch.zeros(3, dtype=torch.int64), temperature=0.0)


# --- exact KL of a step -----------------------------------------------------------------------------------------------


def test_the_kl_of_a_step_by_hand():
    """p = 3/4, 1/4 against q = 1/2, 1/2: 3/4 log 3/2 + 1/4 log 1/2 = 0.13081; the other way 1/2 log 2/3 + 1/2 log 2 = 0.14384.

    At T = 1/2 p is 9/10, 1/10: 9/10 log 9/5 + 1/10 log 1/5 = 0.36806.
    """
    ours, even = torch.tensor([[log(3), 0.0]]), torch.tensor([[5.0, 5.0]])
    assert stepwise_kl(ours, even, temperature=1.0).tolist() == pytest.approx([0.13081], abs=1e-5)
    assert stepwise_kl(even, ours, temperature=1.0).tolist() == pytest.approx([0.14384], abs=1e-5)
    assert stepwise_kl(ours, even, temperature=0.5).tolist() == pytest.approx([0.36806], abs=1e-5)


def test_the_kl_of_a_step_is_torchs(monkeypatch):
    logits, others = (random_case(seed, batch=1, time=40)[0][0] for seed in (0, 1))
    wanted = torch.nn.functional.kl_div(others.log_softmax(-1), logits.log_softmax(-1), log_target=True, reduction="none").sum(-1)
    monkeypatch.setattr("posttrain.ops.logprobs._AT_ONCE", 30)  # two rows at once
    torch.testing.assert_close(stepwise_kl(logits, others, temperature=1.0), wanted.float(), atol=1e-5, rtol=1e-5)
    assert stepwise_kl(logits, logits, temperature=1.0).eq(0).all()


def test_a_token_that_is_never_taken_adds_nothing_to_the_kl():
    never = torch.tensor([[0.0, 0.0, -torch.inf]])
    assert stepwise_kl(never, never, temperature=1.0).tolist() == [0.0]
    # q gives it a third, and each of the others a third: log (1/2) / (1/3)
    assert stepwise_kl(never, torch.zeros(1, 3), temperature=1.0).tolist() == pytest.approx([log(1.5)], abs=1e-6)
    assert stepwise_kl(torch.zeros(1, 3), never, temperature=1.0).tolist() == [torch.inf]


def test_the_kl_of_a_step_wants_like_with_like():
    with pytest.raises(ValueError, match="must have one shape"):
        stepwise_kl(torch.zeros(2, 3), torch.zeros(2, 4), temperature=1.0)
    with pytest.raises(ValueError, match="temperature must be greater than 0, got 0"):
        stepwise_kl(torch.zeros(2, 3), torch.zeros(2, 3), temperature=0.0)
