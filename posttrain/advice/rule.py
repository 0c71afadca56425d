"""What a rule is, which methods it may concern, and the words that its reasons are made of."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from posttrain.advice.memory import memory_of
from posttrain.advice.situation import Situation
from posttrain.methods import VERDICTS, Method

GIB = 2**30


class Effect(StrEnum):
    """What a rule does with a method that it applies to."""

    IMPOSSIBLE = "impossible"
    FIRST = "measure first"
    BEFORE = "sooner"
    AFTER = "later"
    WARN = "warn"


@dataclass(frozen=True)
class Concern:
    """Which methods a rule is about: in words, and as a property of a method's row."""

    says: str
    holds: Callable[[Method], bool]


EVERY = Concern("every method", lambda method: True)
EACH = Concern("each method by itself", lambda method: True)
PROMPTED = Concern("prompting", lambda method: method.is_prompted)
IMITATING = Concern("SFT", lambda method: not method.trainer)
SHOWN = Concern(
    "methods that start from SFT or show demonstrations",
    lambda method: method.starts_from == "sft" or "demonstrations" in method.learns_from.needs,
)
ASKING = Concern("methods that ask training questions", lambda method: "questions" in method.learns_from.needs)
SAMPLED = Concern("self-training", lambda method: method.is_sampled)
REWARDED = Concern("methods that learn from rewards of their own responses", lambda method: method.is_rewarded)
FROM_BASE = Concern("rewarded from the base", lambda method: method.is_rewarded and method.starts_from == "base")
GRADED = Concern("methods that must have a grader", lambda method: method.learns_from.reward == "grader")
NAMED = Concern("methods that `ppo.reward` rewards", lambda method: method.learns_from.reward in ("named", "grader"))
ANY_REWARD = Concern("methods that take any reward", lambda method: method.learns_from.reward == "named")
GROUPED = Concern("rewarded without a critic", lambda method: method.is_rewarded and not method.has_critic)
CHECKED = Concern(
    "methods that a grader tells right from wrong",
    lambda method: method.is_sampled or method.learns_from.reward in ("named", "grader"),
)
LABELLED = Concern("methods that learn from labels", lambda method: method.is_labelled)
PEOPLE = Concern(
    "methods that learn from anybody's labels", lambda method: method.is_labelled and not method.learns_from.labels_by
)
OFFLINE = Concern("preferences straight into the loss", lambda method: PEOPLE.holds(method) and not method.is_rewarded)
SINGLE = Concern("single responses, won or lost", lambda method: method.learns_from == VERDICTS)
SCORED = Concern("methods with a reward model of labels", lambda method: method.learns_from.reward == "reward_model")
PEOPLE_SCORED = Concern("a reward model of anybody's labels", lambda method: PEOPLE.holds(method) and method.is_rewarded)
JUDGED = Concern("methods that learn from an AI judge", lambda method: method.learns_from.labels_by == "judge")
DIRECTLY_JUDGED = Concern("a judge that scores each response", lambda method: method.learns_from.reward == "judge")


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes:
        name: of the rule.
        effect: what it does.
        concerns: which methods it may apply to.
        when: the condition, for one method in a situation.
        says: the condition in words.
        reason: in words with the figure that triggered it; `{s…}` is the situation, `{m…}` the method, `{least}`, `{likely}` and
            `{memory}` are GB.
        source: arXiv id, document or "our rule of thumb".
        weight: how much sooner or later, in points that are added up; 0 for other effects.
        remedy: what makes the method possible, or takes the warning away.
        seen_by: of an impossible one, who refuses a pipeline: its `check` before anything runs, or a `stage` after others have.
    """

    name: str
    effect: Effect
    concerns: Concern
    when: Callable[[Method, Situation], bool]
    says: str
    reason: str
    source: str
    weight: int = 0
    remedy: str = ""
    seen_by: str = ""

    def applies(self, method: Method, situation: Situation) -> bool:
        """Return whether the rule speaks of this method in this situation."""
        return self.concerns.holds(method) and self.when(method, situation)

    def because(self, method: Method, situation: Situation) -> str:
        """Return the reason with its figures."""
        return _filled(self.reason, method, situation)

    def mend(self, method: Method, situation: Situation) -> str:
        """Return the remedy with its figures; "" where there is none."""
        return _filled(self.remedy, method, situation)


def _filled(text: str, method: Method, situation: Situation) -> str:
    needed = memory_of(method, situation)
    told = text.format(
        m=method,
        s=situation,
        refused=situation.refused.get(method.name, ""),
        least=f"{needed.least / GIB:,.1f}",
        likely=f"{needed.likely / GIB:,.1f}",
        memory=f"{situation.machine.memory / GIB:,.1f}",
    )
    return re.sub(r"(\d)%", r"\1 %", told)
