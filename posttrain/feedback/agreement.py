"""How far annotators agree: with each other, with the truth where it is known, and with themselves.

What is compared is the choice that an annotator made of a pair: its one, its other, or "equal". A soft label counts as what it
leans to, and several labels of one pair by one annotator as what their mean leans to. Which response of a pair is its "one" is
decided by digests (`posttrain.feedback.labels.in_fixed_order`), so that neither position nor quality makes one choice more
frequent than the other. What is undefined (nobody labelled a pair that another did, everybody said the same) is None, never 0.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Any

from posttrain.feedback.alpha import alpha_interval, krippendorff_alpha
from posttrain.feedback.labels import Label, Pair, by_pair, is_equal
from posttrain.records import Prompt
from posttrain.statistics.figures import mean
from posttrain.statistics.intervals import Interval, clustered_proportion, wilson

Choices = Mapping[Pair, Mapping[str, str]]
"""For each pair the choice of each annotator who labelled it: ONE, OTHER or EQUAL."""

ONE, OTHER, EQUAL = "one", "other", "equal"
SHOWN_CYCLES = 5
"""Cycles that a report shows; all are counted."""


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Agreement of two annotators beyond chance; 1 is perfect, 0 what chance gives.

        κ = (p_o - p_e) / (1 - p_e),   p_e = Σ_c p_1(c) p_2(c)

    Cohen 1960 (doi:10.1177/001316446002000104). p_o is the share of units on which both made one choice, p_1(c) the share of
    the first one's choices that are c.

    Args:
        first: choices of one annotator. (units,).
        second: those of the other on the same units. (units,).

    Returns:
        κ in [-1, 1]; None without units, or where both made one and the same choice throughout.

    Raises:
        ValueError: there are not equally many choices.
    """
    if len(first) != len(second):
        raise ValueError(f"first and second must have a choice for each unit, got {len(first)} and {len(second)}")
    count = len(first)
    if not count:
        return None
    observed = sum(a == b for a, b in zip(first, second, strict=True))
    shares = Counter(first), Counter(second)
    expected = sum(shares[0][choice] * shares[1][choice] for choice in shares[0])  # times count², so that it stays exact
    return None if expected == count**2 else (observed * count - expected) / (count**2 - expected)


def find_cycle(better: Mapping[str, Iterable[str]]) -> tuple[str, ...] | None:
    """Return the members of one cycle a > b > … > a, or None where there is none; by depth-first search.

    Args:
        better: for each text, those that it is better than.
    """
    finished: set[str] = set()
    for start in better:
        if start in finished:
            continue
        path, waiting = [start], [iter(better[start])]
        on_path = {start}
        while waiting:
            worse = next(waiting[-1], None)
            if worse is None:
                waiting.pop()
                on_path.discard(path[-1])
                finished.add(path.pop())
            elif worse in on_path:
                return tuple(path[path.index(worse) :])
            elif worse not in finished:
                path.append(worse)
                on_path.add(worse)
                waiting.append(iter(better.get(worse, ())))
    return None


@dataclass(frozen=True)
class Annotator:
    """One annotator's labels.

    Attributes:
        labels: how many.
        equals: of them, how many say that both are equally good.
        flip_rate: share of the pairs on which the annotator chose against gold; pairs that gold or the annotator finds equal are
            left out.
        against_gold: of how many pairs that is.
        dissent_rate: share of the pairs on which the annotator chose against the majority of the others, equals and even splits
            left out.
        against_others: of how many pairs that is.
        repeated: pairs labelled more than once.
        contradictions: of them, those labelled both ways.
        cycles: prompts in which the annotator's own choices go in a circle.
    """

    labels: int
    equals: int
    flip_rate: Interval | None
    against_gold: int
    dissent_rate: Interval | None
    against_others: int
    repeated: int
    contradictions: int
    cycles: int


@dataclass(frozen=True)
class KappaOfTwo:
    """How far two annotators agree on the pairs that both labelled."""

    first: str
    second: str
    pairs: int
    agreement: float
    kappa: float | None


