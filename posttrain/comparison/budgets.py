"""Equal budgets: what a method may use, what it did use, and how long it must train to use just that.

    kind       what is counted, of every stage between the base and the evaluation (SFT, samples, labels, reward model, training)
    defaults   nothing: each method trains as long as its settings say
    labels     labels bought, of people, annotators or a judge; a method that needs none uses none
    tokens     tokens generated and tokens learnt from, of every network (policy, critic, reward model, a judge's practice)
    flops      6 a weight and token learnt from, 2 a weight and token read, of every network (`posttrain.compute`)
    seconds    of training, sampling and labelling on this machine

A token that is only read (by a reference, a reward model or a judge) counts in flops, which knows how large its reader is, and
not in tokens. A pass over the same token counts each time.

Lengths are planned and never cut off: warm-up and decay of a learning rate are shares of a run, so a run that is stopped at its
budget has not been annealed, and would be compared with runs that have.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from posttrain.errors import RequestError, did_you_mean
from posttrain.methods import Method

COSTS: dict[str, tuple[str, ...]] = {
    "labels": ("labels",),
    "tokens": ("generated_tokens", "trained_tokens", "critic_tokens"),
    "flops": ("flops",),
    "seconds": ("train_seconds",),
}
"""What each kind of budget adds up, of a stage's costs; a pipeline's report has them as `cost/<name>`."""
KINDS = ("defaults", *COSTS)
FACTORS = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
UNCUT = 10**9
"""Steps at most, where a planned length must not be cut by a section's `max_steps`."""
LEFT = 0.02
"""Share of the budget that pairs are drawn for beyond it, so that a draw that falls short buys all labels."""


@dataclass(frozen=True)
class Budget:
    """What every method may use.

    Attributes:
        kind: of `KINDS`.
        amounts: in rising order; several make a learning curve. Empty for `defaults`.
    """

    kind: str = "defaults"
    amounts: tuple[float, ...] = ()

    @property
    def amount(self) -> float | None:
        """Return the largest amount, at which the verdict is; None for `defaults`."""
        return self.amounts[-1] if self.amounts else None

    def as_record(self) -> dict[str, Any]:
        """Return {"kind", "amount"}, as the comparison's record has it."""
        return {"kind": self.kind, "amount": self.amount}


def parse_budget(text: str) -> Budget:
    """Return the budget that `BUDGET=` names: "defaults", or a kind and amounts ("labels:500,1000,4000", "flops:2e12").

    Raises:
        RequestError: there is no such kind, or an amount is none.
    """
    kind, colon, given = text.strip().partition(":")
    kind = kind.strip().lower() or "defaults"
    if kind not in KINDS:
        raise RequestError(
            f"BUDGET={text}: there is no budget of {kind}{did_you_mean(kind, KINDS) or '.'} Budgets are defaults, labels:N, "
            "tokens:N, flops:N and seconds:N"
        )
    if kind == "defaults":
        if colon:
            raise RequestError(f"BUDGET={text}: defaults takes no amount, since each method trains as long as its settings say")
        return Budget()
    if not given.strip():
        raise RequestError(f"BUDGET={text} needs an amount: BUDGET={kind}:10k, or several for a curve: BUDGET={kind}:1k,4k,16k")
    amounts = sorted(_amount(one.strip(), kind, text) for one in given.split(","))
    if twice := next((one for one, other in pairwise(amounts) if one == other), None):
        raise RequestError(f"BUDGET={text}: the amount {shown(twice)} stands there twice")
    return Budget(kind, tuple(amounts))


def _amount(text: str, kind: str, whole: str) -> float:
    factor = FACTORS.get(text[-1:], 1.0)
    try:
        amount = float(text[:-1] if factor != 1.0 else text) * factor
    except ValueError:
        amount = math.nan
    if not math.isfinite(amount):
        raise RequestError(f"BUDGET={whole}: {text or 'nothing'} is no amount. Write 10000, 10k, 1e6 or 2M; commas part several")
    if amount <= 0:
        raise RequestError(
            f"BUDGET={whole}: an amount must be more than 0, got {text}. Commas part several amounts, so write 10k for 10,000"
        )
    if kind == "labels" and amount != round(amount):
        raise RequestError(f"BUDGET={whole}: labels must be a whole number, got {text}")
    return amount


