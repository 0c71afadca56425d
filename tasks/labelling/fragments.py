"""What the page is made of: the whole of it, and the part that each answer brings anew. One template makes both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from posttrain.labelling.differences import Span, differing
from posttrain.labelling.items import Kind, Shown
from posttrain.labelling.progress import Progress
from posttrain.records import Prompt
from posttrain.statistics.intervals import Interval
from tasks.labelling.markup import as_text, clean, from_markdown, line_of
from tasks.pages.theme import css_variables

PAGE = Path(__file__).parent / "page"
TASKS: Mapping[Kind, str] = {
    "pair": "Which answer is better?",
    "ranking": "Put the answers in order, best first",
    "rating": "How good is the answer?",
}
ROLES = {"system": "Instructions to the model", "user": "User", "assistant": "Model", "tool": "Tool"}
RATINGS = ("bad", "weak", "fair", "good", "excellent")
"""What the ratings 1 to 5 mean in one word each."""


@dataclass(frozen=True)
class Judged:
    """What the judge said of the item that was answered last.

    Attributes:
        place: of the answer that it prefers, as the person saw them, from 1; 0: it finds them equal.
        probability: that this answer is better, as the judge says; in [0.5, 1].
        own: place that the person chose, 0 for equal.
    """

    place: int
    probability: float
    own: int


def judged(verdict: float, order: Sequence[int], choice: float) -> Judged:
    """Return a judge's verdict in the order in which the person saw the two answers.

    Args:
        verdict: probability that the first response of the item is better.
        order: numbers of the responses as shown.
        choice: of the person: 1, 0 or 0.5 that the first shown is better.
    """
    of_first_shown = verdict if order[0] == 0 else 1 - verdict
    place = 0 if of_first_shown == 0.5 else 1 if of_first_shown > 0.5 else 2
    return Judged(place, max(of_first_shown, 1 - of_first_shown), {1.0: 1, 0.0: 2}.get(choice, 0))


@dataclass(frozen=True)
class Answer:
    """An answer as the template shows it.

    Attributes:
        text: as HTML, differences marked.
        is_empty: whether nothing can be seen of it.
        is_cut: whether it ended at the limit of its length.
    """

    text: Markup
    is_empty: bool
    is_cut: bool


@lru_cache(maxsize=1024)
def _differing(first: str, second: str) -> tuple[tuple[Span, ...], tuple[Span, ...]] | None:
    """Return where two texts differ; an item is shown to several people, and again after an undo."""
    spans = differing(first, second)
    return spans and (tuple(spans[0]), tuple(spans[1]))


def _answers(shown: Shown) -> tuple[list[Answer], bool]:
    """Return the answers in the order shown, and whether what differs between them is marked."""
    texts = [clean(response.text) for response in shown.responses]
    spans = _differing(texts[0], texts[1]) if shown.item.kind == "pair" else None
    marks = spans or [()] * len(texts)
    answers = [
        Answer(as_text(text, marked), not text.strip(), response.finished is False)
        for text, response, marked in zip(texts, shown.responses, marks, strict=True)
    ]
    return answers, spans is not None


def _turns(prompt: Prompt) -> list[tuple[str, Markup]]:
    """Return the messages of a prompt with who said each; a prompt that is text has nobody."""
    if isinstance(prompt, str):
        return [("", as_text(prompt))]
    return [(ROLES[message.role], as_text(message.content)) for message in prompt]


def _percent(interval: Interval | None) -> str:
    """Return an interval in words, "" for none."""
    if interval is None:
        return ""
    return f"{interval.estimate:.0%} (95 % interval {interval.low:.0%} to {interval.high:.0%})"


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(line=line_of, percent=_percent)
    return environment


def _rendered(template: str, **given: Any) -> str:
    # half a character cannot be sent: what is no text of a prompt or an answer went through `line`
    text: str = _templates().get_template(template).render(**given)
    return text


def item_fragment(kind: Kind, shown: Shown | None, progress: Progress, *, is_over: bool, verdict: Judged | None = None) -> str:
    """Return what is new after each answer, as HTML: progress, and the item or that nothing is left.

    Args:
        kind: what the batch asks.
        shown: the item; None: nothing is left for this person now.
        progress: of this person and of the batch.
        is_over: whether the whole batch has its answers.
        verdict: of the judge on the item before; None where it is not shown.
    """
    answers, is_marked = _answers(shown) if shown else ([], False)
    return _rendered(
        "item.html.j2",
        kind=kind,
        shown=shown,
        turns=_turns(shown.item.prompt) if shown else [],
        answers=answers,
        is_marked=is_marked,
        progress=progress,
        is_over=is_over,
        judged=verdict,
    )


def page(
    kind: Kind, *, person: str, dataset: str, instructions: str, csrf: str, shown: Shown | None, progress: Progress, is_over: bool
) -> str:
    """Return the whole page of one person.

    Args:
        kind: what the batch asks.
        person: name of who labels.
        dataset: whose prompts these are.
        instructions: Markdown.
        csrf: token that each request of this page must bring.
        shown: the item; None: nothing is left for this person now.
        progress: of this person and of the batch.
        is_over: whether the whole batch has its answers.
    """
    return _rendered(
        "page.html.j2",
        kind=kind,
        task=TASKS[kind],
        ratings=RATINGS,
        person=person,
        dataset=dataset,
        instructions=from_markdown(instructions),
        csrf=csrf,
        turn=shown.turn if shown else "",
        fragment=Markup(item_fragment(kind, shown, progress, is_over=is_over)),  # the template above escaped it
    )


def door(title: str, lines: Sequence[str]) -> str:
    """Return a page that says why nobody gets in, or what is broken, and what to do.

    Args:
        title: in a few words.
        lines: one paragraph each.
    """
    return _rendered("door.html.j2", title=title, lines=lines)


def style() -> str:
    """Return the page's CSS, in the colours that our other pages have."""
    light, dark = css_variables()
    return (
        f":root{{color-scheme:light dark;{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f"{(PAGE / 'page.css').read_text(encoding='utf-8')}"
    )


def script() -> str:
    """Return the page's JavaScript."""
    return (PAGE / "page.js").read_text(encoding="utf-8")