@dataclass(frozen=True)
class Agreement:
    """What a store of labels says of its annotators.

    Attributes:
        labels: how many.
        pairs: different pairs of responses, whatever the order shown.
        prompts: different prompts.
        shared_pairs: pairs that two annotators or more labelled.
        equal_share: share of the labels that say "equal".
        agreement: chance that two annotators make one choice of a pair. Mean over the pairs of a prompt, then over prompts.
        seconded: chance that another annotator names the response which one has named the better; "equal" counts half. What a
            reward model's accuracy is measured on are such labels, so this is what stands beside it: two annotators who find
            most pairs equal agree, and have said nothing of which response is better.
        kappa: mean of the annotators' κ, two by two (Light 1971, doi:10.1037/h0031643).
        alpha: Krippendorff's.
        alpha_bounds: its interval, over the choice of prompts.
        kappas: κ of every two annotators who share a pair.
        contradictions: pairs that one annotator labelled both ways, over all annotators.
        cycles: prompts in which the means of all labels go in a circle.
        cycle_examples: (question, responses, each better than the next and the last better than the first), a few.
        annotators: each by name.
    """

    labels: int
    pairs: int
    prompts: int
    shared_pairs: int
    equal_share: float
    agreement: Interval | None
    seconded: Interval | None
    kappa: float | None
    alpha: float | None
    kappas: tuple[KappaOfTwo, ...]
    contradictions: int
    cycles: int
    cycle_examples: tuple[tuple[str, tuple[str, ...]], ...]
    annotators: Mapping[str, Annotator] = field(default_factory=dict)
    alpha_bounds: Interval | None = None

    def figures(self) -> dict[str, float]:
        """Return the figures that a stage reports; those that are undefined are left out."""
        told: dict[str, float | None] = {
            "pairs": self.pairs,
            "labels": self.labels,
            "annotators": len(self.annotators),
            "equal_share": self.equal_share,
            "shared_pairs": self.shared_pairs,
            "agreement": self.agreement.estimate if self.agreement else None,
            "agreement_low": self.agreement.low if self.agreement else None,
            "agreement_high": self.agreement.high if self.agreement else None,
            "seconded": self.seconded.estimate if self.seconded else None,
            "seconded_low": self.seconded.low if self.seconded else None,
            "seconded_high": self.seconded.high if self.seconded else None,
            "kappa": self.kappa,
            "alpha": self.alpha,
            "alpha_low": self.alpha_bounds.low if self.alpha_bounds else None,
            "alpha_high": self.alpha_bounds.high if self.alpha_bounds else None,
            "contradictions": self.contradictions,
            "cycles": self.cycles,
        }
        return {name: float(value) for name, value in told.items() if value is not None}


def agreement_of(labels: Sequence[Label]) -> Agreement:
    """Return how far the annotators of these labels agree.

    Raises:
        ValueError: there is no label.
    """
    if not labels:
        raise ValueError("labels must hold at least one label, got none")
    pooled = by_pair(labels)
    own: dict[str, dict[Pair, list[float]]] = {}
    for pair, given in pooled.items():
        for label, preference in given:
            own.setdefault(label.annotator, {}).setdefault(pair, []).append(preference)
    choices: dict[Pair, dict[str, str]] = {pair: {} for pair in pooled}
    for name in sorted(own):
        for pair, preferences in own[name].items():
            choices[pair][name] = _choice(mean(preferences))
    gold = _gold(pooled)
    annotators = {name: _annotator(name, own[name], choices, gold) for name in sorted(own)}
    kappas = _kappas(choices)
    defined = [two.kappa for two in kappas if two.kappa is not None]
    cycles = _cycles({pair: mean([preference for _, preference in given]) for pair, given in pooled.items()})
    question = {label.prompt: label.question for label in labels}
    return Agreement(
        labels=len(labels),
        pairs=len(pooled),
        prompts=len(question),
        shared_pairs=sum(len(given) > 1 for given in choices.values()),
        equal_share=sum(one.equals for one in annotators.values()) / len(labels),
        agreement=_raw_agreement(choices),
        seconded=_seconded(choices),
        kappa=mean(defined) if defined else None,
        alpha=krippendorff_alpha([tuple(given.values()) for given in choices.values()]),
        kappas=kappas,
        contradictions=sum(one.contradictions for one in annotators.values()),
        cycles=len(cycles),
        cycle_examples=tuple((question[prompt], texts) for prompt, texts in list(cycles.items())[:SHOWN_CYCLES]),
        annotators=annotators,
        alpha_bounds=alpha_interval(_by_prompt(choices)),
    )


def as_json(agreement: Agreement) -> dict[str, Any]:
    """Return everything as JSON values; what is undefined is null."""
    told = {name: getattr(agreement, name) for name in ("labels", "pairs", "prompts", "shared_pairs", "equal_share")}
    return {
        **told,
        "agreement": _interval(agreement.agreement),
        "seconded": _interval(agreement.seconded),
        "kappa": agreement.kappa,
        "alpha": agreement.alpha,
        "alpha_interval": _interval(agreement.alpha_bounds),
        "contradictions": agreement.contradictions,
        "cycles": agreement.cycles,
        "cycle_examples": [{"question": name, "responses": list(texts)} for name, texts in agreement.cycle_examples],
        "two_by_two": [vars(two) for two in agreement.kappas],
        "annotators": {
            name: {**vars(one), "flip_rate": _interval(one.flip_rate), "dissent_rate": _interval(one.dissent_rate)}
            for name, one in agreement.annotators.items()
        },
    }


