"""Equal tuning: what of each method a search may choose, and the numbers of trials that it takes.

Every method gets the same number of trials, whatever it has to choose: a method that is tuned longer than another is not compared
with it (Dodge et al. 2019, arXiv:1909.03004). Ranges hold what decides quality and never what decides cost (lengths, sizes of
batches, numbers of samples), so that all trials of a method cost the same and stay within its budget.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from posttrain.errors import RequestError
from posttrain.methods import METHODS, Method

LEAST_QUESTIONS = 50
"""Development questions, at least: at 50 the 95 % interval of a share is ± 14 points, and below that a choice is little more than
chance."""
Value = float | int | str


@dataclass(frozen=True)
class Range:
    """What one setting may be.

    Attributes:
        setting: its full name.
        low: least.
        high: most.
        factor: instead of low and high: from the request's own value divided by it, to that times it. What a good rate is depends
            on the size of the model, and the request knows that.
        is_log: equal factors are equally likely, not equal differences.
        choices: instead of a range.
    """

    setting: str
    low: float = 0.0
    high: float = 0.0
    factor: float = 0.0
    is_log: bool = False
    choices: tuple[Value, ...] = ()

    def around(self, start: float) -> tuple[float, float]:
        """Return the bounds, given the request's own value.

        Raises:
            RequestError: they would be factors of 0.
        """
        if not self.factor:
            return self.low, self.high
        if start <= 0:
            raise RequestError(
                f"TUNE cannot search around {self.setting}={start:g}: its range is a factor of {self.factor:g} each way, and 0 "
                "has none. Set it above 0, or run without TUNE"
            )
        return start / self.factor, start * self.factor


def _rate(section: str, *, name: str = "learning_rate") -> Range:
    return Range(f"{section}.{name}", factor=4.0, is_log=True)


RANGES: dict[str, tuple[Range, ...]] = {
    "sft": (_rate("sft"), Range("sft.warmup_ratio", 0.0, 0.3)),
    "self_training": (_rate("self_training"), Range("self_training.warmup_ratio", 0.0, 0.3)),
    "few_shot": (Range("few_shot.shots", choices=(1, 2, 4, 8)),),
    "dpo": (
        _rate("dpo"),
        Range("dpo.beta", 0.05, 1.0, is_log=True),  # 0.1 to 0.5 in arXiv:2305.18290, and a factor of two beyond
        Range("dpo.nll_weight", 0.1, 3.0, is_log=True),  # 1 in arXiv:2404.19733
    ),
    "kto": (_rate("kto"), Range("kto.beta", 0.05, 2.0, is_log=True)),  # 0.1 in the authors' code, 1 here
    "ppo": (_rate("ppo"), Range("ppo.kl_coef", factor=5.0, is_log=True), Range("ppo.gae_lambda", 0.9, 1.0)),
    "rlhf": (Range("rlhf.kl_coef", factor=5.0, is_log=True),),
    "grpo": (
        _rate("ppo"),
        Range("grpo.kl_coef", factor=5.0, is_log=True),
        Range("grpo.loss_type", choices=("grpo", "dr_grpo", "bnpo")),
    ),
    "rloo": (_rate("ppo"), Range("rloo.kl_coef", factor=5.0, is_log=True), Range("rloo.clip_range", 0.1, 0.4)),
    "reward_model": (_rate("reward_model"),),
}
"""By trainer; the reward model's and those of what adjusts a trainer come to them. Rates are searched by their logarithm (Bengio
2012, arXiv:1206.5533, section 3), around what the request has."""


def ranges_of(method: Method) -> tuple[Range, ...]:
    """Return what a search may choose for a method; empty where there is nothing, and it then gets no trials."""
    own = RANGES.get(method.own_stage, ())
    adjusted = RANGES.get(method.adjusts, ())
    replaced = {_name(one.setting) for one in adjusted}
    learnt = RANGES["reward_model"] if "reward_model" in method.stages else ()
    return (*(one for one in own if _name(one.setting) not in replaced), *adjusted, *learnt)


def _name(setting: str) -> str:
    return setting.rpartition(".")[2]


def parse_trials(text: str) -> int:
    """Return how many trials `TUNE=` asks for; 0 where it is left out.

    Raises:
        RequestError: it is no whole number above 0.
    """
    if not text.strip():
        return 0
    try:
        trials = int(text)
    except ValueError:
        trials = 0
    if trials < 1:
        raise RequestError(
            f"TUNE={text} must be a whole number of trials, 1 or more: each method gets as many, and its defaults are the first. "
            "Leave TUNE out for no search"
        )
    return trials


def unreported_seed(seeds: tuple[int, ...]) -> int:
    """Return the seed of trials: the first after those that are reported, so that no reported run chose its own settings."""
    return max(seeds, default=-1) + 1


def readable(value: float) -> float:
    """Return a number with three digits, as a person would write a setting; equal on every machine."""
    return float(f"{value:.3g}") if math.isfinite(value) else value


# --- what came of it --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    Attributes:
        number: from 0; 0 is the request's own settings.
        values: what was chosen for it, by the setting's full name; empty for trial 0.
        development: figure on the development part, higher is better; None where it failed.
        error: why it failed.
        run_id: of its pipeline in MLflow; "" where it failed.
    """

    number: int
    values: Mapping[str, Value]
    development: float | None
    error: str = ""
    run_id: str = ""

    def tags(self, comparison: str) -> dict[str, str]:
        """Return the tags of its run in MLflow."""
        return {"posttrain.comparison": comparison, "posttrain.trial": str(self.number)}

    @property
    def overrides(self) -> tuple[str, ...]:
        """Return its values as a request has them."""
        return tuple(f"{name}={value}" for name, value in self.values.items())


