"""How often the gate is wrong, by simulation of the gate itself: docs/decisions/0022-promotion-gate.md.

    python -m benchmarks.gate [repetitions=1000] [questions=100,300,1000] [seeds=1,3] [random=0]

Champion and challenger answer the same questions, which lie in five families, right or wrong as in benchmarks/verdicts.py; each
has eight samples a question that end or do not, their tokens and seconds, a loss of reference completions, and a training on a
reward whose gold score stays where it is. A row of the first table is a design, its columns in % of the repetitions:

- equal: the challenger is as good as the champion. Promoted at margin 0, which is wrong; any guard broken; and each guard.
- at the limits: every harm is exactly as large as its guard allows, the loss of each family too. Any guard of a sample broken.
- better: by the smallest effect, of a gate that knows its variances. Refused, whether by the metric or by a guard.

One seed has no training noise: two models are equal, or one is better. With three, methods are, and `sd` is the deviation between
seeds of their difference, in points. The second table has one training of each of two equal methods, whose models differ.

The default takes some minutes; repetitions=100 shows the same to 2 points.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np
from numpy.random import Generator
from rich.console import Console
from rich.table import Table
from scipy.special import betaincinv, ndtr

from benchmarks.verdicts import CHUNK, Array, World, noise_of
from posttrain.promotion.evaluated import Evaluated, RewardCurve
from posttrain.promotion.gate import CONFIDENCE, POWER, Decision, decide
from posttrain.settings.promotion import PromotionSettings
from posttrain.statistics.comparisons import compare_with
from posttrain.statistics.planning import reach

SETTINGS = PromotionSettings()
FAMILIES, SAMPLES, UPDATES = 5, 8, 40
PRECISION = 10.0
"""Of the Beta distribution over questions of the share that ends."""
FINISHED, TOKENS, SECONDS, LOSS = 0.97, 30.0, 0.02, 0.4
"""Of a response on average: share that ends, tokens, seconds a token; and the loss of reference completions, nats a token."""
NOISES = {1: (0.0,), 3: (2.2, 3.7)}
"""Points: deviations between seeds of a difference (docs/decisions/0020-verdicts.md), by number of seeds."""
GUARDS = ("finished", "length", "latency", "reference_loss", "family", "hacking", "warnings")
OF_SAMPLES = GUARDS[:5]


@dataclass(frozen=True)
class Harms:
    """What a challenger does worse than the champion; 0 or a ratio of 1: nothing."""

    finished: float = 0.0
    length: float = 1.0
    latency: float = 1.0
    loss: float = 0.0


AT_THE_LIMITS = Harms(
    SETTINGS.max_finished_loss, SETTINGS.max_length_ratio, SETTINGS.max_latency_ratio, SETTINGS.max_reference_loss_rise
)


@dataclass
class Tally:
    """What many decisions said."""

    promoted: int = 0
    decisions: int = 0
    broken: Counter[str] = field(default_factory=Counter)

    def add(self, decision: Decision) -> None:
        kinds = {guard.name.partition(":")[0] for guard in decision.guards if guard.is_broken}
        self.promoted, self.decisions = self.promoted + decision.promoted, self.decisions + 1
        self.broken.update(kinds)
        self.broken["any"] += bool(kinds)
        self.broken["any of a sample"] += bool(kinds & set(OF_SAMPLES))

    def rate(self, count: int) -> float:
        """Return a count in % of the decisions."""
        return 100 * count / self.decisions


def decisions(
    world: World, random: Generator, repetitions: int, *, harms: Harms = Harms(), is_noisy: bool = False
) -> Iterator[Decision]:
    """Yield the gate's decision on the second model of each drawn pair; `is_noisy`: trainings move the other figures too."""
    for first in range(0, repetitions, CHUNK):
        for answers in world.draw(random, min(CHUNK, repetitions - first)).astype(np.float64):
            shared = random.standard_normal((3, answers.shape[2]))
            champion = _evaluated("champion", answers[0], shared, Harms(), random, is_noisy=is_noisy)
            challenger = _evaluated("challenger", answers[1], shared, harms, random, is_noisy=is_noisy)
            yield decide(champion, challenger, None, SETTINGS)


def _evaluated(name: str, scores: Array, shared: Array, harms: Harms, random: Generator, *, is_noisy: bool) -> Evaluated:
    """Return a model, or several seeds of a method, whose answers are drawn already; `shared` is what questions are like."""
    seeds, questions = scores.shape

    def training(deviation: float) -> Array:
        return is_noisy * deviation * random.standard_normal((seeds, 1))

    # how surely a question's responses end: Beta, made from a normal, so that its mean is exact
    rank = ndtr((shared[0] + training(0.1)) / sqrt(1 + is_noisy * 0.1**2))
    mean = FINISHED - harms.finished
    ends = np.broadcast_to(betaincinv(PRECISION * mean, PRECISION * (1 - mean), rank), (seeds, questions))
    lengths = 0.4 * shared[1] + training(0.03) + 0.3 / sqrt(SAMPLES) * random.standard_normal((seeds, questions))
    tokens = TOKENS * harms.length * np.exp(lengths)
    seconds = SECONDS * tokens * harms.latency / harms.length * np.exp(0.1 * random.standard_normal((seeds, questions)))
    loss = LOSS * np.exp(0.5 * shared[2]) + training(0.02) + 0.1 * random.standard_normal((seeds, questions)) + harms.loss
    noise = 0.03
    return Evaluated(
        name=name,
        held_out="simulated",
        scores=scores,
        finished=random.binomial(SAMPLES, ends) / SAMPLES,
        tokens=tokens,
        seconds=seconds,
        machine="simulated",
        reference_loss=loss,
        families=[f"f{place % FAMILIES}" for place in range(questions)],
        training=RewardCurve(
            reward=np.linspace(0.0, 1.0, UPDATES).tolist(),
            gold=(0.6 + noise * random.standard_normal(UPDATES)).tolist(),
            gold_error=[noise] * UPDATES,
            patience=5,
        ),
        warnings=[],
    )