def shown(amount: float) -> str:
    """Return an amount as people read it: 12,500; 2.1e+12."""
    return f"{amount:,.0f}" if 10 <= amount < 1e9 or amount == round(amount) < 1e9 else f"{amount:.3g}"


NEAR = 1.25
"""How many times the budget, or how little of it, a method may use before its figures are called unequal in cost."""


def off_budget(budget: Mapping[str, Any], shares: Mapping[str, float]) -> list[str]:
    """Return a warning where methods used much more or much less than the budget, else nothing.

    Args:
        budget: as the record has it.
        shares: of the budget that each method used, by title; 0 is a method that can use none of it.
    """
    off = {title: share for title, share in shares.items() if share and not 1 / NEAR <= share <= NEAR}
    if not off:
        return []
    told = ", ".join(f"{title} used {share:.0%}".replace("%", " %") for title, share in off.items())
    why = "; seconds depend on what else the machine does, tokens and flops do not" if budget["kind"] == "seconds" else ""
    return [
        f"the methods are not compared at equal cost: of the budget of {shown(budget['amount'])} {budget['kind']} {told}{why}"
    ]


# --- what was used ----------------------------------------------------------------------------------------------------


def cost_of(kind: str, metrics: Mapping[str, float | None]) -> float:
    """Return what a pipeline used, by the metrics of its report.

    Raises:
        ValueError: a cost is missing or undefined: unknown is never 0.
    """
    found = {name: metrics.get(f"cost/{name}") for name in COSTS[kind]}
    if missing := [name for name, value in found.items() if value is None]:
        raise ValueError(f"the report has no cost/{missing[0]}, so what was used of {kind} is not known")
    return float(sum(value for value in found.values() if value is not None))


def cost_of_stage(kind: str, costs: Mapping[str, float]) -> float:
    """Return what one stage used, by its costs; it has only those of what it did."""
    return float(sum(costs.get(name, 0.0) for name in COSTS[kind]))


def used(budget: Budget, amount: float | None, metrics: Mapping[str, float | None]) -> dict[str, float] | None:
    """Return {"amount", "share"}: what a pipeline really used, and the share of its budget; None without a budget."""
    if amount is None:
        return None
    spent = cost_of(budget.kind, metrics)
    return {"amount": spent, "share": spent / amount}


def level(amount: float, method: str, seed: int, value: float, spent: float) -> dict[str, Any]:
    """Return one point of the learning curve, a row of the record's `levels`.

    Args:
        amount: of the budget.
        method: its name.
        seed: of the run.
        value: of the primary metric.
        spent: what the run really used, in the budget's unit.
    """
    return {"amount": amount, "method": method, "seed": seed, "value": value, "used": spent}


# --- how long a method trains -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Length:
    """The one setting that what a method's own training costs is linear in.

    Attributes:
        setting: its full name.
        is_whole: it takes whole numbers.
        says: what it counts, "updates".
        share: of its value that a pilot trains.
        uncut: setting that would cut a longer training off; "" for none.
    """

    setting: str
    is_whole: bool
    says: str
    share: float
    uncut: str = ""

    def rounded(self, value: float) -> float:
        """Return the nearest length that can be asked for: a whole number, or four digits."""
        return float(round(value)) if self.is_whole else float(f"{value:.4g}")

    def pilot(self, default: float) -> float:
        """Return the length of a pilot: a share of the default, two updates or one epoch at least, and never more than it."""
        return min(default, max(2.0 if self.is_whole else 1.0, self.rounded(default * self.share)))

    def overrides(self, value: float) -> tuple[str, ...]:
        """Return the settings that make a training so long."""
        return (f"{self.setting}={value:g}", *((f"{self.uncut}={UNCUT}",) if self.uncut else ()))


LENGTHS: dict[str, Length] = {
    "sft": Length("sft.epochs", False, "epochs", share=0.25, uncut="sft.max_steps"),
    "self_training": Length("self_training.epochs", False, "epochs", share=0.25, uncut="self_training.max_steps"),
    "dpo": Length("dpo.epochs", False, "epochs", share=0.25, uncut="dpo.max_steps"),
    "kto": Length("kto.epochs", False, "epochs", share=0.25, uncut="kto.max_steps"),
    "ppo": Length("ppo.updates", True, "updates", share=0.15),
}
"""By the section of the loop, or of the trainer."""