def _interval(interval: Interval | None) -> dict[str, float] | None:
    return interval.as_dict() if interval else None


def _choice(preference: float) -> str:
    return EQUAL if is_equal(preference) else ONE if preference > 0.5 else OTHER


def _gold(pooled: Mapping[Pair, Sequence[tuple[Label, float]]]) -> dict[Pair, str]:
    """Return what gold chooses of each pair where it is known; gold is of the order shown, as the preference is."""
    told: dict[Pair, str] = {}
    for pair, given in pooled.items():
        known = [label.gold if label.first == pair.one else 1 - label.gold for label, _ in given if label.gold is not None]
        if known:
            told[pair] = _choice(mean(known))
    return told


def _share(hits: Mapping[Prompt, Sequence[float]]) -> Interval | None:
    """Return the share of hits, prompts being the independent draws; None without any."""
    if not hits:
        return None
    means = [mean(values) for values in hits.values()]
    return clustered_proportion(means) if len(means) > 1 else wilson(means[0], 1)


def _by_prompt(choices: Choices) -> list[list[tuple[str, ...]]]:
    found: dict[Prompt, list[tuple[str, ...]]] = {}
    for pair, given in choices.items():
        found.setdefault(pair.prompt, []).append(tuple(given.values()))
    return list(found.values())


def _raw_agreement(choices: Choices) -> Interval | None:
    hits: dict[Prompt, list[float]] = {}
    for pair, given in choices.items():
        both = [a == b for a, b in combinations(given.values(), 2)]
        if both:
            hits.setdefault(pair.prompt, []).append(sum(both) / len(both))
    return _share(hits)


def _seconded(choices: Choices) -> Interval | None:
    hits: dict[Prompt, list[float]] = {}
    for pair, given in choices.items():
        for named, other in permutations(given.values(), 2):
            if named != EQUAL:
                hits.setdefault(pair.prompt, []).append(0.5 if other == EQUAL else float(other == named))
    return _share(hits)


def _kappas(choices: Choices) -> tuple[KappaOfTwo, ...]:
    shared: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for given in choices.values():
        for (one, his), (other, hers) in combinations(given.items(), 2):
            shared.setdefault((one, other), []).append((his, hers))
    return tuple(
        KappaOfTwo(
            first=one,
            second=other,
            pairs=len(made),
            agreement=sum(a == b for a, b in made) / len(made),
            kappa=cohen_kappa([a for a, _ in made], [b for _, b in made]),
        )
        for (one, other), made in sorted(shared.items())
    )


def _annotator(name: str, own: Mapping[Pair, Sequence[float]], choices: Choices, gold: Mapping[Pair, str]) -> Annotator:
    flips: dict[Prompt, list[float]] = {}
    dissents: dict[Prompt, list[float]] = {}
    for pair in own:
        mine = choices[pair][name]
        for theirs, told in ((gold.get(pair, EQUAL), flips), (_majority(choices[pair], but=name), dissents)):
            if EQUAL not in (mine, theirs):
                told.setdefault(pair.prompt, []).append(float(mine != theirs))
    ways = [{_choice(preference) for preference in given} for given in own.values()]
    return Annotator(
        labels=sum(map(len, own.values())),
        equals=sum(_choice(preference) == EQUAL for given in own.values() for preference in given),
        flip_rate=_share(flips),
        against_gold=sum(map(len, flips.values())),
        dissent_rate=_share(dissents),
        against_others=sum(map(len, dissents.values())),
        repeated=sum(len(given) > 1 for given in own.values()),
        contradictions=sum({ONE, OTHER} <= each for each in ways),
        cycles=len(_cycles({pair: mean(given) for pair, given in own.items()})),
    )


def _majority(given: Mapping[str, str], *, but: str) -> str:
    """Return what most of the others chose; EQUAL where they are split evenly, or there are none."""
    others = Counter(choice for name, choice in given.items() if name != but)
    return ONE if others[ONE] > others[OTHER] else OTHER if others[OTHER] > others[ONE] else EQUAL


def _cycles(preferences: Mapping[Pair, float]) -> dict[Prompt, tuple[str, ...]]:
    """Return one cycle of each prompt that has any."""
    graphs: dict[Prompt, dict[str, list[str]]] = {}
    for pair, preference in preferences.items():
        if not is_equal(preference):
            better, worse = (pair.one, pair.other) if preference > 0.5 else (pair.other, pair.one)
            graphs.setdefault(pair.prompt, {}).setdefault(better, []).append(worse)
    found = {prompt: find_cycle(graph) for prompt, graph in graphs.items()}
    return {prompt: cycle for prompt, cycle in found.items() if cycle}
