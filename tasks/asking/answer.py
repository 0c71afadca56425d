"""A named model, loaded, and its answers."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.generate import Response, generate
from models.load import device, load_model, load_tokenizer
from models.shots import prompt_after, shots_in
from posttrain.errors import RequestError
from posttrain.graders import Sample, build_grader
from posttrain.records import Demonstration, Prompt, Question
from posttrain.settings.model import ModelSettings
from tasks.workspace.quiet import quiet_libraries


@dataclass(frozen=True)
class Named:
    """A model that somebody named, and how it answers.

    Attributes:
        title: what stands over its answers.
        source: what its weights are loaded from: directory or hub id.
        tokenizer: what its tokenizer is loaded from.
        revision: at the hub.
        model: how it is loaded.
        context: tokens of prompt and response together, at most.
        max_new_tokens: of a response, at most.
    """

    title: str
    source: str
    tokenizer: str
    revision: str | None
    model: ModelSettings
    context: int
    max_new_tokens: int


@dataclass(frozen=True)
class Answer:
    """One response of one model.

    Attributes:
        text: of it.
        tokens: its length, its end counted.
        seconds: that it took, without loading.
        is_finished: whether the model ended it; else it was cut off.
        is_right: what the checker says; None where nobody can tell.
    """

    text: str
    tokens: int
    seconds: float
    is_finished: bool
    is_right: bool | None = None

    def figures(self) -> str:
        """Return what there is to say beside the text."""
        took = f"{self.tokens:,} tokens in {self.seconds:.1f} s" if self.seconds else f"{self.tokens:,} tokens"
        marks = {True: ["right"], False: ["wrong"], None: []}[self.is_right]
        return ", ".join([took, "finished" if self.is_finished else "cut off", *marks])


@dataclass
class Loaded:
    """A model in memory."""

    named: Named
    network: PreTrainedModel
    reader: PreTrainedTokenizerBase
    shots: Sequence[Demonstration] = field(default=())

    @classmethod
    def of(cls, named: Named) -> "Loaded":
        """Load a model.

        Raises:
            RequestError: it cannot be loaded.
        """
        with quiet_libraries():
            reader = load_tokenizer(named.tokenizer, revision=named.revision, setting="model")
            network = load_model(named.source, named.model, on=device(), revision=named.revision, setting="model")
        return cls(named, network, reader, shots_in(Path(named.source)))

    def text_of(self, prompt: Prompt) -> str:
        """Return what the model reads before its response."""
        return prompt_after(self.reader, self.shots, prompt)

    def tokens_of(self, prompt: Prompt) -> int:
        """Return how many tokens that is."""
        return len(self.reader(self.text_of(prompt))["input_ids"])

    def check_room(self, prompt: Prompt) -> None:
        """Refuse a prompt that fills the context.

        Raises:
            RequestError: it does.
        """
        named = self.named
        if (tokens := self.tokens_of(prompt)) >= named.context:
            raise RequestError(
                f"{named.title}: the prompt has {tokens:,} tokens and the context {named.context:,} (model.context), which "
                "leaves no room for an answer. Shorten the prompt"
            )

    def answer(
        self, prompt: Prompt, *, temperature: float, seed: int, name: str, hear: Callable[[str], None] = lambda text: None
    ) -> Answer:
        """Return the response to a prompt: that which an evaluation would get, with this seed and this name of the question.

        Args:
            prompt: text, or messages.
            temperature: 0 decodes greedily.
            seed: of what is drawn.
            name: of the prompt.
            hear: is told the text so far after each token.

        Raises:
            RequestError: the prompt fills the context.
        """
        self.check_room(prompt)
        text = self.text_of(prompt)
        started = time.perf_counter()
        ((found,),) = self._generate([text], temperature=temperature, seed=seed, names=[name], hear=hear)
        return _answer(found, time.perf_counter() - started)

    def answers(
        self,
        prompts: Sequence[Prompt],
        *,
        temperature: float,
        seed: int,
        names: Sequence[str],
        batch_size: int,
        advance: Callable[[int], None] = lambda done: None,
    ) -> list[Answer]:
        """Return the responses to many prompts, in their order; a prompt that fills the context gets an empty one."""
        texts = [self.text_of(prompt) for prompt in prompts]
        how: dict[str, Any] = {"batch_size": batch_size, "advance": advance}
        found = self._generate(texts, temperature=temperature, seed=seed, names=names, **how)
        return [_answer(one, 0.0) for (one,) in found]

    def _generate(
        self,
        texts: Sequence[str],
        *,
        temperature: float,
        seed: int,
        names: Sequence[str],
        batch_size: int = 1,
        advance: Callable[[int], None] = lambda done: None,
        hear: Callable[[str], None] | None = None,
    ) -> list[list[Response]]:
        with quiet_libraries():
            return generate(
                self.network,
                self.reader,
                texts,
                samples=1,
                temperature=temperature,
                max_new_tokens=self.named.max_new_tokens,
                context=self.named.context,
                batch_size=batch_size,
                seed=seed,
                names=names,
                advance=advance,
                hear=(lambda so_far: hear(so_far.text)) if hear else None,
            )


def _answer(found: Response, seconds: float) -> Answer:
    return Answer(found.text, found.tokens, seconds, found.is_finished)


def is_right(text: str, question: Question) -> bool | None:
    """Return whether an answer to a held-out question is right; None where the question has no answer to check against."""
    if not question.answers:
        return None
    (grade,) = build_grader("answer").grade([Sample(text, {"id": question.id, "answers": question.answers})])
    return bool(grade.is_right)
