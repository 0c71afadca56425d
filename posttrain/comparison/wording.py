"""What a comparison says in words: an amount with its unit, each pair's verdict, and the sentence that stands first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.printable import counted

ONE_SEED = "one seed: this speaks of {these}, not of {methods}"
COVERS_SEEDS = (
    "{confidence} % intervals cover the choice of held-out questions and of training seeds. The interval that is drawn pools the "
    "variance between seeds over all {methods}; the one that decides takes the pair's own where that is larger."
)
"""Designs 4 and 5 of posttrain/statistics/comparisons.py."""
COVERS_QUESTIONS = (
    "{confidence} % intervals cover the choice of held-out questions only: one seed says nothing of another run of the training."
)


@dataclass(frozen=True)
class Unit:
    """How values of a metric are written.

    Attributes:
        scale: what a value is multiplied by.
        form: of the number, for `format`.
        name: behind a number, in the plural.
    """

    scale: float
    form: str
    name: str

    def number(self, value: float, *, sign: bool = False) -> str:
        """Return a value without its unit: "31.2", or "+31.2"; never "-0.0"."""
        text = format(self.scale * value, ("+" if sign else "") + self.form)
        is_zero = not any(digit in text for digit in "123456789")
        return text.replace("-", "+" if sign else "") if is_zero else text

    def amount(self, value: float, *, sign: bool = False) -> str:
        """Return a value with its unit: "31.2 points"."""
        return f"{self.number(value, sign=sign)} {self.name}"


UNITS = {"share": Unit(100.0, ".1f", "points"), "nats": Unit(1.0, ".3f", "nats"), "score": Unit(1.0, ".4g", "score units")}
"""By `Design.unit`."""


@dataclass(frozen=True)
class Voice:
    """What every sentence of one comparison needs to know.

    Attributes:
        unit: of the metric.
        titles: of the methods, by name.
        reference: name of the method that the others are compared with.
        margin: δ, in the metric's unit.
        is_one_seed: no method has a second seed.
        of_logs: the comparison is of other tools' systems.
    """

    unit: Unit
    titles: Mapping[str, str]
    reference: str
    margin: float
    is_one_seed: bool
    of_logs: bool = False

    @property
    def kind(self) -> str:
        """What is compared, in the plural."""
        return "systems" if self.of_logs else "methods"

    @property
    def within(self) -> str:
        """The margin in words: "within ±2.0 points"."""
        return f"within ±{self.unit.amount(self.margin)}"


def covers(*, seeds: int, confidence: float, voice: Voice) -> str:
    """Return what the intervals cover."""
    return (COVERS_SEEDS if seeds > 1 else COVERS_QUESTIONS).format(confidence=f"{100 * confidence:g}", methods=voice.kind)


def pair_words(pair: Mapping[str, Any], voice: Voice) -> str:
    """Return a pair's verdict as a person says it; `pair` is that of the record, without its words."""
    say = WORDS[pair["verdict"]](pair, voice)
    if len(pair["seeds"]) == 1:
        say += f" ({ONE_SEED.format(these='these two models', methods=voice.kind)})"
    return say


def _better(pair: Mapping[str, Any], voice: Voice) -> str:
    return f"better by at least {voice.unit.amount(max(pair['low_decides'], 0.0))}"


def _worse(pair: Mapping[str, Any], voice: Voice) -> str:
    return f"worse by at least {voice.unit.amount(max(-pair['high_decides'], 0.0))}"


def _equal(_: Mapping[str, Any], voice: Voice) -> str:
    return voice.within


def _undecided(pair: Mapping[str, Any], voice: Voice) -> str:
    return f"not told apart{_seen(pair, voice)}"


def _disagree(pair: Mapping[str, Any], voice: Voice) -> str:
    by_value = sorted(pair["per_seed"], key=lambda one: float(one["estimate"]))
    low, high = by_value[0], by_value[-1]
    return (
        f"the seeds disagree: {voice.unit.number(high['estimate'], sign=True)} on seed {high['seed']}, "
        f"{voice.unit.number(low['estimate'], sign=True)} on seed {low['seed']}{_seen(pair, voice)}"
    )


def _seen(pair: Mapping[str, Any], voice: Voice) -> str:
    """Return what this design can see, and what would show more."""
    if pair["smallest_effect"] is None:
        return ""
    text = f"; {_sees(pair['smallest_effect'], voice)}"
    effects: dict[float, list[Mapping[str, Any]]] = {}
    for need in pair["needs"]:
        effects.setdefault(need["effect"], []).append(need)
    if effects:
        # the first takes the fewest questions, the last the fewest seeds
        effect, every = next(iter(effects.items()))
        needs = every if len(every) == 1 else [every[0], every[-1]]
        ways = " or ".join(f"{counted(one['seeds'], 'seed')} and {counted(one['questions'], 'question')}" for one in needs)
        text += f", an effect of {voice.unit.amount(effect)} would need {ways}"
    return text


def _is_beyond_sight(effect: float, voice: Voice) -> bool:
    return voice.unit is UNITS["share"] and effect >= 1


def _sees(effect: float, voice: Voice) -> str:
    """Return the smallest effect that this design sees; shares differ by 1 at most, so a larger one is never seen."""
    if _is_beyond_sight(effect, voice):
        return "this design sees no effect, however large"
    return f"this design sees {voice.unit.amount(effect)}"


