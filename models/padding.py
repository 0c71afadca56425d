"""The token that fills up shorter sequences: a token of its own, the same in every process."""

import re

from transformers import PreTrainedTokenizerBase

from models.endings import TURN_END, end_ids

NEW = "<|pad|>"
"""Added where the tokenizer reserves no token for padding."""
_PAD = re.compile(r"\W*(finetune_?)?(right_?)?pad(ding)?(_?token)?(_?id)?\W*", re.IGNORECASE)
_RESERVED = re.compile(r"\W*(reserved|unused)\D*\d*\W*", re.IGNORECASE)


def with_pad_token(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return the tokenizer with a padding token that neither begins a text nor is taught as an end.

    The token that it names is kept. Otherwise it is the first of these that there is, the lowest id among equals: a special token
    whose name says padding (`<|finetune_right_pad_id|>`), one that is reserved (`<|reserved_special_token_0|>`), the unknown
    token; or `<|pad|>` is added, for which the embedding grows (`models.embedding`). An ordinary word never pads.

    Args:
        tokenizer: that knows its ends (`models.endings.with_endings`); it is changed.
    """
    taught = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.init_kwargs.get(TURN_END)}
    if tokenizer.pad_token is not None and tokenizer.pad_token_id not in taught:
        return tokenizer
    excluded = taught | set(end_ids(tokenizer))
    special = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    spare = [token for number, token in sorted(special.items()) if number not in excluded]
    unknown = [tokenizer.unk_token] if tokenizer.unk_token and tokenizer.unk_token_id not in excluded else []
    named = [token for token in spare if _PAD.fullmatch(token)]
    reserved = [token for token in spare if _RESERVED.fullmatch(token)]
    for token in (*named, *reserved, *unknown):
        tokenizer.pad_token = token
        return tokenizer
    tokenizer.add_special_tokens({"pad_token": NEW})
    return tokenizer
