"""A conversation whose turns are kept, as far as the context holds them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from posttrain.records import Message


@dataclass
class Conversation:
    """Turns of a user and a model, the oldest first.

    Attributes:
        turns: kept so far.
    """

    turns: list[Message] = field(default_factory=list)

    def ask(self, text: str) -> None:
        """Add what the user says."""
        self.turns.append(Message(role="user", content=text))

    def hear(self, text: str) -> None:
        """Add what the model answered."""
        self.turns.append(Message(role="assistant", content=text))

    def trim(self, tokens_of: Callable[[Sequence[Message]], int], room: int) -> int:
        """Let the oldest turns go, a question with its answer, until the rest fits; return how many turns went.

        The last question stays in any case, whether it fits or not.

        Args:
            tokens_of: what turns come to, as the model reads them.
            room: tokens of all of them together, at most.
        """
        before = len(self.turns)
        while len(self.turns) > 2 and tokens_of(self.turns) > room:
            del self.turns[:2]
        return before - len(self.turns)


def room_for_turns(context: int, max_new_tokens: int) -> int:
    """Return the tokens that a conversation may have: an answer keeps its room, but never more than half of the context."""
    return context - min(max_new_tokens, context // 2)
