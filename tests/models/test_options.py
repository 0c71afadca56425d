"""Probabilities of options: against the model's own, by hand, whatever stands beside them."""

import math
import random
from functools import wraps

import pytest
import torch

from models.encoding import prompt_ids
from models.load import load_model, load_tokenizer
from models.options import _continuations, _shared_beginning, option_ids, option_logprobs
from posttrain.errors import RequestError
from posttrain.settings.model import ModelSettings
from tests.architectures import ARCHITECTURES, causal_model

TEXTS = [
    "Tom has 12 apples, finds 5. How many?\n12 + 5 = 17. So 17\nVerdict:",
    "Eva has 3 coins. How many?\nVerdict:",
    "Verdict:",
]


@pytest.fixture(scope="module")
def judge(tiny_world):
    source = tiny_world.base / "model"
    return load_model(source, ModelSettings(), on=torch.device("cpu")), load_tokenizer(tiny_world.tokenizer)


def told(judge, texts, options, *, batch_size=8):
    found = {}
    for chosen, rows in option_logprobs(*judge, texts, options, batch_size=batch_size):
        found |= {texts[index]: row for index, row in zip(chosen, rows, strict=True)}
    return [found[text] for text in texts]


def passes_of(model, monkeypatch):
    """Return a list that gets rows and tokens of each forward pass."""
    seen, forward = [], model.forward

    @wraps(forward)
    def watched(*args, **how):
        seen.append(tuple(how["input_ids"].shape))
        return forward(*args, **how)

    monkeypatch.setattr(model, "forward", watched)
    return seen


@torch.inference_mode()
def alone(judge, text, option):
    """log p(option | text), token by token, without any batch."""
    model, tokenizer = judge
    ids = tokenizer(text)["input_ids"]
    total = 0.0
    for token in option:
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1].double()
        total += logits.log_softmax(-1)[token].item()
        ids = [*ids, token]
    return total


def test_an_option_is_as_likely_as_its_token_comes_next(judge):
    options = option_ids(judge[1], "Verdict:", [" right", " wrong"])
    assert [len(option) for option in options] == [1, 1]
    for text, row in zip(TEXTS, told(judge, TEXTS, options), strict=True):
        assert row == pytest.approx([alone(judge, text, option) for option in options], abs=1e-5)


def test_options_of_several_tokens_are_teacher_forced(judge):
    options = option_ids(judge[1], "How many?", [" So 14", " Total 7"])
    assert [len(option) for option in options] == [3, 2]
    for text, row in zip(TEXTS, told(judge, TEXTS, options), strict=True):
        assert row == pytest.approx([alone(judge, text, option) for option in options], abs=1e-4)


def test_one_is_worth_what_does_not_go_on_as_ten(judge):
    ten, one = option_ids(judge[1], "= ", ["10", "1"])
    assert ten[:1] == one and len(ten) == 2
    for text, row in zip(TEXTS, told(judge, TEXTS, [ten, one]), strict=True):
        whole = [math.exp(alone(judge, text, option)) for option in (ten, one)]
        assert [math.exp(value) for value in row] == pytest.approx([whole[0], whole[1] - whole[0]], abs=1e-7)


def test_a_text_is_read_once_for_all_options_that_one_path_leads_to(judge, monkeypatch):
    """From 1 to 10: whatever follows the text, and whatever follows it and 1, are told by one pass."""
    model, tokenizer = judge
    options = [tokenizer(str(number), add_special_tokens=False)["input_ids"] for number in range(1, 11)]
    assert [len(option) for option in options] == [1] * 9 + [2]
    seen = passes_of(model, monkeypatch)
    rows = told(judge, TEXTS, options)
    assert len(seen) == 1 and seen[0][0] == len(TEXTS)
    for text, row in zip(TEXTS, rows, strict=True):
        whole = [math.exp(alone(judge, text, option)) for option in options]
        assert [math.exp(value) for value in row] == pytest.approx([whole[0] - whole[9], *whole[1:]], abs=1e-7)


def test_options_that_part_are_read_along_each_path(judge):
    options = option_ids(judge[1], "How many?", [" So 14", " So 15", " Total 7"])
    assert options[0][:-1] == options[1][:-1] and options[0][0] != options[2][0]
    options.append(options[0][:-1])
    for text, row in zip(TEXTS, told(judge, TEXTS, options), strict=True):
        whole = [math.exp(alone(judge, text, option)) for option in options]
        rest = whole[3] - whole[0] - whole[1]
        assert [math.exp(value) for value in row] == pytest.approx([*whole[:3], rest], abs=1e-7)