@dataclass(frozen=True)
class Tuned:
    """What a search found for one method.

    Attributes:
        method: its name.
        seed: of the trials; reported runs have others.
        trials: in their order.
        start: the request's own values of what was searched, which trial 0 had; empty where the method has no ranges.
        is_loss: the figures of the trials are losses turned round; they are told as losses.
    """

    method: str
    seed: int
    trials: tuple[Trial, ...] = ()
    start: Mapping[str, Value] = field(default_factory=dict)
    is_loss: bool = False

    @property
    def best(self) -> Trial | None:
        """Return the best trial, of equal ones the first: the defaults stand unless something is better. None: all failed."""
        known = [one for one in self.trials if one.development is not None]
        return max(known, key=lambda one: (one.development, -one.number), default=None)

    @property
    def overrides(self) -> tuple[str, ...]:
        """Return the chosen settings, for the reported runs; empty where the request's own were best, or all trials failed."""
        return self.best.overrides if self.best else ()

    @property
    def failed(self) -> int:
        """Return how many trials failed. They count as trials: a setting that breaks is a setting that was tried."""
        return sum(one.development is None for one in self.trials)

    def as_record(self) -> dict[str, Any] | None:
        """Return {"trials", "chosen", "development"}, as `tuned` of the record has it; None where there was no trial."""
        if not self.trials:
            return None
        chosen = {**self.start, **self.best.values} if self.best else dict(self.start)
        return {
            "trials": len(self.trials),
            "chosen": chosen,
            "development": self._told(self.best.development) if self.best else None,
        }

    def sentence(self) -> str:
        """Return what came of the search, for the record's notes."""
        title = METHODS[self.method].title
        if not self.trials:
            where = "posttrain/comparison/tuning.py"
            return f"{title} got no trial: nothing of it is searched ({where}), so its settings are the request's"
        count = f"{len(self.trials)} trial{'s' * (len(self.trials) > 1)}"
        told = f"{title} got {count} on seed {self.seed}, which is not reported"
        told += f"; {self.failed} of them failed, and count" if self.failed else ""
        best, first = self.best, self.trials[0].development
        if best is None:
            return f"{told}. All failed, so its settings are the request's"
        before = "failed" if first is None else f"{self._told(first):.4g}"
        if not best.number:
            return f"{told}. Nothing was better on the development questions than the request's own settings ({before})"
        chosen = f"{self._told(best.development):.4g}"
        values = " ".join(best.overrides)
        return f"{told}. Chosen: {values}, {chosen} on the development questions (the request's own: {before})"

    def _told(self, development: float | None) -> float | None:
        """Return a trial's figure in the metric's own direction."""
        return -development if self.is_loss and development is not None else development
