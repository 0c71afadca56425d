"""What a judge is asked of pairs of responses, and the labels that become of its answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from posttrain.feedback.labels import Label
from posttrain.feedback.shown_pairs import Pair
from posttrain.judges.opinions import Inquiry, Opinion, beats, both_orders, inquiry, shown
from posttrain.judges.quality import JudgedPair
from posttrain.judges.templates import Template
from posttrain.settings.judge import JudgeSettings
from tasks.judges.interface import Judge
from tasks.workspace.progress import bar
from tasks.workspace.quiet import quiet_libraries


@dataclass(frozen=True)
class Answered:
    """A pair with what the judge said of it: an opinion of each order, or of each response."""

    pair: Pair
    opinions: tuple[Opinion, ...]
    judged: JudgedPair


def ask_judge(judge: Judge, pairs: Sequence[Pair], template: Template, settings: JudgeSettings) -> list[Answered]:
    """Return the pairs with the judge's opinions; those that the budget did not reach are left out."""
    inquiries = [_inquiries(pair, template, reasoning=settings.reasoning) for pair in pairs]
    together = [one for both in inquiries for one in both]
    with quiet_libraries(), bar("judge", len(set(together))) as advance:
        answers = iter(judge.ask(together, advance=lambda replies: advance(replies, "")))
    told = [(pair, [next(answers) for _ in both]) for pair, both in zip(pairs, inquiries, strict=True)]
    reached = [(pair, tuple(one for one in given if one)) for pair, given in told if all(given)]
    return [Answered(pair=pair, opinions=given, judged=_judged(pair, given, template)) for pair, given in reached]


def _inquiries(pair: Pair, template: Template, *, reasoning: bool) -> tuple[Inquiry, Inquiry]:
    """Return what is asked of a pair: it in both orders, or each response by itself."""
    prompt = shown(pair.question.prompt)
    if template.name == "pairwise":
        return (
            inquiry(template, reasoning=reasoning, prompt=prompt, first=pair.first, second=pair.second),
            inquiry(template, reasoning=reasoning, prompt=prompt, first=pair.second, second=pair.first),
        )
    return (
        inquiry(template, reasoning=reasoning, prompt=prompt, response=pair.first),
        inquiry(template, reasoning=reasoning, prompt=prompt, response=pair.second),
    )


def _judged(pair: Pair, opinions: Sequence[Opinion], template: Template) -> JudgedPair:
    one, other = (opinion.shares for opinion in opinions)
    preference = forward = backward = None
    if one and other and template.name == "pairwise":
        forward, backward = one[0], other[0]
        preference = both_orders(forward, backward)
    elif one and other:
        preference = beats(one, other, list(template.options.values()))
    return JudgedPair(
        question=pair.question.id,
        first_length=len(pair.first),
        second_length=len(pair.second),
        preference=preference,
        forward=forward,
        backward=backward,
        entropies=tuple(opinion.entropy for opinion in opinions if opinion.shares),
        masses=tuple(opinion.mass for opinion in opinions),
        gold=pair.gold,
    )


def labels_of(answered: Sequence[Answered], *, judge: str, template: Template) -> list[Label]:
    """Return a soft label for each pair whose answers could be read."""
    return [
        Label(
            id=f"{one.pair.question.id}-judge-{number}",
            family=one.pair.question.family,
            prompt=one.pair.question.prompt,
            question=one.pair.question.id,
            group=one.pair.question.id,
            first=one.pair.first,
            second=one.pair.second,
            preference=min(1.0, max(0.0, one.judged.preference)),
            annotator=judge,
            source="judge",
            at=max(opinion.at for opinion in one.opinions),
            prompt_version=template.digest,
            first_model=one.pair.first_model,
            second_model=one.pair.second_model,
            gold=one.pair.gold,
            first_finished=one.pair.first_finished,
            second_finished=one.pair.second_finished,
        )
        for number, one in enumerate(answered)
        if one.judged.preference is not None
    ]
