"""How long the completions of a dataset are, and which limit of a response's tokens follows from that.

A limit that is too low cuts right answers off before they are given; one that is too high costs time wherever a model does not
stop. So `max_new_tokens=auto` goes by what the data show: the tokens that 95 % of the references have at most, EOS included, and
a quarter more, since a model's own answers are not exactly as long as people's. Where the context is too short for that, a
response gets what 95 % of the prompts leave: one long prompt must not shorten every answer, and has less room by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

LONG = 0.95
"""Share of references, and of prompts, that are as long or shorter."""
SLACK = 1.25
"""Tokens of a response over those of long references."""
STEP = 8
"""A limit is a multiple of so many tokens, unless the context ends before."""
WITHOUT_REFERENCES = 256
"""The limit where no reference tells how long an answer is. 90 % of GSM8K's solutions have at most 149 tokens (SmolLM2's); TRL's
`GRPOConfig.max_completion_length` is 512 in 1.16."""
REFERENCES = ("demonstrations", "preferences", "rankings", "ratings", "held_out")
"""Roles whose completions tell how long answers are: the first that has any. What is held out comes last."""
ASKED = ("questions", "held_out")
"""Roles whose prompts are answered."""

Counts = Mapping[int, int]


@dataclass(frozen=True)
class Lengths:
    """How many texts have how many tokens.

    Attributes:
        role: whose completions the references are; "" where there are none.
        references: rows by tokens of the longest completion, EOS included.
        prompts: rows by tokens of a prompt that is answered, as the model reads it.
    """

    role: str
    references: Counts
    prompts: Counts

    @classmethod
    def of_roles(cls, roles: Mapping[str, Mapping[str, Mapping[Any, int]]]) -> "Lengths":
        """Return the lengths of a dataset from those of its files: by role, `completions` and `prompts`."""
        counts = {role: {kind: _whole(told) for kind, told in kinds.items()} for role, kinds in roles.items()}
        role = next((role for role in REFERENCES if counts.get(role, {}).get("completions")), "")
        prompts: dict[int, int] = {}
        for asked in (role for role in ASKED if role in counts):
            for tokens, rows in counts[asked]["prompts"].items():
                prompts[tokens] = prompts.get(tokens, 0) + rows
        return cls(role, counts[role]["completions"] if role else {}, prompts)

    @property
    def rows(self) -> int:
        """References."""
        return sum(self.references.values())

    def beyond(self, limit: int) -> int:
        """Return how many references have more tokens than a limit."""
        return sum(rows for tokens, rows in self.references.items() if tokens > limit)

    @property
    def wanted(self) -> int:
        """Tokens that a response should have, whatever the context."""
        long = at_most(self.references, LONG)
        return STEP * ceil(SLACK * long / STEP) if long else WITHOUT_REFERENCES

    def limit(self, context: int) -> int:
        """Return what `max_new_tokens=auto` stands for, tokens.

        Args:
            context: tokens of prompt and response together, at most.
        """
        return max(1, min(self.wanted, context - max(1, at_most(self.prompts, LONG))))

    def figures(self) -> dict[str, float]:
        """Return the figures that the data gate logs."""
        told = {"references": self.rows}
        if self.references:
            told |= {
                "reference_tokens_50": at_most(self.references, 0.5),
                "reference_tokens_95": at_most(self.references, LONG),
                "reference_tokens_max": max(self.references),
            }
        if self.prompts:
            told |= {"prompt_tokens_95": at_most(self.prompts, LONG), "prompt_tokens_max": max(self.prompts)}
        return {name: float(value) for name, value in told.items()}


def at_most(counts: Counts, share: float) -> int:
    """Return the smallest number of tokens that a share of the rows does not exceed; 0 without rows."""
    total, seen = sum(counts.values()), 0
    for tokens in sorted(counts):
        seen += counts[tokens]
        if seen >= share * total:
            return tokens
    return 0


def _whole(told: Mapping[Any, int]) -> dict[int, int]:
    return {int(tokens): int(rows) for tokens, rows in told.items()}
