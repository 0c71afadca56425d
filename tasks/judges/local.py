"""A judge that is a language model loaded here: the probabilities of the options by teacher forcing, in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.encoding import prompt_ids
from models.generate import generate
from models.load import check_base, device, dtype, load_model, load_tokenizer, prompt_text
from models.options import option_ids, option_logprobs
from models.prompt_format import as_shipped
from models.size import size_of
from posttrain.compute import Size
from posttrain.errors import RequestError
from posttrain.judges.opinions import Inquiry, Opinion, Usage, from_logprobs
from posttrain.records import Message, Prompt
from posttrain.settings.judge import JudgeSettings
from posttrain.settings.model import ModelSettings
from tasks.judges.cache import ReplyCache, reply_key
from tasks.judges.identity import BASE
from tasks.judges.interface import Judge, Written
from tasks.judges.load import JudgeSource
from tasks.workspace.weights import source_of

SETTING = "judge.model"
"""What errors of loading name."""


def open_judge(source: JudgeSource, *, identity: str, cache: ReplyCache) -> Judge:
    """Return the judge that the settings name, the pipeline's base or a model of its own; nothing is loaded yet.

    Raises:
        RequestError: there is no such model.
    """
    settings, model = source.settings, source.model
    if not source.is_base:
        check_base(settings.source, setting=SETTING, default=BASE)
    return LocalJudge(
        settings,
        source=source_of(source.base) if source.is_base else (settings.source, None),
        tokenizer=source.tokenizer if source.is_base else settings.source,
        model=model if source.is_base else ModelSettings(base=settings.source, context=model.context, dtype=model.dtype),
        context=source.context,
        identity=identity,
        cache=cache,
    )


class LocalJudge:
    """Asks a causal language model; it is loaded when the first question comes whose answer is not in the cache."""

    def __init__(
        self,
        settings: JudgeSettings,
        *,
        source: tuple[str, str | None],
        tokenizer: str | Path,
        model: ModelSettings,
        context: int,
        identity: str,
        cache: ReplyCache,
    ) -> None:
        self.name = f"{BASE if settings.model == BASE else Path(settings.model).name}-{identity[:8]}"
        self.usage = Usage()
        self._settings = settings
        self._source, self._tokenizer, self._model_settings = source, tokenizer, model
        self._context = context
        self._identity = identity
        self._cache = cache
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None

    @property
    def size(self) -> Size:
        """Weights of the model; none as long as every answer was in the cache."""
        return size_of(self._loaded[0]) if self._loaded else Size()

    def ask(self, inquiries: Sequence[Inquiry], *, advance: Callable[[int], None] = lambda replies: None) -> list[Opinion | None]:
        """Return an opinion each, None where `judge.budget` was spent before.

        Args:
            inquiries: all of one mode; equal ones are asked once.
            advance: is told how many were answered.
        """
        keys = [self._key(inquiry) for inquiry in inquiries]
        wanted = dict(zip(keys, inquiries, strict=True))
        replies = self._cache.get(list(wanted))
        new = {key: inquiry for key, inquiry in wanted.items() if key not in replies}
        if self._settings.budget:
            new = dict(list(new.items())[: max(0, self._settings.budget - self.usage.asked)])
        self.usage = self.usage.plus(Usage(cached=len(replies)))
        advance(len(replies))
        for part in _parts(new, most=self._settings.batch_size):
            for answered in self._answered(part):
                self._cache.put(answered)
                replies |= answered
                advance(len(answered))
        return [_opinion(replies[key]) if key in replies else None for key in keys]

    def write(self, prompts: Sequence[Prompt], *, max_new_tokens: int, seed: int) -> list[Written]:
        """Return a response of the judge's own model to each prompt, sampled at temperature 1."""
        model, tokenizer = self._loaded = self._loaded or self._load()
        given = generate(
            model,
            tokenizer,
            [prompt_text(tokenizer, prompt) for prompt in prompts],
            samples=1,
            temperature=1.0,
            max_new_tokens=max_new_tokens,
            context=self._context,
            batch_size=self._settings.batch_size,
            seed=seed,
        )
        tokens = sum(response.tokens for (response,) in given)
        self.usage = self.usage.plus(Usage(asked=len(given), completion_tokens=tokens))
        return [Written(response.text, response.is_finished) for (response,) in given]

    def close(self) -> None:
        """Let go of the cache."""
        self._cache.close()

    def _key(self, inquiry: Inquiry) -> str:
        return reply_key(
            judge=self._identity,
            dtype=str(dtype(self._model_settings)),
            context=self._context,
            max_tokens=self._settings.max_tokens if inquiry.think else 0,
            inquiry=asdict(inquiry),
        )

    def _answered(self, inquiries: Mapping[str, Inquiry]) -> Iterator[dict[str, dict[str, Any]]]:
        """Yield replies by key, as many at once as the model reads at once."""
        model, tokenizer = self._loaded = self._loaded or self._load()
        thoughts, written = self._thoughts(list(inquiries.values()))
        keys = list(inquiries)
        texts = [_rendered(tokenizer, inquiry, thought) for inquiry, thought in zip(inquiries.values(), thoughts, strict=True)]
        options = self._option_ids(next(iter(inquiries.values())), texts[0])
        lengths = [len(row) for row in prompt_ids(tokenizer, texts)]
        room = self._context - max(map(len, options))
        fitting = [index for index, length in enumerate(lengths) if length <= room]
        self.usage = self.usage.plus(Usage(asked=len(keys), prompt_tokens=sum(lengths), completion_tokens=written))
        if too_long := [index for index, length in enumerate(lengths) if length > room]:
            yield {keys[index]: {"logprobs": None, "reasoning": thoughts[index]} for index in too_long}
        batches = option_logprobs(
            model, tokenizer, [texts[index] for index in fitting], options, batch_size=self._settings.batch_size
        )
        for chosen, rows in batches:
            indices = [fitting[place] for place in chosen]
            yield {keys[index]: {"logprobs": row, "reasoning": thoughts[index]} for index, row in zip(indices, rows, strict=True)}

    def _load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        source, revision = self._source
        tokenizer = as_shipped(load_tokenizer(self._tokenizer, revision=revision, setting=SETTING))
        return load_model(source, self._model_settings, on=device(), revision=revision, setting=SETTING), tokenizer

    def _option_ids(self, inquiry: Inquiry, text: str) -> list[list[int]]:
        """Return the options' tokens; behind a chat template's last mark they stand without the space in front."""
        assert self._loaded
        tokenizer = self._loaded[1]
        starts_anew = inquiry.is_chat and (text[-1:].isspace() or text.endswith(tuple(tokenizer.all_special_tokens)))
        options = [option.strip() if starts_anew else option for option in inquiry.options]
        return option_ids(tokenizer, text[-TAIL:], options)

    def _thoughts(self, inquiries: Sequence[Inquiry]) -> tuple[list[str], int]:
        """Return what the model thinks aloud of each, up to where it writes the ending itself, and how many tokens it wrote."""
        if not inquiries[0].think:
            return [""] * len(inquiries), 0
        assert self._loaded
        model, tokenizer = self._loaded
        prompts = [_before_thought(tokenizer, inquiry) for inquiry in inquiries]
        given = generate(
            model,
            tokenizer,
            prompts,
            samples=1,
            temperature=0.0,
            max_new_tokens=self._settings.max_tokens,
            context=self._context,
            batch_size=self._settings.batch_size,
            seed=0,
        )
        thoughts = [response.text.split(inquiry.ending.strip())[0] for inquiry, (response,) in zip(inquiries, given, strict=True)]
        return thoughts, sum(response.tokens for (response,) in given)


