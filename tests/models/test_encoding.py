"""Prompts without an end behind them, responses as they follow their prompts, and texts that come back as the same tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from models.encoding import check_reads, ids_apart, prompt_ids, response_ids, response_texts
from models.options import option_ids
from models.tokenizers import world_tokenizer
from posttrain.errors import RequestError
from tests.models.shipped import LETTERS, byte_level, sentence_piece

BOS, EOS = 1, 2
KINDS = {
    "plain": lambda: byte_level("</s>", eos_token="</s>"),
    "bos": lambda: sentence_piece(),
    "eos": lambda: sentence_piece(bos=False, eos=True),
    "both": lambda: sentence_piece(eos=True),
    "neither": lambda: sentence_piece(bos=False),
}
TEXTS = st.text(alphabet=LETTERS + " \n", min_size=1, max_size=12)


def pieces(tokenizer, ids):
    return tokenizer.convert_ids_to_tokens(ids)


@pytest.mark.parametrize(("kind", "before"), [("bos", ["<s>"]), ("eos", []), ("both", ["<s>"]), ("neither", [])])
def test_a_prompt_has_bos_where_the_tokenizer_puts_it_and_never_eos(kind, before):
    tokenizer = KINDS[kind]()
    assert pieces(tokenizer, prompt_ids(tokenizer, ["a b\n"])[0]) == [*before, "▁a", "▁b", "\n"]
    assert prompt_ids(tokenizer, []) == []


def test_an_eos_that_a_prompt_holds_itself_stays():
    """Such as that of an example before it."""
    tokenizer = KINDS["both"]()
    assert pieces(tokenizer, prompt_ids(tokenizer, ["a</s>"])[0]) == ["<s>", "▁a", "</s>"]


def test_a_word_tokenizer_that_does_not_know_a_letter():
    tokenizer = world_tokenizer(["12 + 5"])
    assert prompt_ids(tokenizer, ["12 +"]) == [tokenizer("12 +")["input_ids"]]


def test_a_response_does_not_begin_as_a_text_does():
    tokenizer = KINDS["both"]()
    told = response_ids(tokenizer, ["a\n", "a\n", "a\n"], ["b c", " b", ""], ends=[EOS, None, EOS])
    assert [pieces(tokenizer, ids) for ids in told] == [["b", "▁c", "</s>"], ["▁b"], ["</s>"]]
    assert pieces(tokenizer, tokenizer("b", add_special_tokens=False)["input_ids"]) == ["▁b"], "alone it would"


def test_an_end_that_is_written_out_stands_once():
    tokenizer = KINDS["bos"]()
    assert pieces(tokenizer, response_ids(tokenizer, ["a\n"], ["b</s>"], ends=[EOS])[0]) == ["b", "</s>"]


def test_where_prompt_and_response_share_a_token_the_response_stands_apart():
    tokenizer = KINDS["bos"]()
    # "▁" and "b" are one token together, "▁b", and the prompt ends with "▁"
    assert pieces(tokenizer, response_ids(tokenizer, ["a "], ["b"], ends=[None])[0]) == ["b"]
    assert pieces(tokenizer, ids_apart(tokenizer, "b c")) == ["b", "▁c"]


def test_an_option_that_shares_a_token_with_its_ending_has_no_mark():
    tokenizer = KINDS["bos"]()
    assert [pieces(tokenizer, ids) for ids in option_ids(tokenizer, "a ", ["b", "c"])] == [["b"], ["c"]]


@pytest.mark.parametrize("kind", KINDS)
@given(prompt=TEXTS, response=TEXTS)
def test_tokens_and_texts_are_one(kind, prompt, response):
    """Prompt and response joined are what the model would read, and a response's text gives its tokens again."""
    tokenizer = KINDS[kind]()
    prompt += "\n"
    head, tail = prompt_ids(tokenizer, [prompt])[0], response_ids(tokenizer, [prompt], [response], ends=[None])[0]
    assert head + tail == prompt_ids(tokenizer, [prompt + response])[0]
    text = response_texts(tokenizer, [tail])[0]
    assert text == response
    assert response_ids(tokenizer, [prompt], [text], ends=[None]) == [tail]


def test_a_tokenizer_for_which_a_text_is_nothing_is_refused():
    """A list of words without one for what is not in it, as transformers makes of files of another class."""
    empty = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"zebra": 0}, [])))
    with pytest.raises(RequestError, match=r"model.base=mine: its tokenizer reads 'How many apples\?' as no tokens"):
        check_reads(empty, name="model.base=mine")


@pytest.mark.parametrize("kind", KINDS)
def test_any_other_tokenizer_reads(kind):
    check_reads(KINDS[kind](), name="mine")
