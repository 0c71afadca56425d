"""log p(response | prompt): against a softmax written out, and unmoved by company."""

import pytest
import torch

from models.encoding import response_ids
from models.load import load_model, load_tokenizer
from models.logprobs import score_responses
from posttrain.settings.model import ModelSettings


@pytest.fixture(scope="module")
def network(tiny_world):
    return load_model(tiny_world.base / "model", ModelSettings(), on=torch.device("cpu"))


@pytest.fixture(scope="module")
def reader(tiny_world):
    return load_tokenizer(tiny_world.tokenizer)


@pytest.fixture(scope="module")
def pairs(world_records):
    return [(record.prompt + "\n", record.completion) for record in world_records["demonstrations"][:7]]


def score(network, reader, pairs, *, finished=True, temperature=1.0, batch_size=4):
    prompts = [prompt for prompt, _ in pairs]
    ends = [reader.eos_token_id if finished else None] * len(pairs)
    responses = response_ids(reader, prompts, [response for _, response in pairs], ends=ends)
    return score_responses(network, reader, prompts, responses, temperature=temperature, batch_size=batch_size)


def by_hand(network, reader, prompt, response, *, finished, temperature):
    """One sequence without padding, token by token, with nothing but softmax."""
    head = reader(prompt)["input_ids"]
    tail = reader(response)["input_ids"] + ([reader.eos_token_id] if finished else [])
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([head + tail])).logits[0].double()
    total = 0.0
    for place, token in enumerate(tail, start=len(head)):
        weights = (logits[place - 1] / temperature).exp()
        total += (weights[token] / weights.sum()).log().item()
    return total


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_by_softmax_written_out(network, reader, pairs, finished, temperature):
    told = score(network, reader, pairs, finished=finished, temperature=temperature)
    wanted = [by_hand(network, reader, *pair, finished=finished, temperature=temperature) for pair in pairs]
    assert told.tolist() == pytest.approx(wanted, abs=1e-4)
    assert max(wanted) < -1, "they are far from 0, so the tolerance can fail"


def test_padding_and_batches_change_nothing(network, reader, pairs):
    together = score(network, reader, pairs, batch_size=7)
    alone = [score(network, reader, [pair]).item() for pair in pairs]
    assert together.tolist() == pytest.approx(alone, abs=1e-4)
    assert len({len(reader(prompt + response)["input_ids"]) for prompt, response in pairs}) > 1


def test_results_stand_in_the_order_of_the_pairs(network, reader, pairs):
    forth, back = score(network, reader, pairs, batch_size=2), score(network, reader, pairs[::-1], batch_size=2)
    assert forth.tolist() == pytest.approx(back.flip(0).tolist(), abs=1e-4)
    assert len(set(forth.tolist())) == len(pairs)


def test_an_unfinished_empty_response_is_certain(network, reader, pairs):
    assert score(network, reader, [(pairs[0][0], "")], finished=False).tolist() == [0.0]


def test_the_end_costs_what_eos_costs(network, reader, pairs):
    prompt = pairs[0][0]
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([reader(prompt)["input_ids"]])).logits[0, -1]
    wanted = torch.log_softmax(logits, dim=-1)[reader.eos_token_id].item()
    assert score(network, reader, [(prompt, "")]).item() == pytest.approx(wanted, abs=1e-4)


def test_one_pair_each(network, reader, pairs):
    with pytest.raises(ValueError, match="zip"):
        score_responses(network, reader, ["a\n"], [[3], [4]], temperature=1.0, batch_size=2)


def test_no_pairs_are_no_scores(network, reader):
    assert score(network, reader, []).shape == (0,)
