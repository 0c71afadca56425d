"""Texts as tokens: prompts as a model reads them before it answers, responses as they go on from their prompt, and back."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from posttrain.errors import RequestError

_QUESTION = "How many apples?"
_APART = "\n"
"""Stands before a text that is not the beginning, where its own prompt cannot."""


def prompt_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return the tokens that a model reads before it goes on: BOS where the tokenizer puts it, and no EOS behind them.

    Some tokenizers put EOS behind every text. Behind a prompt it would say that nothing follows.

    Args:
        tokenizer: of the model.
        texts: as `models.load.prompt_text` makes them.
    """
    if not texts:
        return []
    behind = _added_behind(tokenizer)
    rows = tokenizer(list(texts), return_attention_mask=False, return_token_type_ids=False)["input_ids"]
    return [row[: len(row) - behind] for row in rows]


def check_reads(tokenizer: PreTrainedTokenizerBase, *, name: str) -> None:
    """Refuse a tokenizer for which a text is nothing.

    transformers takes the tokenizer's class by the kind of model, and of files that fit another class it makes such a one.

    Args:
        tokenizer: of the model.
        name: what it is called in the error.

    Raises:
        RequestError: an ordinary question has no tokens.
    """
    if not _bare(tokenizer, [_QUESTION])[0]:
        raise RequestError(
            f"{name}: its tokenizer reads {_QUESTION!r} as no tokens. tokenizer.json is not of the kind that transformers takes "
            f"for this model ({type(tokenizer).__name__}). Save it with AutoTokenizer and look at what it encodes"
        )


def response_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], responses: Sequence[str], *, ends: Sequence[int | None]
) -> list[list[int]]:
    """Return the tokens of responses that were written, not sampled, as they go on from their prompts.

    Prompt and response are tokenised together: alone, a response would begin as a text does, which is another token to a
    SentencePiece tokenizer ("▁Yes" for "Yes"). Where the two share a token, the response is tokenised behind a line break.

    Args:
        tokenizer: of the model.
        prompts: texts as `models.load.prompt_text` makes them.
        responses: one a prompt.
        ends: the token to put behind each, unless it stands there; None behind one that was cut off.
    """
    if not responses:
        return []
    heads = _bare(tokenizer, prompts)
    wholes = _bare(tokenizer, [prompt + response for prompt, response in zip(prompts, responses, strict=True)])
    rows = []
    for head, whole, response, end in zip(heads, wholes, responses, ends, strict=True):
        row = whole[len(head) :] if whole[: len(head)] == head else ids_apart(tokenizer, response)
        rows.append(row if end is None or row[-1:] == [end] else [*row, end])
    return rows


def ids_apart(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the tokens of a text that follows another, whatever that is: without what stands at the beginning of texts alone."""
    before, whole = _bare(tokenizer, [_APART, _APART + text])
    return whole[len(before) :] if before and whole[: len(before)] == before else _bare(tokenizer, [text])[0]


def response_texts(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> list[str]:
    """Return sampled responses as texts that give the same tokens behind their prompts, a leading space included.

    A SentencePiece tokenizer takes the first space for the mark of a beginning, and drops it, so something stands before.
    """
    if not _marks_beginnings(tokenizer):
        texts: list[str] = tokenizer.batch_decode([list(row) for row in rows])
        return texts
    before = _bare(tokenizer, ["a"])[0]
    shown = tokenizer.decode(before)
    return [text[len(shown) :] for text in tokenizer.batch_decode([[*before, *row] for row in rows])]


def _bare(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    rows: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False
    )["input_ids"]
    return rows


def _marks_beginnings(tokenizer: PreTrainedTokenizerBase) -> bool:
    return bool(tokenizer.convert_ids_to_tokens(_bare(tokenizer, ["a"])[0][:1])[:1] in (["▁a"], ["▁"]))


def _added_behind(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens a tokenizer puts behind every text."""
    if not tokenizer.num_special_tokens_to_add(pair=False):
        return 0
    for text in ("a", *tokenizer.get_vocab()):
        if bare := _bare(tokenizer, [text])[0]:
            whole = tokenizer(text)["input_ids"]
            start = next(place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
            return len(whole) - start - len(bare)
    return 0
