"""What every source of rewards is: told, checked and keyed without torch, which a cached run does not wait for."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from posttrain.errors import RequestError
from tasks.workspace.keys import source_digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from posttrain.rl.rewards import RewardFunction

FORMS = "answer, program, a grader's JSON file, model:<directory or models:/name@alias>, or python:<module>:<function>"
"""What `ppo.reward` may be."""


@dataclass(frozen=True)
class Naming:
    """What else it takes to find what `ppo.reward` names.

    Attributes:
        partial_credit: `ppo.partial_credit`.
        registered: returns the folder of a registered model (`tasks.tracking.registry.local_path`).
    """

    partial_credit: float
    registered: Callable[[str], Path]


@dataclass(frozen=True)
class RewardSource(ABC):
    """Where rewards come from; each kind is a subclass in the file of its name, below `tasks/rewards/sources/`.

    Attributes:
        name: as the setting has it, or what errors call it.
        kind: of the source, and the name of its file.
        is_checkable_by_program: a program checks the response against the question's answers, which each question must have.
        is_reward_model: a network with one score, whose weights a critic may start from.
        has_own_limits: `ppo.reward_seconds` does not hold: there are limits elsewhere (`judge.timeout`, `judge.retries`), or it
            is a network, which ends by itself.
    """

    name: str

    kind: ClassVar[str]
    is_checkable_by_program: ClassVar[bool] = False
    is_reward_model: ClassVar[bool] = False
    has_own_limits: ClassVar[bool] = False

    @classmethod
    def named(cls, name: str, how: Naming) -> Self:
        """Return the source that `ppo.reward` names; what is wrong with it is told before anything is trained.

        Raises:
            RequestError: it names nothing that is there, or nothing that can be used.
        """
        raise RequestError(f"ppo.reward={name}: there is no such reward. It is {FORMS}")

    @property
    def who(self) -> str:
        """What reports call it."""
        return self.name

    @property
    @abstractmethod
    def decides(self) -> Any:
        """What decides its scores besides its code, as JSON."""

    @cached_property
    def digest(self) -> str:
        """Digest of all that decides its scores, for the stage's key: what it is, and the code of its own kind.

        The stage imports no kind, so that an edit in one kind's code runs only those stages again which are rewarded by it.
        """
        told = [self.kind, source_digest(f"tasks.rewards.sources.{self.kind}"), self.decides]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @abstractmethod
    def load(self) -> "RewardFunction":
        """Return what scores responses.

        Raises:
            RequestError: it cannot be loaded.
        """

    def networks(self) -> "tuple[list[PreTrainedModel], PreTrainedTokenizerBase]":
        """Return the networks of a reward model, one or an ensemble's, and their tokenizer.

        Raises:
            RequestError: it cannot be loaded, or is no reward model.
        """
        raise RequestError(f"ppo.reward={self.name} is no reward model, so it has no networks")
