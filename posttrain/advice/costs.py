"""What a run would cost before any has run: labels, responses and tokens, from the settings and the size of the data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from posttrain.advice.situation import Situation
from posttrain.methods import Method
from posttrain.settings.config import Config


@dataclass(frozen=True)
class Cost:
    """The estimate of one method's run.

    Attributes:
        labels: pairs that somebody has to compare, at most; 0 where nobody labels, or the dataset brings them.
        labels_by: who; "" for nobody.
        responses: that a model writes while training is under way, evaluation left out.
        tokens: of them, at the mean length of the responses to learn from, or else at the limit: a rough figure.
        memory_least: bytes without which it cannot run.
        memory_likely: bytes that it will likely take.
        stages: by name, the seconds that each stage took the last time on this dataset and base; None where it has not run.
        earlier: what the last run of the method on this dataset and base cost, by name; empty where none has run.
    """

    labels: int
    labels_by: str
    responses: int
    tokens: int
    memory_least: int
    memory_likely: int
    stages: Mapping[str, float | None] = field(default_factory=dict)
    earlier: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """Of all stages; None where one has never run here."""
        known = [seconds for seconds in self.stages.values() if seconds is not None]
        return sum(known) if self.stages and len(known) == len(self.stages) else None

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {**asdict(self), "stages": dict(self.stages), "earlier": dict(self.earlier), "seconds": self.seconds}


def labels_wanted(config: Config, questions: int, *, labels_by: str) -> int:
    """Return how many labels would be asked for, at most: pairs of samples, second opinions of simulated annotators with them."""
    if labels_by not in ("simulated", "judge", "people"):
        return 0
    pairs = questions * config.labels.pairs_per_prompt
    if labels_by == "simulated" and config.labels.annotators > 1:
        pairs = round(pairs * (1 + config.labels.overlap))
    return min(pairs, config.labels.budget) if config.labels.budget else pairs


def responses_wanted(config: Config, method: Method, questions: int, *, is_sampled: bool) -> int:
    """Return how many responses are drawn: samples of the questions, and those of each update."""
    drawn = questions * config.sample.per_prompt if is_sampled else 0
    return drawn + (config.ppo.updates * config.ppo.episodes if method.is_rewarded else 0)


def response_length(situation: Situation) -> float:
    """Return the tokens that a response is taken to have."""
    return min(situation.response_tokens or situation.asked.max_new_tokens, situation.asked.max_new_tokens)