def length_of(method: Method) -> Length | None:
    """Return the setting that decides how long a method trains; None where nothing is trained (prompting)."""
    return LENGTHS.get(method.loop or method.own_stage)


@dataclass(frozen=True)
class Measured:
    """What a pilot cost, in the budget's unit.

    Attributes:
        length: that it trained.
        own: of its own training.
        upstream: of every stage before that.
    """

    length: float
    own: float
    upstream: float


@dataclass(frozen=True)
class Plan:
    """How long a method trains within a budget.

    Attributes:
        length: None where the budget is out of reach.
        expected: cost at that length; where it is out of reach, what the shortest training would take.
        reason: why it is out of reach; "" where it is not.
    """

    length: float | None
    expected: float
    reason: str = ""


def planned(method: Method, length: Length, budget: Budget, amount: float, pilots: Sequence[Measured]) -> Plan:
    """Return how long a method trains so that all of its stages together cost `amount`.

        length = (amount - upstream - fixed) / rate

    With one pilot its own cost is proportional to its length (fixed = 0); with two the line through both is taken, so that what
    does not grow with the length (a warm-up, rollouts that shorten while it learns) is not multiplied.

    Raises:
        ValueError: no pilot cost anything, so there is no rate.
    """
    first, last = pilots[0], pilots[-1]
    rate, fixed = last.own / last.length, 0.0
    if last.length != first.length and last.own > first.own:
        rate = (last.own - first.own) / (last.length - first.length)
        fixed = last.own - rate * last.length
    if rate <= 0:
        raise ValueError(f"{method.name}: a pilot of {last.length:g} {length.says} cost no {budget.kind}, so none can be planned")

    # the shortest training that there is: one update, or the first twentieth of an epoch
    shortest = 1.0 if length.is_whole else 0.05
    least = last.upstream + fixed + rate * shortest
    found = length.rounded((amount - last.upstream - fixed) / rate)
    if found >= shortest:
        return Plan(found, last.upstream + fixed + rate * found)
    before = ", ".join(stage for stage in method.stages if stage != method.own_stage) or "nothing"
    reason = (
        f"{method.title} is out of reach of {budget.kind}:{shown(amount)}: what comes before its own training ({before}) takes "
        f"{shown(last.upstream)} by itself, and the shortest training brings that to {shown(least)}. It is left out. Give more, "
        "or leave it out of METHODS"
    )
    return Plan(None, least, reason)


# --- how many pairs are drawn -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs:
    """How labels are bought: `labels.budget` of them, of as many pairs as are drawn.

    Attributes:
        is_sampled: pairs are drawn from samples; False where a dataset or a store brings its labels.
        per_prompt: samples a question, `sample.per_prompt`.
        pairs_per_prompt: drawn from them at most.
    """

    is_sampled: bool
    per_prompt: int
    pairs_per_prompt: int


def labels_overrides(method: Method, amount: float, bought: float, pairs: Pairs) -> tuple[tuple[str, ...], str]:
    """Return the settings under which a method buys `amount` labels, and why it cannot; one of the two is empty.

    More labels take more pairs of a question's samples, up to all of them; more than that take more samples. A method that needs
    no labels changes nothing.

    Args:
        method: its row.
        amount: of labels.
        bought: labels that a pilot bought without a limit.
        pairs: how the pilot drew pairs.
    """
    if not method.is_labelled:
        return (), ""
    asked = (f"labels.budget={amount:.0f}",)
    if bought >= amount:
        return asked, ""
    if not pairs.is_sampled:
        return (), (
            f"{method.title} is out of reach of labels:{shown(amount)}: there are {shown(bought)} labels, and this source makes "
            "no others. It is left out. Ask for fewer, or let others label: labels.source"
        )
    wanted = math.ceil(pairs.pairs_per_prompt * amount / bought * (1 + LEFT))
    samples = next(count for count in range(pairs.per_prompt, wanted + 3) if math.comb(count, 2) >= wanted)
    more = (f"sample.per_prompt={samples}",) if samples > pairs.per_prompt else ()
    return (*asked, f"labels.pairs_per_prompt={wanted}", *more), ""
