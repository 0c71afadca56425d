"""What chance decides, by hand and exactly; and episodes as they are joined and cut."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posttrain.rl.rollout import Sampled, derived_generator, drawn_tokens, joined, questions_of_update, uniforms

# 1/4, 1/2, 1/4: a chance below 1/4 is token 0, below 3/4 token 1, else token 2
QUARTERS = torch.tensor([0.25, 0.5, 0.25]).log()
ALMOST_1 = 1 - 2**-24


def drawn(logits, uniforms, temperature=1.0):
    chance = torch.tensor(uniforms)
    return drawn_tokens(logits.expand(len(uniforms), -1), chance, temperature=temperature)


def test_the_distribution_function_is_inverted_by_hand():
    tokens, logprobs = drawn(QUARTERS, [0.0, 0.24, 0.26, 0.74, 0.76, ALMOST_1])
    assert tokens.tolist() == [0, 0, 1, 1, 2, 2]
    torch.testing.assert_close(logprobs, QUARTERS[tokens])


def test_a_chance_on_the_border_belongs_to_what_is_above_it():
    # halves are exact in floating point: [0, 1/2) and [1/2, 1)
    assert drawn(torch.zeros(2), [0.5 - 2**-25, 0.5])[0].tolist() == [0, 1]


def test_each_row_has_its_own_distribution_and_chance():
    logits = torch.stack([QUARTERS, QUARTERS.flip(0) * 9, torch.tensor([0.0, -50.0, -50.0])])
    together = drawn_tokens(logits, torch.tensor([0.9, 0.3, 0.99]), temperature=1.0)
    for row in range(3):
        alone = drawn_tokens(logits[row : row + 1], torch.tensor([[0.9], [0.3], [0.99]])[row], temperature=1.0)
        assert together[0][row] == alone[0][0] and together[1][row] == alone[1][0]


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_on_a_fine_grid_of_chances_frequencies_are_the_probabilities(temperature):
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0, -30.0])
    grid = (torch.arange(100_000) + 0.5) / 100_000
    tokens, logprobs = drawn_tokens(logits.expand(100_000, -1), grid, temperature=temperature)
    wanted = torch.softmax(logits / temperature, dim=-1)
    torch.testing.assert_close(torch.bincount(tokens, minlength=5) / 100_000, wanted, atol=2e-5, rtol=0)
    torch.testing.assert_close(logprobs.exp(), wanted[tokens])


@pytest.mark.parametrize("impossible", [[0], [3], [0, 3], [0, 1, 2], [1, 2, 3]])
def test_a_token_without_probability_is_never_drawn(impossible):
    logits = torch.zeros(4)
    logits[impossible] = -torch.inf
    tokens, logprobs = drawn(logits, [0.0, 1e-30, 0.2, 0.5, 0.8, ALMOST_1, 1.0])  # a product may round up to 1
    assert not set(tokens.tolist()) & set(impossible)
    assert logprobs.isfinite().all()


@given(seed=st.integers(0, 200))
def test_the_last_token_is_reachable_and_nothing_behind_it(seed):
    """Rounding leaves the sum of many probabilities a hair from 1, on either side."""
    logits = torch.randn(1, 5_000, generator=torch.Generator().manual_seed(seed))
    tokens, logprobs = drawn_tokens(logits, torch.tensor([ALMOST_1]), temperature=1.0)
    assert 0 <= tokens.item() < 5_000 and logprobs.isfinite().all()
    assert tokens.item() > 4_900


LARGE = [2**13, 2**13 + 1, 9_000, 49_152]


@pytest.mark.parametrize("vocabulary", LARGE)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_large_vocabulary_is_drawn_from_by_blocks_as_by_its_whole_distribution_function(vocabulary, temperature):
    draw = torch.Generator().manual_seed(vocabulary)
    logits = 3 * torch.randn(40, vocabulary, generator=draw)
    chance = torch.rand(40, generator=draw)
    tokens, logprobs = drawn_tokens(logits, chance, temperature=temperature)
    exact = torch.log_softmax(logits.double() / temperature, dim=-1)
    torch.testing.assert_close(logprobs, exact.gather(1, tokens[:, None])[:, 0].float(), atol=1e-5, rtol=0)
    reached = exact.exp().cumsum(dim=-1)
    above = reached.gather(1, tokens[:, None])[:, 0]
    below = above - exact.exp().gather(1, tokens[:, None])[:, 0]
    assert (below - 1e-5 <= chance).all() and (chance <= above + 1e-5).all()
    wanted = torch.searchsorted(reached, chance[:, None].double(), right=True)[:, 0]
    assert (tokens == wanted).sum() >= 36, "but for chances within rounding of a border"
    alone = [drawn_tokens(logits[row : row + 1], chance[row : row + 1], temperature=temperature) for row in range(3)]
    assert [one[0].item() for one in alone] == tokens[:3].tolist() and [one[1].item() for one in alone] == logprobs[:3].tolist()


@pytest.mark.parametrize("vocabulary", LARGE)
def test_of_a_large_vocabulary_no_token_without_probability_is_drawn_and_each_other_can_be(vocabulary):
    possible = torch.tensor([255, 256, 700, 7_000, vocabulary - 3])  # an end of a block, a beginning, and within
    logits = torch.full((vocabulary,), -torch.inf)
    logits[possible] = torch.tensor([0.2, 0.2, 0.2, 0.1, 0.3]).log()
    grid = torch.linspace(0.0, 1.0, 1_001)  # a product may round up to 1
    tokens, logprobs = drawn(logits, [*grid.tolist(), 1e-30, ALMOST_1])
    assert set(tokens.tolist()) == set(possible.tolist()) and logprobs.isfinite().all()
    assert tokens[[0, 100, 300, 500, 650, 900, 1_000]].tolist() == [255, 255, 256, 700, 7_000, vocabulary - 3, vocabulary - 3]
    even = drawn(torch.zeros(2**13), [0.5, 0.5 - 2**-15])[0]
    assert even.tolist() == [2**12, 2**12 - 1], "a chance on the border belongs to what is above it"


def test_at_temperature_0_the_likeliest_token_is_certain_whatever_its_chance():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, -1.0, 3.0]])
    for chance in (0.0, 0.5, ALMOST_1):
        tokens, logprobs = drawn_tokens(logits, torch.full((2,), chance), temperature=0.0)
        assert tokens.tolist() == [1, 0] and logprobs.tolist() == [0.0, 0.0]


def test_half_precision_logits_are_drawn_from_in_full():
    logits = torch.randn(8, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    chance = torch.rand(8, generator=torch.Generator().manual_seed(1))
    told, wanted = (drawn_tokens(one, chance, temperature=0.9) for one in (logits, logits.float()))
    assert torch.equal(told[0], wanted[0]) and torch.equal(told[1], wanted[1]) and told[1].dtype == torch.float32


# --- questions --------------------------------------------------------------------------------------------------------


@given(questions=st.integers(1, 9), slots=st.integers(1, 7), samples=st.integers(1, 3), seed=st.integers(0, 5))
def test_every_question_is_asked_once_before_any_is_asked_again(questions, slots, samples, seed):
    how = {"episodes": slots * samples, "samples": samples, "questions": questions, "seed": seed}
    updates = [questions_of_update(update, **how) for update in range(questions)]  # `slots` passes over the questions
    assert all(len(asked) == slots * samples for asked in updates)
    asked = [question for update in updates for question in update]
    assert all(len(set(asked[start : start + samples])) == 1 for start in range(0, len(asked), samples))
    stream = asked[::samples]
    for start in range(0, len(stream), questions):
        assert sorted(stream[start : start + questions]) == list(range(questions))
    assert Counter(asked) == dict.fromkeys(range(questions), slots * samples)


def test_each_pass_has_an_order_of_its_own_and_the_seed_decides():
    def passes(seed):
        return [questions_of_update(update, episodes=20, samples=1, questions=20, seed=seed) for update in range(3)]

    orders = passes(0)
    assert len({tuple(order) for order in [*orders, *passes(1), list(range(20))]}) == 7
    assert passes(0) == orders


# --- chance -----------------------------------------------------------------------------------------------------------


def test_chance_depends_on_seed_and_use_alone():
    def number(*use):
        return torch.rand(1, generator=derived_generator(*use)).item()

    uses = [(0, "tokens", 1), (0, "tokens", 2), (1, "tokens", 1), (0, "questions", 1), (0, "tokens", 1, 0)]
    first = [number(*use) for use in uses]
    torch.rand(1000)
    assert [number(*use) for use in reversed(uses)] == first[::-1]
    assert len(set(first)) == len(uses)


def test_chances_of_updates_are_uniform_and_unlike_each_other():
    one, other = (uniforms(update, episodes=400, longest=50, seed=3) for update in (0, 1))
    assert one.shape == (400, 50) and not torch.equal(one, other)
    assert torch.equal(one, uniforms(0, episodes=400, longest=50, seed=3))
    assert (one >= 0).all() and (one < 1).all()
    # 20,000 uniform numbers in 10 bins: chi-square with 9 degrees of freedom is above 33.7 once in 10,000
    counts = torch.histc(one, bins=10, min=0, max=1)
    assert ((counts - 2_000).square() / 2_000).sum().item() < 33.7
    both = torch.stack([one.flatten(), other.flatten()])
    assert abs(torch.corrcoef(both)[0, 1].item()) < 0.03


# --- episodes ---------------------------------------------------------------------------------------------------------

PROMPTS = [[5, 6, 7], [8], [5, 5]]
SAMPLED = Sampled(
    responses=[[2, 1], [3, 4, 2, 1], [9]],
    logprobs=[torch.tensor([-0.5, -1.0]), torch.tensor([-1.5, -2.0, -2.5, -3.0]), torch.tensor([-4.0])],
    is_finished=[True, True, False],
)


def test_joined_by_hand():
    told = joined(PROMPTS, SAMPLED, pad_id=0, device=torch.device("cpu"))
    assert told.ids.tolist() == [[5, 6, 7, 2, 1], [8, 3, 4, 2, 1], [5, 5, 9, 0, 0]]
    assert told.prompt_length.tolist() == [3, 1, 2] and told.response_length.tolist() == [2, 4, 1]
    assert told.is_finished.tolist() == [True, True, False]
    assert told.logprob.tolist() == [[-0.5, -1.0, 0.0, 0.0], [-1.5, -2.0, -2.5, -3.0], [-4.0, 0.0, 0.0, 0.0]]
    assert told.is_response.long().tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert told.score.tolist() == [0.0] * 3 and told.value.shape == told.reference_logprob.shape == (3, 4)


def test_rows_are_cut_to_the_longest_of_them():
    part = joined(PROMPTS, SAMPLED, pad_id=0, device=torch.device("cpu")).rows(torch.tensor([2, 0]))
    assert part.ids.tolist() == [[5, 5, 9, 0, 0], [5, 6, 7, 2, 1]]
    assert part.logprob.tolist() == [[-4.0, 0.0], [-0.5, -1.0]]
    assert part.is_finished.tolist() == [False, True] and part.value.shape == part.reference_logprob.shape == (2, 2)
    alone = part.rows(torch.tensor([0]))
    assert alone.ids.tolist() == [[5, 5, 9]] and alone.logprob.tolist() == [[-4.0]] and alone.is_response.tolist() == [[True]]


def test_an_empty_response_is_refused():
    sampled = Sampled(responses=[[1], []], logprobs=[torch.zeros(1), torch.zeros(0)], is_finished=[True, False])
    with pytest.raises(ValueError, match=r"^response 1 has no token: its prompt of 3 tokens fills the context$"):
        joined([[4], [4, 5, 6]], sampled, pad_id=0, device=torch.device("cpu"))