TAIL = 40
"""Characters before the options that their tokens may depend on."""


def _parts(inquiries: Mapping[str, Inquiry], *, most: int) -> list[dict[str, Inquiry]]:
    """Return everything as one part, or parts of `most` where reasoning comes first, so that little is lost to a kill."""
    if not inquiries:
        return []
    if not next(iter(inquiries.values())).think:
        return [dict(inquiries)]
    ranked = sorted(inquiries.items(), key=lambda item: (len(item[1].question), item[1].question))
    return [dict(ranked[start : start + most]) for start in range(0, len(ranked), most)]


def _opinion(reply: Mapping[str, Any]) -> Opinion:
    # without the time: a judge that computes here says the same whenever it is asked, and labels made again are the same file
    if reply["logprobs"] is None:
        return Opinion(shares=None, mass=0.0)
    return replace(from_logprobs(reply["logprobs"]), reasoning=reply["reasoning"])


def _before_thought(tokenizer: PreTrainedTokenizerBase, inquiry: Inquiry) -> str:
    if inquiry.is_chat:
        return _chat(tokenizer, inquiry.system, [inquiry.question + inquiry.think])
    return _headed(inquiry) + inquiry.question + inquiry.think


def _rendered(tokenizer: PreTrainedTokenizerBase, inquiry: Inquiry, thought: str) -> str:
    """Return everything that stands before the options."""
    if inquiry.is_chat:
        turns = [inquiry.question + inquiry.think, thought.strip(), inquiry.ending.strip()] if inquiry.think else []
        return _chat(tokenizer, inquiry.system, turns or [inquiry.question + inquiry.ending])
    if not inquiry.think:
        return _headed(inquiry) + inquiry.question + inquiry.ending
    before = _before_thought(tokenizer, inquiry) + thought.rstrip()
    return before + ("" if inquiry.ending.startswith("\n") else "\n") + inquiry.ending


def _headed(inquiry: Inquiry) -> str:
    return f"{inquiry.system.rstrip()}\n\n" if inquiry.system.strip() else ""


def _chat(tokenizer: PreTrainedTokenizerBase, system: str, turns: Sequence[str]) -> str:
    """Return a conversation of user and judge in turn; where the template knows no system role, its text leads the first turn."""
    roles = ("user", "assistant")
    messages = [Message(role=roles[place % 2], content=turn) for place, turn in enumerate(turns)]
    if not system.strip():
        return prompt_text(tokenizer, tuple(messages))
    try:
        return prompt_text(tokenizer, (Message(role="system", content=system.strip()), *messages))
    except RequestError:
        first = Message(role="user", content=f"{system.strip()}\n\n{turns[0]}")
        return prompt_text(tokenizer, (first, *messages[1:]))