@pytest.mark.parametrize("several", [True, False])
def test_what_all_texts_begin_with_is_read_once(judge, monkeypatch, several):
    beginning = "Tom has 12 apples, finds 5. How many? " * 4
    texts = [beginning + text for text in TEXTS]
    options = option_ids(judge[1], "Verdict:", [" So 14", " Total 7"] if several else [" right", " wrong"])
    wanted = [[alone(judge, text, option) for option in options] for text in texts]
    seen = passes_of(judge[0], monkeypatch)
    for batch_size in (8, 2):
        seen.clear()
        rows = told(judge, texts, options, batch_size=batch_size)
        for row, expected in zip(rows, wanted, strict=True):
            assert row == pytest.approx(expected, abs=1e-5)
        (rows_of_first, length), *others = seen
        assert rows_of_first == 1 and length >= 32, "what is shared"
        assert len(others) == (2 if several else 1) * (1 if batch_size == 8 else 2)
        assert max(tokens for _, tokens in others) < length + 3
        assert sum(rows for rows, _ in others) == len(texts) * (2 if several else 1)


class NumberedTokens:
    """Pads rows of token ids; texts are their ids, and 0 pads."""

    def pad(self, given, *, padding_side, return_tensors):
        assert (padding_side, return_tensors) == ("right", "pt")
        rows = given["input_ids"]
        longest = max(map(len, rows))
        return {"input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows])}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_goes_on_from_a_shared_beginning_or_reads_it_again(architecture):
    model = causal_model(architecture, vocabulary=64, pad=0, eos=1)
    choose = torch.Generator().manual_seed(0)
    beginning, *ends = (torch.randint(2, 64, (length,), generator=choose).tolist() for length in (40, 3, 9, 5))
    texts, options = [beginning + end for end in ends], [[5], [6], [7, 8]]
    shared = _shared_beginning(model, texts)
    assert (shared is None) == (architecture in {"mamba", "jamba", "lfm2", "openai-gpt"})
    if shared:
        wanted = torch.tensor(_continuations(model, NumberedTokens(), texts, options))
        ends = [text[shared.length :] for text in texts]
        for _ in range(2):  # nothing is left in it by a batch
            found = torch.tensor(_continuations(model, NumberedTokens(), ends, options, shared=shared))
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_a_beginning_is_shared_only_where_it_is_long_and_several_texts_have_it(judge):
    long = "Tom has 12 apples, finds 5. How many? " * 4
    for texts, is_shared in ([[long, f"{long} So"], True], [[long], False], [["Tom has", "Tom finds"], False], [[], False]):
        assert (_shared_beginning(judge[0], prompt_ids(judge[1], texts)) is not None) == is_shared
    shared = _shared_beginning(judge[0], prompt_ids(judge[1], [long, f"{long} So"]))
    assert shared.length == len(prompt_ids(judge[1], [long])[0]) - 1, "one token is left to read"


def test_neither_order_nor_company_changes_a_bit(judge):
    """The same set of texts in another order makes the same batches; other batches agree up to rounding."""
    texts = [f"{'Tom has 12 apples. ' * (number % 4)}{number}\nVerdict:" for number in range(40)]
    options = option_ids(judge[1], "Verdict:", [" right", " wrong"])
    rows = dict(zip(texts, told(judge, texts, options), strict=True))
    shuffled = random.Random(0).sample(texts, len(texts))
    assert dict(zip(shuffled, told(judge, shuffled, options), strict=True)) == rows
    for text, row in zip(texts, told(judge, texts, options, batch_size=3), strict=True):
        assert row == pytest.approx(rows[text], abs=1e-5)


def test_nothing_is_asked_about_nothing(judge):
    assert list(option_logprobs(*judge, [], [[5], [6]], batch_size=2)) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            [" right", " excellent"],
            "judge.template: the judge's tokenizer does not know the option ' excellent' (behind 'Verdict:'), so it has no "
            "probability. Take words that the model has read, or another judge.model",
        ),
        (
            [" right", " right"],
            "judge.template: the options ' right' and ' right' are the same tokens to the judge. Take words that differ",
        ),
    ],
)
def test_options_that_the_model_cannot_say_are_refused(judge, options, message):
    with pytest.raises(RequestError) as caught:
        option_ids(judge[1], "Verdict:", options)
    assert str(caught.value) == message
