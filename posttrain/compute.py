"""What training and reading take in floating-point operations, so that methods with several networks compare.

A method's own network is a part of it only: PPO has a critic, a reference and whatever rewards it, DPO a reference, RLAIF a
judge.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Weights of a network, or of several, that are multiplied once a token.

    Attributes:
        trained: that a gradient moves.
        frozen: that none moves, such as those below LoRA adapters.
    """

    trained: int = 0
    frozen: int = 0

    @property
    def weights(self) -> int:
        """All of them."""
        return self.trained + self.frozen

    def plus(self, other: "Size") -> "Size":
        """Return the sum."""
        return Size(self.trained + other.trained, self.frozen + other.frozen)


@dataclass(frozen=True)
class Compute:
    """What was spent besides the tokens that a stage counts as trained.

    Attributes:
        forward_tokens: read without being learnt from, each network's own; what a model wrote it has read as well.
        flops: of everything, training included.
    """

    forward_tokens: int = 0
    flops: float = 0.0

    def plus(self, other: "Compute") -> "Compute":
        """Return the sum."""
        return Compute(self.forward_tokens + other.forward_tokens, self.flops + other.flops)

    def as_costs(self) -> dict[str, float]:
        """Return {"forward_tokens", "flops"}, as a stage reports them."""
        return {"forward_tokens": self.forward_tokens, "flops": self.flops}


def reading(size: Size, tokens: int) -> Compute:
    """Return what it takes to read tokens without learning from them: 2 N operations each.

    A weight is multiplied and added once a token, N weights; attention's products of keys and queries are left out, which are few
    while sequences are shorter than some ten times the width (Kaplan et al. 2020, arXiv:2001.08361, section 2.1).
    """
    return Compute(forward_tokens=tokens, flops=2.0 * size.weights * tokens)


def learning(size: Size, tokens: int) -> Compute:
    """Return what it takes to learn from tokens: 6 N operations each, 2 N forward and 4 N backward.

    Of the backward pass half is the gradient of the weights, which frozen ones do not have: 4 N for them.
    """
    return Compute(flops=(6.0 * size.trained + 4.0 * size.frozen) * tokens)
