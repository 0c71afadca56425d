"""A reward model as a reward: networks that score a prompt with its completion, one or an ensemble."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import TypeAdapter

from posttrain.compute import Compute
from posttrain.errors import RequestError
from posttrain.records import Prompt
from tasks.rewards.interface import Naming, RewardSource
from tasks.workspace.artifacts import file_digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from posttrain.rl.rewards import RewardFunction

_PROMPT: TypeAdapter[Prompt] = TypeAdapter(Prompt)
BATCH = 64
"""Texts that a reward model reads at once."""


@dataclass(frozen=True)
class ModelReward(RewardSource):
    """A reward model in a folder.

    Attributes:
        path: of the folder.
        weights: digest of its files, or of the artifact that holds it.
        learnt_from: whose labels it has learnt, in words; empty where that is not known.
    """

    kind: ClassVar[str] = "model"
    is_reward_model: ClassVar[bool] = True
    has_own_limits: ClassVar[bool] = True  # a network ends by itself, on a busy machine later

    path: Path
    weights: str
    learnt_from: str = ""

    @classmethod
    def named(cls, name: str, how: Naming) -> Self:
        """Return the model that `model:<directory>` or `model:models:/name@alias` names."""
        _, _, rest = name.partition(":")
        folder = how.registered(rest) if rest.startswith("models:/") else Path(rest)
        if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
            raise RequestError(
                f"ppo.reward={name}: {folder} is no model directory with config.json and *.safetensors. A reward model is one "
                "for sequence classification with one score, and its tokenizer"
            )
        labels = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("id2label", {"0": "", "1": ""})
        if len(labels) != 1:
            raise RequestError(f"ppo.reward={name}: a reward model has one score, this one has {len(labels)}")
        files = {str(file.relative_to(folder)): file_digest(file) for file in sorted(folder.rglob("*")) if file.is_file()}
        return cls(name=name, path=folder, weights=hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest())

    @property
    def who(self) -> str:
        """Whose labels it has learnt, where that is known."""
        return f"reward model of {self.learnt_from}" if self.learnt_from else self.name

    @property
    def decides(self) -> Any:
        """Its weights."""
        return self.weights

    def load(self) -> "RewardFunction":
        """Return the mean score of its networks as a reward."""
        return scored_by(*self.networks())

    def networks(self) -> "tuple[list[PreTrainedModel], PreTrainedTokenizerBase]":
        """Return its networks, one or an ensemble's, and their tokenizer.

        Raises:
            RequestError: it cannot be loaded.
        """
        from models.load import device, load_tokenizer
        from models.prompt_format import as_shipped
        from models.reward import CENTRE, load_reward_model

        try:
            members = load_reward_model(str(self.path), on=device())
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise RequestError(f"ppo.reward={self.name}: it cannot be loaded: {reason}") from None
        tokenizer = load_tokenizer(str(self.path), setting="ppo.reward")
        is_made_here = hasattr(members[0].config, CENTRE)
        return members, tokenizer if is_made_here else as_shipped(tokenizer)


def scored_by(members: "Sequence[PreTrainedModel]", tokenizer: "PreTrainedTokenizerBase") -> "RewardFunction":
    """Return the mean score of prompt, completion and EOS, each member's centre taken off, as a reward.

    Prompts are written as the reward model reads them, which may be another form than the policy's.
    """
    from models.load import prompt_text
    from models.reward import score_texts
    from posttrain.rl.rewards import Rewards

    def reward(prompts: Sequence[str], completions: Sequence[str], records: Sequence[Mapping[str, Any]]) -> Rewards:
        before = [prompt_text(tokenizer, _PROMPT.validate_python(record["prompt"])) for record in records]
        texts = [prompt + completion for prompt, completion in zip(before, completions, strict=True)]
        spent: list[Compute] = []
        values = score_texts(members, tokenizer, texts, batch_size=BATCH, spent=spent.append)
        return Rewards(values=values, compute=reduce(Compute.plus, spent, Compute()))

    return reward