def tallied(found: Iterator[Decision]) -> Tally:
    tally = Tally()
    for decision in found:
        tally.add(decision)
    return tally


def pair_of(seeds: int, questions: int, deviation: float, gain: float = 0.0) -> World:
    """Return two methods, or two models, of which the second is better by `gain` points."""
    return World(seeds, questions, noise=(noise_of(deviation),) * 2, gains=(0.0, gain))


def known_effect(world: World, random: Generator, repetitions: int) -> float:
    """Return the smallest effect, in points, of a gate that knows its variances: their means over all repetitions."""
    found = []
    for first in range(0, repetitions, CHUNK):
        for answers in world.draw(random, min(CHUNK, repetitions - first)).astype(np.float64):
            (one,) = compare_with({"b": answers[1], "a": answers[0]}, "a", margin=0.0, confidence=CONFIDENCE)
            found.append(one.spread)
    parts = {name: float(np.mean([getattr(one, name) for one in found])) for name in ("seed", "question", "residual")}
    known = replace(found[0], **parts)
    return 100 * reach(1 - CONFIDENCE, known.degrees, power=POWER) * sqrt(known.variance)


def rates(numbers: list[int], seeds: list[int], repetitions: int, random: Generator) -> Table:
    table = Table(title=f"The gate, {repetitions:,} repetitions, %")
    heads = ("seeds", "sd", "questions", "equal:\npromoted", "any guard", *GUARDS, "at the limits:\nany of a sample")
    for head in (*heads, "better by,\npoints", "refused"):
        table.add_column(head, justify="right")
    for seed_count in seeds:
        for deviation in NOISES[seed_count]:
            for questions in numbers:
                is_noisy = seed_count > 1
                effect = known_effect(pair_of(seed_count, questions, deviation), random, repetitions)
                equal, limit, better = _design(seed_count, questions, deviation, effect, repetitions, random, is_noisy=is_noisy)
                table.add_row(
                    f"{seed_count}",
                    f"{deviation:g}",
                    f"{questions:,}",
                    *(f"{equal.rate(count):.1f}" for count in (equal.promoted, equal.broken["any"])),
                    *(f"{equal.rate(equal.broken[name]):.1f}" for name in GUARDS),
                    f"{limit.rate(limit.broken['any of a sample']):.1f}",
                    f"{effect:.1f}",
                    f"{100 - better.rate(better.promoted):.1f}",
                )
    return table


def _design(
    seeds: int, questions: int, deviation: float, effect: float, repetitions: int, random: Generator, *, is_noisy: bool
) -> tuple[Tally, Tally, Tally]:
    equal = tallied(decisions(pair_of(seeds, questions, deviation), random, repetitions, is_noisy=is_noisy))
    lost = pair_of(seeds, questions, deviation, gain=-100 * SETTINGS.max_family_loss)
    limit = tallied(decisions(lost, random, repetitions, harms=AT_THE_LIMITS, is_noisy=is_noisy))
    # an accuracy of 70 % leaves room for 30 points
    gained = pair_of(seeds, questions, deviation, gain=min(effect, 29.0))
    return equal, limit, tallied(decisions(gained, random, repetitions, is_noisy=is_noisy))


def one_training_each(numbers: list[int], repetitions: int, random: Generator) -> Table:
    """Return how often one training of a method is promoted over one training of an equal method."""
    table = Table(title="One training of each of two equal methods: promoted, %")
    table.add_column("sd of their difference, points", justify="right")
    for questions in numbers:
        table.add_column(f"{questions:,} questions", justify="right")
    for deviation in NOISES[3]:
        found = (tallied(decisions(pair_of(1, questions, deviation), random, repetitions)) for questions in numbers)
        table.add_row(f"{deviation:g}", *(f"{one.rate(one.promoted):.1f}" for one in found))
    return table


def main(words: list[str]) -> None:
    given = dict(word.partition("=")[::2] for word in words)
    repetitions, random = int(given.get("repetitions", "1000")), np.random.default_rng(int(given.get("random", "0")))
    numbers = [int(word) for word in given.get("questions", "100,300,1000").split(",")]
    seeds = [int(word) for word in given.get("seeds", "1,3").split(",")]
    console = Console(width=190)
    console.print(rates(numbers, seeds, repetitions, random))
    console.print(one_training_each(numbers, repetitions, random))


if __name__ == "__main__":
    main(sys.argv[1:])
