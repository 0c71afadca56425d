"""From a situation to a recommendation: which methods are possible, which to try first, why, and what the others lack."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from posttrain.advice.barriers import IMPOSSIBLE
from posttrain.advice.cautions import WARNINGS
from posttrain.advice.memory import memory_of
from posttrain.advice.order import ORDER
from posttrain.advice.rule import EVERY, Effect, Rule
from posttrain.advice.situation import Situation
from posttrain.methods import METHODS, Method

RULES: tuple[Rule, ...] = (*IMPOSSIBLE, *ORDER, *WARNINGS)
"""Every rule, in the order of the page docs/advise.md."""


@dataclass(frozen=True)
class Reason:
    """A rule that applied.

    Attributes:
        rule: its name.
        effect: what it did.
        text: why, with the figure that triggered it.
        remedy: what to do about it; "" where there is nothing.
        source: where the rule is from.
        weight: points sooner or later.
    """

    rule: str
    effect: Effect
    text: str
    remedy: str
    source: str
    weight: int


@dataclass(frozen=True)
class Advised:
    """What is said of one method.

    Attributes:
        method: its row.
        reasons: rules that applied, the strongest first; of an impossible one, only what makes it so.
        memory_least: bytes without which it cannot run.
        memory_likely: bytes that it will likely take.
    """

    method: Method
    reasons: tuple[Reason, ...]
    memory_least: int
    memory_likely: int

    @property
    def is_possible(self) -> bool:
        """Whether nothing stands in its way."""
        return not any(one.effect is Effect.IMPOSSIBLE for one in self.reasons)

    @property
    def is_measured_first(self) -> bool:
        """Whether it is what others are held against, and costs little."""
        return any(one.effect is Effect.FIRST for one in self.reasons)

    @property
    def weight(self) -> int:
        """Points of its rules, added."""
        return sum(one.weight for one in self.reasons)

    @property
    def warnings(self) -> tuple[Reason, ...]:
        """What to beware of."""
        return tuple(one for one in self.reasons if one.effect is Effect.WARN)

    @property
    def why(self) -> tuple[Reason, ...]:
        """What decides its place."""
        return tuple(one for one in self.reasons if one.effect is not Effect.WARN)


@dataclass(frozen=True)
class Advice:
    """The answer.

    Attributes:
        situation: that it is for.
        methods: in the order in which to try them, the impossible ones at the end.
        first: the method to try first, beyond what is measured in any case; None where none is possible.
        warnings: that concern every method.
    """

    situation: Situation
    methods: tuple[Advised, ...]
    first: Advised | None
    warnings: tuple[Reason, ...]

    @property
    def possible(self) -> tuple[Advised, ...]:
        """Those that can run."""
        return tuple(one for one in self.methods if one.is_possible)

    @property
    def sentence(self) -> str:
        """The recommendation in one sentence."""
        name = self.situation.dataset
        if self.first is None:
            return f"No method can run on {name} as it is: {_commonest(self.methods)}."
        told = self.first.method.title
        grounds = [one for one in self.first.why if one.weight > 0]
        why = grounds[0].text if grounds else _fallback(self.possible)
        before = [one.method.title for one in self.possible if one.is_measured_first and one is not self.first]
        also = f"; measure {' and '.join(before)} before it, to know what it has to beat" if before else ""
        return f"On {name} try {told} first: {why}{also}."


def advise(situation: Situation, methods: Iterable[Method] = METHODS.values(), rules: Sequence[Rule] = RULES) -> Advice:
    """Return what to try on a situation, in which order and why.

    Args:
        situation: the facts.
        methods: rows to speak of.
        rules: the table.
    """
    rows = list(methods)
    general = [rule for rule in rules if rule.effect is Effect.WARN and rule.concerns is EVERY]
    own = [rule for rule in rules if rule not in general]
    advised = [_advised(method, situation, own) for method in rows]
    ranked = sorted(enumerate(advised), key=lambda pair: _place(pair[1], pair[0]))
    ordered = tuple(one for _, one in ranked)
    candidates = [one for one in ordered if one.is_possible and not one.method.is_prompted]
    best = max((one.weight for one in candidates), default=0)
    first = next((one for one in sorted(candidates, key=_effort) if one.weight == best), None)
    first = first or next((one for one in ordered if one.is_possible), None)
    told: dict[str, Reason] = {}
    for rule in general:
        for method in rows:
            if rule.applies(method, situation):
                told[rule.name] = _reason(rule, method, situation)  # the last is the dearest method
    return Advice(situation=situation, methods=ordered, first=first, warnings=tuple(told.values()))


def _advised(method: Method, situation: Situation, rules: Sequence[Rule]) -> Advised:
    applying = [rule for rule in rules if rule.applies(method, situation)]
    barriers = [rule for rule in applying if rule.effect is Effect.IMPOSSIBLE]
    reasons = [_reason(rule, method, situation) for rule in barriers or applying]
    needed = memory_of(method, situation)
    return Advised(
        method=method,
        reasons=tuple(sorted(reasons, key=lambda one: -abs(one.weight))),
        memory_least=needed.least,
        memory_likely=needed.likely,
    )


def _reason(rule: Rule, method: Method, situation: Situation) -> Reason:
    return Reason(
        rule=rule.name,
        effect=rule.effect,
        text=rule.because(method, situation),
        remedy=rule.mend(method, situation),
        source=rule.source,
        weight=rule.weight,
    )


def _effort(one: Advised) -> tuple[bool, int]:
    """Return what a method costs in stages: rewards come last, since they sample in every update."""
    return one.method.is_rewarded, len(one.method.stages)


def _place(one: Advised, row: int) -> tuple[bool, bool, int, bool, int, int]:
    """Return where a method stands: possible, measured first (the untrained one before), weight, effort, row of the table."""
    first = one.is_measured_first
    weight = 0 if first else -one.weight
    effort = (not one.method.is_prompted, 0) if first else _effort(one)
    return not one.is_possible, not first, weight, *effort, row


def _fallback(possible: Sequence[Advised]) -> str:
    """Return why a method is first that no rule speaks for: what stands against the others."""
    return "nothing in the data speaks for another" if len(possible) > 1 else "it is the only one that these data allow"


def _commonest(methods: Sequence[Advised]) -> str:
    """Return the reason, and its remedy, that stands in the way of most methods."""
    counts: dict[tuple[str, str], int] = {}
    for one in methods:
        for reason in one.reasons[:1]:
            counts[reason.text, reason.remedy] = counts.get((reason.text, reason.remedy), 0) + 1
    text, remedy = max(counts, key=lambda key: counts[key], default=("there is no method", ""))
    return f"{text}; {remedy}" if remedy else text
