"""Where responses lie in padded batches, and what their tokens weigh."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posttrain.ops.masks import is_predicting, is_response, padded, token_weights, unflattened

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=6)


def test_rows_are_padded_on_the_right():
    assert padded([[3, 4], [5], []], with_value=9).tolist() == [[3, 4], [5, 9], [9, 9]]
    assert padded([], with_value=9).shape == (0, 0)
    assert padded([[1]], with_value=0).dtype == torch.int64


def test_response_tokens_by_hand():
    lengths = torch.tensor([2, 0, 3])
    assert is_response(lengths).long().tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert is_response(lengths, longest=4).long().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]]


def test_the_place_that_predicts_a_token_is_the_one_before_it():
    # P P R R . and P R R R .: the last token of the prompt predicts the first of the response; EOS predicts nothing
    told = is_predicting(torch.tensor([2, 1]), torch.tensor([2, 3]), time=5)
    assert told.long().tolist() == [[0, 1, 1, 0, 0], [1, 1, 1, 0, 0]]


def test_a_sequence_without_padding_fits_exactly():
    assert is_predicting(torch.tensor([1]), torch.tensor([2]), time=3).long().tolist() == [[1, 1, 0]]


@given(prompts=LENGTHS, responses=LENGTHS, padding=st.integers(0, 3))
def test_predicting_places_and_response_tokens_are_as_many(prompts, responses, padding):
    rows = min(len(prompts), len(responses))
    prompt, response = torch.tensor(prompts[:rows]), torch.tensor(responses[:rows])
    time = int((prompt + response).max()) + padding
    assert is_predicting(prompt, response, time=time).sum(dim=1).tolist() == responses[:rows]
    assert is_response(response).sum(dim=1).tolist() == responses[:rows]


def test_what_predicts_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^a prompt needs a token, since nothing else predicts the response's first$"):
        is_predicting(torch.tensor([1, 0]), torch.tensor([1, 1]), time=3)
    with pytest.raises(ValueError, match=r"^a sequence of 4 tokens does not fit into 3$"):
        is_predicting(torch.tensor([1, 2]), torch.tensor([1, 2]), time=3)


def test_flat_figures_go_back_to_their_places():
    where = torch.tensor([[True, False], [True, True]])
    flat = torch.tensor([1.0, 2.0, 3.0])
    assert unflattened(flat, where).tolist() == [[1.0, 0.0], [2.0, 3.0]]
    assert torch.equal(unflattened(flat, where)[where], flat)
    with pytest.raises(ValueError, match=r"^2 figures do not fit 3 tokens$"):
        unflattened(flat[:2], where)


def test_weights_by_hand():
    # one token and three: 1/4 each; or 1/2 for the one and 1/6 for each of the three
    lengths = torch.tensor([1, 3])
    torch.testing.assert_close(token_weights(lengths, mean_over="tokens"), torch.full((4,), 1 / 4))
    torch.testing.assert_close(token_weights(lengths, mean_over="responses"), torch.tensor([1 / 2, 1 / 6, 1 / 6, 1 / 6]))


def test_an_empty_response_has_no_share():
    torch.testing.assert_close(token_weights(torch.tensor([0, 2]), mean_over="responses"), torch.tensor([1 / 2, 1 / 2]))


@pytest.mark.parametrize("mean_over", ["tokens", "responses"])
@given(lengths=LENGTHS)
def test_weights_sum_to_one(mean_over, lengths):
    weights = token_weights(torch.tensor(lengths), mean_over=mean_over)
    assert weights.shape == (sum(lengths),)
    assert weights.sum().item() == pytest.approx(1, abs=1e-6)


def test_nothing_to_weigh_is_refused():
    with pytest.raises(ValueError, match=r"^no response has a token, so there is no mean to take$"):
        token_weights(torch.tensor([0, 0]), mean_over="tokens")