def _sees_of_all(effects: Sequence[float], voice: Voice) -> str:
    """Return the smallest effects that this design sees, of several pairs, and whether some see none."""
    seen = [effect for effect in effects if not _is_beyond_sight(effect, voice)]
    if not seen:
        return _sees(max(effects), voice)
    least, most = voice.unit.number(min(seen)), voice.unit.number(max(seen))
    told = _sees(max(seen), voice) if least == most else f"this design sees {least} to {voice.unit.amount(max(seen))}"
    return told if len(seen) == len(effects) else f"{told}, and for some of them no difference, however large"


WORDS = {"better": _better, "worse": _worse, "equal": _equal, "undecided": _undecided, "disagree": _disagree}
"""By verdict."""


def verdict_sentence(pairs: Sequence[Mapping[str, Any]], voice: Voice) -> str:
    """Return the result of a comparison in one sentence: who leads, by how much over the reference, and who is not told apart.

    Args:
        pairs: of the record, all families.
        voice: of this comparison.
    """
    families = {name: [one for one in pairs if one["family"] == name] for name in ("reference", "best")}
    if not pairs:
        return f"Only {voice.titles[voice.reference]} has results, so there is nothing to compare."
    if len(families["reference"]) == 1:
        parts = [_of_two(families["reference"][0], voice)]
    else:
        parts = _of_many(families["reference"], families["best"], voice)
    if voice.is_one_seed:
        parts.append(ONE_SEED.format(these="these models", methods=voice.kind))
    return "; ".join(parts) + "."


def _of_two(pair: Mapping[str, Any], voice: Voice) -> str:
    """Return the sentence on the only pair."""
    a, b, gain = voice.titles[pair["a"]], voice.titles[pair["b"]], _gain(pair, voice)
    say = {
        "better": f"{a} is better than {b}: {gain}, at least {_least(pair, voice)}",
        "worse": f"{a} is worse than {b}: {gain}, {_worse(pair, voice)}",
        "equal": f"{a} and {b} do equally well: {gain}, {voice.within}",
        "undecided": f"{a} and {b} are not told apart: {gain}{_seen(pair, voice)}",
        "disagree": f"{a} and {b} are not told apart: {gain}; {_disagree(pair, voice)}",
    }
    return say[pair["verdict"]]


def _of_many(over: Sequence[Mapping[str, Any]], rest: Sequence[Mapping[str, Any]], voice: Voice) -> list[str]:
    """Return the parts of the sentence on three methods or more.

    Args:
        over: each with the reference.
        rest: the best with each.
        voice: of this comparison.
    """
    leader, reference = rest[0]["a"], voice.titles[voice.reference]
    others = [one for one in rest if voice.reference not in (one["b"], one["a"])]
    among = f"of {len(over) + 1} {voice.kind}"
    if leader == voice.reference:
        others = list(rest)
        is_best = all(one["verdict"] == "better" for one in rest)
        found = "is the best" if is_best else "has the highest mean"
        parts = [f"No {voice.kind[:-1]} is better than {reference}, the reference, which {found} {among}"]
    else:
        gain = next(one for one in over if one["a"] == leader)
        name, amounts = voice.titles[leader], _gain(gain, voice, over=reference)
        if gain["verdict"] == "better":
            is_best = all(one["verdict"] == "better" for one in others)
            found = "is the best" if is_best else "has the highest mean"
            parts = [f"{name} {found} {among}: {amounts}, at least {_least(gain, voice)}"]
        else:
            parts = [f"{name} has the highest mean {among} but is not told apart from {reference}: {amounts}{_seen(gain, voice)}"]
            if gain["verdict"] == "equal":
                parts = [f"{name} has the highest mean {among} and does as well as {reference}: {amounts}, {voice.within}"]
            winners = [voice.titles[one["a"]] for one in over if one["verdict"] == "better"]
            parts += [f"better than {reference}: {_listed(winners)}"] if winners else []
    return parts + _alike(others, voice)


def _alike(others: Sequence[Mapping[str, Any]], voice: Voice) -> list[str]:
    """Return who is not told apart from the leader, and who does equally well."""
    parts = []
    alike = [one for one in others if one["verdict"] in ("undecided", "disagree")]
    if alike:
        sees = [one["smallest_effect"] for one in alike if one["smallest_effect"] is not None]
        seen = f" ({_sees_of_all(sees, voice)})" if sees else ""
        parts.append(f"not told apart from {_listed([voice.titles[one['b']] for one in alike])}{seen}")
    equal = [voice.titles[one["b"]] for one in others if one["verdict"] == "equal"]
    return [*parts, f"{voice.within} of {_listed(equal)}"] if equal else parts


def _gain(pair: Mapping[str, Any], voice: Voice, *, over: str = "") -> str:
    """Return a difference with the interval that is drawn: "+31.2 points over SFT [27.9, 34.4]"."""
    low, high = (voice.unit.number(pair[name], sign=True) for name in ("low", "high"))
    return f"{voice.unit.amount(pair['estimate'], sign=True)}{f' over {over}' if over else ''} [{low}, {high}]"


def _least(pair: Mapping[str, Any], voice: Voice) -> str:
    return voice.unit.number(max(0.0, pair["low_decides"]), sign=True)


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    comma = "; " if any("," in name for name in names) else ", "  # "RLAIF, direct" is one method
    return f"{comma.join(first)} and {last}" if first else last
