"""What every judge can do, wherever its model runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from posttrain.compute import Size
from posttrain.judges.opinions import Inquiry, Opinion, Usage
from posttrain.records import Prompt


@dataclass(frozen=True)
class Written:
    """A response, and whether it ended by itself."""

    text: str
    is_finished: bool


class Judge(Protocol):
    """Whoever answers inquiries, and can answer questions as any model can."""

    name: str
    usage: Usage

    @property
    def size(self) -> Size:
        """Weights of the model as far as it is loaded here; what a server computes is its own, and not known."""
        ...

    def ask(self, inquiries: Sequence[Inquiry], *, advance: Callable[[int], None] = ...) -> list[Opinion | None]:
        """Return an opinion each, None where the budget was spent before; `advance` is told how many were answered."""
        ...

    def write(self, prompts: Sequence[Prompt], *, max_new_tokens: int, seed: int) -> list[Written]:
        """Return a response of the judge's own model to each prompt, sampled at temperature 1."""
        ...

    def close(self) -> None:
        """Let go of connections and of the cache."""
        ...
