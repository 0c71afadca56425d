"""The tokenizers of the tiny base: every word of the default world, or byte-level BPE for any other text."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from posttrain.prompts import PLAIN_CHAT_TEMPLATE

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"

_WORLD_TOKENS = Regex(r"\d| ?[A-Za-z]+(?: (?=\d))?| ?[^\sA-Za-z0-9]+(?: (?=\d))?|\s")
"""One token a digit; a space before a number belongs to the word or sign before it, any other space to what follows.
So joining tokens gives the text back."""


def world_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer that knows every word of `texts` as one token and every digit as one."""
    core = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(_WORLD_TOKENS, behavior="isolated")
    core.decoder = decoders.Fuse()
    core.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=[PAD, EOS, UNKNOWN], show_progress=False))
    return _finished(core, unknown=UNKNOWN)


def bpe_tokenizer(texts: Iterable[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of at most `vocabulary` tokens; digits stay apart, so that numbers can be computed."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PAD, EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return _finished(core, unknown=None)


def _finished(core: Tokenizer, *, unknown: str | None) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=unknown,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    return tokenizer
